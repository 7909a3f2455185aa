"""The real skopeo against real registries and layouts, all on this machine."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from bundler.archive.oci import read_layout, write_oci_archive
from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    DeniedError,
    NotFoundError,
    WorldError,
)
from bundler.process import run
from bundler.reference import ImageTag
from bundler.source import LayoutSource, RegistrySource
from bundler.tools import skopeo as skopeo_module
from bundler.tools.skopeo import Skopeo
from tests.integration.release_inputs import write_index_layout, write_layout
from tests.rehearsal.registry import Registry, registry

SKOPEO = Skopeo()
COPY = ("skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false")
ABSENT = Digest.of(b"absent")


@pytest.fixture(autouse=True, scope="module")
def tools(need: Callable[[str], str]) -> None:
    need("skopeo")
    need("docker-registry")


@pytest.fixture(scope="module")
def plain(tools: None) -> Iterator[Registry]:
    with registry() as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tools: None) -> Iterator[Registry]:
    with registry(tls=True, auth=True) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with no login, in whose home skopeo looks for authorities."""
    place = tmp_path / "user"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    for name in ("XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.fixture
def cert_dir(guarded: Registry, home: Path) -> Path:
    """Where the user has the registry's authority."""
    return trust(guarded, home, guarded.address)


def trust(server: Registry, home: Path, address: str) -> Path:
    assert server.ca_file is not None
    directory = home / ".config" / "containers" / "certs.d" / address
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(server.ca_file.read_bytes())
    return directory


def push_docker_typed(layout: Path, address: str, repository: str) -> None:
    """Push an image in Docker's own manifest format, as `docker push` does."""
    subprocess.run(
        [
            "skopeo",
            "copy",
            "--quiet",
            "--all",
            "--format=v2s2",
            "--dest-tls-verify=false",
            f"oci:{layout}:1.0.0",
            f"docker://{address}/{repository}:1",
        ],
        check=True,
    )


def archive_of(directory: Path) -> tuple[Path, Digest]:
    """Write an OCI archive of ours."""
    digest = write_layout(directory / "pushed", text="pushed")
    archive = directory / "pushed__1.0.0.tar"
    layout = read_layout(directory / "pushed")
    write_oci_archive(directory / "pushed", layout, ImageTag("pushed", "1.0.0"), archive, mtime=0)
    return archive, digest


def push(archive: Path, server: Registry, repository: str, scratch: Path) -> Digest:
    return SKOPEO.push(
        archive, f"{server.address}/{repository}:1", plain_http=True, scratch=scratch
    )


def test_this_skopeo_is_new_enough() -> None:
    SKOPEO.require()


@pytest.mark.parametrize("write", [write_layout, write_index_layout])
def test_a_layout_is_fetched_with_its_digest(write: Callable[..., Digest], tmp_path: Path) -> None:
    digest = write(tmp_path / "source", text="x")
    source = LayoutSource(str(tmp_path / "source"), "1.0.0")
    resolved = SKOPEO.resolve(source)
    assert (resolved.digest, resolved.docker_typed) == (digest, False)
    assert resolved.size >= sum(
        path.stat().st_size for path in (tmp_path / "source" / "blobs" / "sha256").iterdir()
    )
    fetched = SKOPEO.fetch(source, tmp_path / "fetched")
    assert fetched.source_digest == fetched.digest == digest
    assert read_layout(tmp_path / "fetched").digest == digest


def test_an_image_survives_registry_and_back(plain: Registry, tmp_path: Path) -> None:
    archive, digest = archive_of(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert push(archive, plain, "survivor", scratch) == digest
    assert list(scratch.iterdir()) == []
    source = RegistrySource(f"{plain.address}/survivor", "1")
    resolved = SKOPEO.resolve(source, plain_http=True)
    assert resolved.digest == digest
    pinned = source.at(resolved.digest)
    fetched = SKOPEO.fetch(pinned, tmp_path / "fetched", plain_http=True)
    assert fetched.digest == digest
    blobs = tmp_path / "fetched" / "blobs" / "sha256"
    assert resolved.size == sum(path.stat().st_size for path in blobs.iterdir())


def test_an_image_for_two_platforms_keeps_both(plain: Registry, tmp_path: Path) -> None:
    digest = write_index_layout(tmp_path / "two", text="two")
    subprocess.run(
        [
            "skopeo",
            "copy",
            "--quiet",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
            f"oci:{tmp_path / 'two'}:1.0.0",
            f"docker://{plain.address}/two:1",
        ],
        check=True,
    )
    source = RegistrySource(f"{plain.address}/two", "1")
    fetched = SKOPEO.fetch(source, tmp_path / "fetched", plain_http=True)
    layout = read_layout(tmp_path / "fetched")
    assert fetched.digest == layout.digest == digest
    assert layout.platforms == ("linux/amd64", "linux/arm64")
    blobs = tmp_path / "fetched" / "blobs" / "sha256"
    size = SKOPEO.resolve(source, plain_http=True).size
    assert size == sum(path.stat().st_size for path in blobs.iterdir())


def test_a_tag_that_moves_meanwhile_does_not_change_what_is_fetched(
    plain: Registry, tmp_path: Path
) -> None:
    first = write_layout(tmp_path / "first", text="first")
    write_layout(tmp_path / "x", text="x")
    name = f"{plain.address}/moving:1"

    def tag(layout: str) -> None:
        source = f"oci:{tmp_path / layout}:1.0.0"
        run([*COPY, "--preserve-digests", source, f"docker://{name}"])

    def moving(
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        limit: int = 0,
    ) -> str:
        said = run(argv, stdin=stdin, env=env, timeout=timeout)
        tag("x")
        return said

    tag("first")
    source = RegistrySource(f"{plain.address}/moving", "1")
    fetched = Skopeo(run=moving).fetch(source, tmp_path / "fetched", plain_http=True)
    assert fetched.source_digest == fetched.digest == first


@pytest.mark.parametrize("write", [write_layout, write_index_layout])
def test_a_docker_typed_image_becomes_oci_and_both_digests_are_told(
    write: Callable[..., Digest], plain: Registry, tmp_path: Path
) -> None:
    write(tmp_path / "source", text="docker")
    repository = f"docker-{write.__name__.replace('_', '-')}"
    push_docker_typed(tmp_path / "source", plain.address, repository)
    source = RegistrySource(f"{plain.address}/{repository}", "1")
    resolved = SKOPEO.resolve(source, plain_http=True)
    assert resolved.docker_typed
    fetched = SKOPEO.fetch(source, tmp_path / "fetched", plain_http=True)
    layout = read_layout(tmp_path / "fetched")
    assert fetched.source_digest == resolved.digest != fetched.digest
    assert layout.digest == fetched.digest
    assert layout.media_type.startswith("application/vnd.oci.image.")
    again = SKOPEO.fetch(source, tmp_path / "again", plain_http=True)
    assert again == fetched


def test_certificates_and_credentials_are_used(
    guarded: Registry, cert_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, digest = archive_of(tmp_path)
    pushed = SKOPEO.push(
        archive,
        f"{guarded.address}/guarded:1",
        authfile=guarded.authfile,
        cert_dir=cert_dir,
        scratch=tmp_path,
    )
    assert pushed == digest
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(guarded.authfile))
    source = RegistrySource(f"{guarded.address}/guarded", "1")
    assert SKOPEO.resolve(source).digest == digest
    assert SKOPEO.fetch(source, tmp_path / "fetched").digest == digest


def test_a_missing_image_is_named(plain: Registry, tmp_path: Path) -> None:
    for source in (
        RegistrySource(f"{plain.address}/none", "1"),
        RegistrySource(f"{plain.address}/none", None, ABSENT),
        LayoutSource(str(tmp_path / "nowhere"), "1"),
    ):
        with pytest.raises(NotFoundError, match=re.escape(f"{source}: expected an ")) as found:
            SKOPEO.resolve(source, plain_http=True)
        assert_one_line(found.value)


def test_a_missing_tag_of_a_layout_is_named(tmp_path: Path) -> None:
    write_layout(tmp_path / "source", text="x")
    source = LayoutSource(str(tmp_path / "source"), "2")
    with pytest.raises(NotFoundError, match=re.escape(str(source))):
        SKOPEO.fetch(source, tmp_path / "fetched")


def test_an_unreachable_registry_is_named(tmp_path: Path) -> None:
    source = RegistrySource("127.0.0.1:1/none", "1")
    with pytest.raises(WorldError, match=r"127\.0\.0\.1:1/none:1: .*cannot be reached") as found:
        SKOPEO.fetch(source, tmp_path / "fetched", plain_http=True)
    assert_one_line(found.value)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_registry_is_waited_for_a_while_and_named(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert skopeo_module._INSPECT_SECONDS == 120
    monkeypatch.setattr(skopeo_module, "_INSPECT_SECONDS", 0.5)
    source = RegistrySource(f"{silent}/vendor/atlas", "1")
    said = rf"docker://{silent}/vendor/atlas:1: no answer: skopeo did not end within 0\.5 s"
    with pytest.raises(WorldError, match=said) as found:
        SKOPEO.resolve(source)
    assert found.value.exit_status == 9
    assert_one_line(found.value)


def test_a_registry_that_does_not_know_us_is_told_so(
    guarded: Registry, cert_dir: Path, tmp_path: Path
) -> None:
    source = RegistrySource(f"{guarded.address}/guarded", "1")
    with pytest.raises(DeniedError, match="does not let us") as found:
        SKOPEO.resolve(source)
    for way in ("skopeo login", "docker login", "REGISTRY_AUTH_FILE", "credential helpers"):
        assert way in (found.value.hint or "")
    archive, _ = archive_of(tmp_path)
    with pytest.raises(DeniedError, match=re.escape(guarded.address)) as found:
        SKOPEO.push(archive, f"{guarded.address}/x:1", cert_dir=cert_dir, scratch=tmp_path)
    for way in ("--registry-user", "registry.authFile"):
        assert way in (found.value.hint or "")


@pytest.mark.usefixtures("cert_dir")
def test_a_wrong_password_is_not_repeated_in_the_error(
    guarded: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "auth.json"
    wrong.write_text(json.dumps({"auths": {guarded.address: {"auth": "dXNlcjpzM2NyM3Q="}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(wrong))
    with pytest.raises(DeniedError) as found:
        SKOPEO.resolve(RegistrySource(f"{guarded.address}/guarded", "1"))
    assert "s3cr3t" not in str(found.value)
    assert "dXNl" not in str(found.value)


def test_a_certificate_of_another_host_is_told_apart(guarded: Registry, home: Path) -> None:
    other = guarded.address.replace(guarded.host, "localhost")
    trust(guarded, home, other)
    with pytest.raises(WorldError, match="certificate is of another host"):
        SKOPEO.resolve(RegistrySource(f"{other}/vendor/x", "1"))


def test_an_untrusted_certificate_is_told_apart(guarded: Registry) -> None:
    with pytest.raises(WorldError, match="TLS failed") as found:
        SKOPEO.resolve(RegistrySource(f"{guarded.address}/guarded", "1"))
    assert "certs.d" in (found.value.hint or "")


def test_plain_http_is_spoken_only_where_it_is_allowed(plain: Registry) -> None:
    with pytest.raises(WorldError, match="expected TLS, got plain HTTP") as found:
        SKOPEO.resolve(RegistrySource(f"{plain.address}/none", "1"))
    assert "plainHttp" in (found.value.hint or "")


def test_a_path_that_skopeo_would_misread_is_refused(tmp_path: Path) -> None:
    write_layout(tmp_path / "source", text="x")
    source = LayoutSource(str(tmp_path / "source"), "1.0.0")
    with pytest.raises(WorldError, match="':'"):
        SKOPEO.fetch(source, tmp_path / "a:b")


def assert_one_line(error: BundleError) -> None:
    assert "\n" not in str(error)
    assert error.hint
