"""Signatures, attestations and referrers of images, from real registries into a release and out."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.archive.bundle_files import open_bundle_files
from bundler.build import BuiltRelease, limits
from bundler.digest import Digest
from bundler.errors import ContentError, DeniedError, MalformedError, NotFoundError, WorldError
from bundler.events import Event, Noted
from bundler.lockfile import lock_path, read_lock
from bundler.stores.artifacts import open_artifacts
from tests.attaching import RUNNING, SBOM, Attacher
from tests.conftest import missing
from tests.integration.building import build, content, refused, spec_path, tools
from tests.integration.release_inputs import ROOT, edit_spec, write_index_layout, write_layout
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.referrers_registry import referrers_registry
from tests.rehearsal.registry import registry

__all__ = ["spec_path", "tools"]

NAME = "atlas"


@pytest.fixture(scope="module")
def with_api() -> Iterator[str]:
    """A registry that answers the referrers API."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(referrers_registry())
        except RehearsalError as error:
            missing(str(error))
            raise
        yield address


@pytest.fixture(scope="module")
def without_api(need: Callable[[str], str]) -> Iterator[str]:
    """A registry that has never heard of it."""
    need("docker-registry")
    with registry() as server:
        yield server.address


@pytest.fixture(params=["with_api", "without_api"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A repository of this test alone."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


def push(layout: Path, place: str, how: str = "--preserve-digests") -> None:
    argv = ["skopeo", "copy", "--quiet", "--all", how, "--dest-tls-verify=false"]
    subprocess.run([*argv, f"oci:{layout}:1.0.0", f"docker://{place}"], check=True)


def take_from(place: str, spec_path: Path, more: str = "") -> None:
    """Make the spec take atlas from a registry."""
    old = "source: oci:images/atlas:1.0.0\n"
    edit_spec(spec_path, old, f"source: docker://{place}:1.0.0\n  plainHttp: true\n{more}")


def signed(address: str, repository: str, spec_path: Path) -> tuple[Attacher, Digest]:
    """Push atlas and sign it with a tag."""
    digest = write_layout(spec_path.parent / "pushed", text="atlas with a signature")
    push(spec_path.parent / "pushed", f"{address}/{repository}:1.0.0")
    attacher = Attacher(address, repository)
    attacher.cosign(digest)
    take_from(f"{address}/{repository}", spec_path)
    return attacher, digest


def refer(attacher: Attacher, subject: Digest, *texts: str) -> list[Digest]:
    """Attach SBOMs, and keep the index of them, as clients do where there is no API."""
    digests = [attacher.referrer(subject, text) for text in texts]
    attacher.index(subject, *digests)
    return digests


def attached(built: BuiltRelease) -> dict[str, Digest | None]:
    return {image.tag.tag: image.subject for image in built.manifest.images if image.subject}


def notes(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Noted)]


def test_what_is_attached_to_an_image_travels_with_it_and_is_signed(
    address: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(address, repository, spec_path)
    attacher.cosign(digest, ".att", "attested")
    sboms = refer(attacher, digest, "one", "two")
    [deeper] = refer(attacher, sboms[0], "about the sbom")
    below = attacher.cosign(deeper, ".sig", "three deep")
    built = build(spec_path, tmp_path / "out")
    assert attached(built) == {
        f"sha256-{digest.hex}.sig": digest,
        f"sha256-{digest.hex}.att": digest,
        f"sha256-{digest.hex}": digest,
        f"sha256-{sboms[0].hex}": sboms[0],
        f"sha256-{deeper.hex}.sig": deeper,
    }
    images = {image.tag.tag: image for image in built.manifest.images}
    assert images[f"sha256-{digest.hex}"].holds(sboms[1])
    assert images[f"sha256-{deeper.hex}.sig"].digest == below
    assert all(image.tag.name == NAME for image in images.values() if image.subject)
    locked = read_lock(lock_path(spec_path)).images[0].attached
    assert locked is not None
    assert {item.tag: item.manifests for item in locked}[f"sha256-{digest.hex}"] == tuple(
        sorted(sboms)
    )


def test_a_locked_build_takes_what_is_locked_and_nothing_newer(
    address: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(address, repository, spec_path)
    first_sbom = refer(attacher, digest, "one")
    first = build(spec_path, tmp_path / "first")
    attacher.cosign(digest, ".sig", "signed again")
    attacher.index(digest, *first_sbom, attacher.referrer(digest, "two"))
    again = build(spec_path, tmp_path / "again", first.lock)
    assert content(again.directory) == content(first.directory)
    lock_path(spec_path).unlink()
    newer = build(spec_path, tmp_path / "newer")
    assert attached(newer) == attached(first)
    assert newer.lock != first.lock


def test_stock_skopeo_and_the_script_bring_it_to_another_registry(
    address: str,
    repository: str,
    with_api: str,
    need: Callable[[str], str],
    spec_path: Path,
    tmp_path: Path,
) -> None:
    attacher, digest = signed(address, repository, spec_path)
    sboms = refer(attacher, digest, "one", "two")
    built = build(spec_path, tmp_path / "out")
    subprocess.run(
        ["tar", "-xzf", built.directory / built.manifest.bundle.archive, "-C", tmp_path], check=True
    )
    [root] = tmp_path.glob("test-release-*")
    target = f"{with_api}/{repository}-target"
    script = [str(ROOT / "scripts" / "upload_images.sh"), target]
    environment = {"UPLOAD_TLS_VERIFY": "false", "PATH": str(Path(need("skopeo")).parent)}
    environment["PATH"] += ":/usr/bin:/bin"
    for said in ("pushed", "present"):
        done = subprocess.run(
            script, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"{said} ") == len(built.manifest.images) == 5
    there = Attacher(with_api, f"{repository}-target/{NAME}")
    assert there.referrers(digest) == sorted(map(str, sboms))
    with open_artifacts(f"{target}/{NAME}", True) as found:
        for image in built.manifest.images:
            if image.subject:
                stored = found.manifest(image.tag.tag)
                assert stored is not None
                assert stored.digest == image.digest


def test_what_is_about_an_index_is_told_when_one_platform_is_taken(
    address: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    layout = spec_path.parent / "pushed"
    index = write_index_layout(layout, text="two platforms")
    push(layout, f"{address}/{repository}:1.0.0")
    children = json.loads((layout / "blobs" / "sha256" / index.hex).read_bytes())["manifests"]
    amd64, arm64 = (Digest.parse(child["digest"]) for child in children)
    attacher = Attacher(address, repository)
    for subject in (index, amd64, arm64):
        attacher.cosign(subject, text=str(subject))
    take_from(f"{address}/{repository}", spec_path)
    events: list[Event] = []
    one = build(spec_path, tmp_path / "one", emit=events.append)
    assert one.manifest.images[0].digest == amd64
    assert attached(one) == {f"sha256-{amd64.hex}.sig": amd64}
    [told] = [note for note in notes(events) if "left out" in note]
    assert str(index) in told
    assert "platform: all" in told
    lock_path(spec_path).unlink()
    edit_spec(spec_path, "plainHttp: true\n", "plainHttp: true\n  platform: all\n")
    every = build(spec_path, tmp_path / "every")
    assert every.manifest.images[0].digest == index
    assert attached(every) == {
        f"sha256-{subject.hex}.sig": subject for subject in (index, amd64, arm64)
    }


def test_what_is_about_a_docker_typed_original_is_told(
    without_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    write_layout(spec_path.parent / "pushed", text="docker-typed")
    push(spec_path.parent / "pushed", f"{without_api}/{repository}:1.0.0", "--format=v2s2")
    with open_artifacts(f"{without_api}/{repository}", True) as there:
        original = there.manifest("1.0.0")
    assert original is not None
    Attacher(without_api, repository).cosign(original.digest)
    take_from(f"{without_api}/{repository}", spec_path)
    events: list[Event] = []
    built = build(spec_path, tmp_path / "out", emit=events.append)
    assert attached(built) == {}
    [told] = [note for note in notes(events) if "left out" in note]
    assert f"sig about {original.digest}" in told


def test_what_is_attached_is_left_out_where_the_spec_says_so(
    without_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    signed(without_api, repository, spec_path)
    edit_spec(spec_path, "plainHttp: true\n", "plainHttp: true\n  attached: false\n")
    built = build(spec_path, tmp_path / "out")
    assert attached(built) == {}
    assert read_lock(lock_path(spec_path)).images[0].attached is None
    edit_spec(spec_path, "  attached: false\n", "")
    error = refused(spec_path, tmp_path / "again", MalformedError, built.lock)
    assert "without what is attached" in str(error)


def test_a_referrer_that_is_about_something_else_is_refused(
    without_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(without_api, repository, spec_path)
    attacher.index(digest, attacher.referrer(Digest.of(b"other"), "about another image"))
    error = refused(spec_path, tmp_path / "out", MalformedError)
    place = f"{without_api}/{repository}:sha256-{digest.hex}"
    assert str(error).startswith(f"image atlas:1.0.0: what is attached: {place}: sha256:")
    assert f"subject.digest: expected one of {digest}" in str(error)
    assert "`attached: false`" in (error.hint or "")


def test_a_blob_of_what_is_attached_that_is_gone_is_named_with_its_image(
    without_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(without_api, repository, spec_path)
    refer(attacher, digest, "one")
    attacher.delete_blob(Digest.of(b"one"))
    error = refused(spec_path, tmp_path / "out", NotFoundError)
    assert f"image atlas:1.0.0: what is attached: {without_api}/{repository}: blob" in str(error)
    assert "`attached: false`" in (error.hint or "")


def test_a_blob_that_no_registry_takes_is_refused_before_it_is_fetched(
    without_api: str,
    repository: str,
    spec_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attacher, digest = signed(without_api, repository, spec_path)
    refer(attacher, digest, "x" * 20_000)
    attacher.delete_blob(Digest.of(b"x" * 20_000))  # who asked for it would miss it
    monkeypatch.setattr(limits, "MAX_LAYER_BYTES", 19_999)
    error = refused(spec_path, tmp_path / "out", MalformedError)
    assert f"image atlas:sha256-{digest.hex}: expected layers of at most" in str(error)
    assert str(Digest.of(b"x" * 20_000)) in str(error)


def test_an_image_that_is_attached_to_another_travels_too(
    without_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(without_api, repository, spec_path)
    attacher.index(digest, attacher.referrer(digest, "an image", config=RUNNING))
    built = build(spec_path, tmp_path / "out")
    [image] = [one for one in built.manifest.images if one.tag.tag == f"sha256-{digest.hex}"]
    assert (image.platforms, image.subject) == ((), digest)
    with open_bundle_files(built.directory, built.manifest.bundle) as files:
        files.check_images(built.manifest.images)


def test_a_referrer_that_is_gone_is_told_and_a_locked_one_is_missed(
    without_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(without_api, repository, spec_path)
    gone = refer(attacher, digest, "here", "gone")[1]
    attacher.delete(gone)
    events: list[Event] = []
    built = build(spec_path, tmp_path / "out", emit=events.append)
    assert any(f"names {gone} as about {digest} and has it not" in note for note in notes(events))
    lock = lock_path(spec_path)
    [here] = next(item.manifests for item in built.lock.images[0].attached or () if item.manifests)
    lock.write_text(lock.read_text().replace(here.hex, gone.hex))
    error = refused(spec_path, tmp_path / "again", NotFoundError, read_lock(lock))
    assert f"expected {gone} as locked" in str(error)


def test_an_index_of_referrers_that_differs_from_the_lock_is_refused(
    without_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(without_api, repository, spec_path)
    refer(attacher, digest, "one")
    built = build(spec_path, tmp_path / "out")
    item = next(item for item in built.lock.images[0].attached or () if item.manifests)
    lock = lock_path(spec_path)
    lock.write_text(lock.read_text().replace(item.digest.hex, Digest.of(b"other").hex))
    error = refused(spec_path, tmp_path / "again", ContentError, read_lock(lock))
    assert f"got {item.digest}" in str(error)


def test_what_is_attached_too_deep_is_told(
    with_api: str, repository: str, spec_path: Path, tmp_path: Path
) -> None:
    attacher, digest = signed(with_api, repository, spec_path)
    chain = [digest]
    for depth in range(4):
        chain.append(attacher.referrer(chain[-1], f"depth {depth}"))
    events: list[Event] = []
    built = build(spec_path, tmp_path / "out", emit=events.append)
    assert f"sha256-{chain[2].hex}" in attached(built)
    assert f"sha256-{chain[3].hex}" not in attached(built)
    assert any("more than 3 deep, left out: " + SBOM in note for note in notes(events))


def test_a_registry_that_cannot_be_asked_ends_the_build(spec_path: Path, tmp_path: Path) -> None:
    with open_artifacts("127.0.0.1:1/none", True) as nobody, pytest.raises(WorldError) as caught:
        nobody.referrers(Digest.of(b"x"))
    assert "127.0.0.1:1/none" in str(caught.value)
    assert "attached: false" in (caught.value.hint or "")
    assert not isinstance(caught.value, DeniedError)
