"""The script in the bundle that brings images to a registry: with stock programs, any registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rehearsal.registry import Registry
from tests.rehearsal.registry import registry as start_registry

SCRIPT = Path(__file__).parents[2] / "scripts" / "upload_images.sh"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PROGRAMS = ("bash", "skopeo", "tail", "tr", "sha256sum", "mktemp", "rm")


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def write_image(path: Path, content: bytes, *, compress: bool = True) -> str:
    """Write an OCI archive with one layer and give the digest of its manifest."""
    plain = tar({"content": content})
    layer, kind = (gzip.compress(plain, mtime=0), "tar+gzip") if compress else (plain, "tar")
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
        }
    ).encode()

    def descriptor(name: str, blob: bytes) -> dict[str, object]:
        media_type = f"application/vnd.oci.image.{name}"
        return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("config.v1+json", config),
            "layers": [descriptor(f"layer.v1.{kind}", layer)],
        }
    ).encode()
    index = {"schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", manifest)]}
    blobs = {f"blobs/sha256/{digest(b)[7:]}": b for b in (layer, config, manifest)}
    layout = b'{"imageLayoutVersion":"1.0.0"}'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar({**blobs, "index.json": json.dumps(index).encode(), "oci-layout": layout}))
    return digest(manifest)


@pytest.fixture(scope="module")
def registry(need: Callable[[str], str]) -> Iterator[Registry]:
    need("docker-registry")
    with start_registry() as server:
        yield server


@pytest.fixture
def bundle(need: Callable[[str], str], tmp_path: Path) -> Path:
    """Give the root of a bundle with the script in its place."""
    need("skopeo")
    root = tmp_path / "bundle"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, root / "scripts")
    (tmp_path / "scratch").mkdir()
    return root


def variables(bundle: Path, **more: str) -> dict[str, str]:
    scratch = {"TMPDIR": str(bundle.parent / "scratch")}
    return {"PATH": os.environ["PATH"], "HOME": str(bundle.parent / "home")} | scratch | more


def upload(bundle: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script on plain HTTP unless ``more`` says otherwise; it must leave no scratch."""
    done = subprocess.run(
        [shutil.which("bash") or "bash", "./scripts/upload_images.sh", *arguments],
        cwd=bundle,
        env=variables(bundle, **({"UPLOAD_TLS_VERIFY": "false"} | more)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not list((bundle.parent / "scratch").iterdir())
    return done


def digest_at(registry: Registry, name: str, tag: str) -> str | None:
    request = urllib.request.Request(
        f"{registry.url}/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST}
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return digest(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 404:
                raise
        return None


def test_every_archive_arrives_under_its_name_and_tag_with_its_digest(
    bundle: Path, registry: Registry
) -> None:
    atlas = write_image(bundle / "containers" / "atlas__1.0.tar", b"atlas")
    docs = write_image(bundle / "containers" / "site" / "public-docs__a__b.tar", b"docs")
    done = upload(bundle, f"{registry.address}/arrives")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"pushed    {registry.address}/arrives/atlas:1.0  {atlas}",
        f"pushed    {registry.address}/arrives/public-docs:a__b  {docs}",
    ]
    assert digest_at(registry, "arrives/atlas", "1.0") == atlas
    assert digest_at(registry, "arrives/public-docs", "a__b") == docs


def test_a_layer_is_not_compressed_on_the_way(bundle: Path, registry: Registry) -> None:
    atlas = write_image(bundle / "containers" / "atlas__1.0.tar", b"plain", compress=False)
    done = upload(bundle, f"{registry.address}/plain")
    assert (done.returncode, done.stderr) == (0, "")
    assert digest_at(registry, "plain/atlas", "1.0") == atlas


def test_what_is_there_already_is_not_sent_again(bundle: Path, registry: Registry) -> None:
    atlas = write_image(bundle / "containers" / "atlas__1.0.tar", b"atlas")
    upload(bundle, f"{registry.address}/again")
    done = upload(bundle, f"{registry.address}/again/")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"present   {registry.address}/again/atlas:1.0  {atlas}\n"


def test_a_tag_that_holds_another_image_is_never_overwritten(
    bundle: Path, registry: Registry
) -> None:
    before = write_image(bundle / "containers" / "atlas__1.0.tar", b"before")
    upload(bundle, f"{registry.address}/conflict")
    after = write_image(bundle / "containers" / "atlas__1.0.tar", b"after")
    other = write_image(bundle / "containers" / "other__1.0.tar", b"other")
    done = upload(bundle, f"{registry.address}/conflict")
    assert done.returncode == 1
    assert f"CONFLICT  {registry.address}/conflict/atlas:1.0: holds {before}" in done.stderr
    assert after in done.stderr
    assert digest_at(registry, "conflict/atlas", "1.0") == before
    assert digest_at(registry, "conflict/other", "1.0") == other


@pytest.mark.parametrize("ending", ["", ".sig", ".att", ".sbom"])
def test_other_signatures_under_a_tag_stay_and_are_no_failure(
    bundle: Path, registry: Registry, ending: str
) -> None:
    tag, place = f"sha256-{'0a' * 32}{ending}", f"kept{ending.replace('.', '-')}"
    before = write_image(bundle / "containers" / f"atlas__{tag}.tar", b"before")
    upload(bundle, f"{registry.address}/{place}")
    write_image(bundle / "containers" / f"atlas__{tag}.tar", b"after")
    other = write_image(bundle / "containers" / "other__1.0.tar", b"other")
    done = upload(bundle, f"{registry.address}/{place}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"kept      {registry.address}/{place}/atlas:{tag}: holds something else attached, "
        f"{before}; it stays as it is",
        f"pushed    {registry.address}/{place}/other:1.0  {other}",
    ]
    assert digest_at(registry, f"{place}/atlas", tag) == before


@pytest.mark.parametrize("tag", [f"sha256-{'0a' * 31}.sig", f"sha256-{'0a' * 32}.tar"])
def test_a_tag_that_only_looks_like_one_of_a_signature_is_a_conflict(
    bundle: Path, registry: Registry, tag: str
) -> None:
    write_image(bundle / "containers" / f"atlas__{tag}.tar", b"before")
    upload(bundle, f"{registry.address}/looks")
    write_image(bundle / "containers" / f"atlas__{tag}.tar", b"after")
    done = upload(bundle, f"{registry.address}/looks")
    assert done.returncode == 1
    assert f"CONFLICT  {registry.address}/looks/atlas:{tag}" in done.stderr


def test_a_damaged_archive_sets_no_tag_and_the_others_arrive(
    bundle: Path, registry: Registry
) -> None:
    damaged = bundle / "containers" / "atlas__1.0.tar"
    write_image(damaged, b"nowhere else in this registry")
    content = bytearray(damaged.read_bytes())
    content[512 + 20] ^= 1
    damaged.write_bytes(content)
    (bundle / "containers" / "nothing__1.0.tar").write_bytes(b"")
    other = write_image(bundle / "containers" / "other__1.0.tar", b"other")
    done = upload(bundle, f"{registry.address}/damaged")
    assert done.returncode == 1
    assert f"FAILED    {registry.address}/damaged/atlas:1.0: " in done.stderr
    assert "nothing__1.0.tar: not an OCI archive with one image" in done.stderr
    assert digest_at(registry, "damaged/atlas", "1.0") is None
    assert digest_at(registry, "damaged/other", "1.0") == other


def test_a_file_name_that_is_not_an_image_and_a_tag_is_refused(
    bundle: Path, registry: Registry
) -> None:
    for name in ("atlas.tar", "Atlas__1.0.tar", "__1.0.tar", "atlas__.tar"):
        write_image(bundle / "containers" / name, b"atlas")
    done = upload(bundle, registry.address)
    assert done.returncode == 1
    assert done.stderr.count("its name is not of the form NAME__TAG.tar") == 4
    assert done.stdout == ""


def test_bash_skopeo_and_coreutils_are_enough(
    bundle: Path, registry: Registry, need: Callable[[str], str], tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in PROGRAMS:
        (programs / program).symlink_to(need(program))
    write_image(bundle / "containers" / "atlas__1.0.tar", b"atlas")
    done = upload(bundle, f"{registry.address}/enough", PATH=str(programs))
    assert (done.returncode, done.stderr) == (0, "")
    (programs / "skopeo").unlink()
    done = upload(bundle, f"{registry.address}/enough", PATH=str(programs))
    assert done.returncode == 1
    assert done.stderr == "upload_images.sh: error: skopeo is not installed\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "usage: "),
        (("",), "usage: "),
        (("a", "b"), "usage: "),
        (("--help",), "usage: "),
        (("https://registry.example.com",), "with no https://"),
        (("registry example",), "not a registry"),
    ],
)
def test_wrong_usage_is_told(bundle: Path, arguments: tuple[str, ...], words: str) -> None:
    done = upload(bundle, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_outside_of_a_bundle_it_says_where_to_go(bundle: Path) -> None:
    done = upload(bundle, "registry.example.com")
    assert done.returncode == 1
    assert "run this from the root of the extracted bundle" in done.stderr
    (bundle / "containers").mkdir()
    assert "no image archive" in upload(bundle, "registry.example.com").stderr


def test_an_unreachable_registry_is_named(bundle: Path) -> None:
    write_image(bundle / "containers" / "atlas__1.0.tar", b"atlas")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = upload(bundle, address)
    assert done.returncode == 1
    assert f"error: {address}/atlas:1.0: {address}: " in done.stderr
    assert "connection refused" in done.stderr


def test_plain_http_is_refused_unless_asked_for(bundle: Path, registry: Registry) -> None:
    write_image(bundle / "containers" / "atlas__1.0.tar", b"atlas")
    done = upload(bundle, f"{registry.address}/http", UPLOAD_TLS_VERIFY="true")
    assert done.returncode == 1
    assert "hint: the registry speaks plain HTTP" in done.stderr
    assert digest_at(registry, "http/atlas", "1.0") is None


def test_tls_and_a_login_are_those_of_skopeo(bundle: Path, need: Callable[[str], str]) -> None:
    need("docker-registry")
    atlas = write_image(bundle / "containers" / "atlas__1.0.tar", b"atlas")
    with start_registry(tls=True, auth=True) as server:
        assert server.ca_file is not None
        login = {"REGISTRY_AUTH_FILE": str(server.authfile), "UPLOAD_TLS_VERIFY": "true"}
        authority = {"SSL_CERT_FILE": str(server.ca_file)}
        done = upload(bundle, server.address, **login)
        assert done.returncode == 1
        assert f"hint: put the registry's CA into /etc/containers/certs.d/{server.address}" in (
            done.stderr
        )
        done = upload(bundle, server.address, UPLOAD_TLS_VERIFY="true", **authority)
        assert done.returncode == 1
        assert f"hint: log in with: skopeo login {server.address}" in done.stderr
        done = upload(bundle, server.address, **login, **authority)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"pushed    {server.address}/atlas:1.0  {atlas}\n"


def test_ended_by_a_signal_it_leaves_no_scratch(bundle: Path) -> None:
    write_image(bundle / "containers" / "atlas__1.0.tar", b"atlas")
    scratch = bundle.parent / "scratch"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = subprocess.Popen(
            ["bash", "./scripts/upload_images.sh", f"127.0.0.1:{silent.getsockname()[1]}"],
            cwd=bundle,
            env=variables(bundle, UPLOAD_TLS_VERIFY="false"),
            start_new_session=True,
        )
        connection, _ = silent.accept()
        with connection:
            assert list(scratch.iterdir())
            os.killpg(script.pid, signal.SIGTERM)
            started = time.monotonic()
            assert script.wait(20) == 143
            assert time.monotonic() - started < 5
    assert not list(scratch.iterdir())
