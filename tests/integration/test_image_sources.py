"""Images from every kind of source, for one platform or all, as the real skopeo brings them."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.archive.oci import read_layout
from bundler.build import lock_release
from bundler.build.images import PinnedImage, scratch_bytes
from bundler.cli import run
from bundler.digest import Digest
from bundler.errors import BundleError, ContentError, MalformedError, NotFoundError
from bundler.events import Event, Noted
from bundler.lockfile import lock_path, read_lock
from bundler.reference import ImageTag
from bundler.source import ArchiveSource, LayoutSource, Platform, RegistrySource, Source
from bundler.spec import ImageSpec
from bundler.tools import layout_files
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.integration.building import build, content, refused, spec_path, tools
from tests.integration.release_inputs import edit_spec, write_index_layout, write_layout
from tests.layouts import LayoutMaker
from tests.rehearsal.registry import Registry, registry

__all__ = ["spec_path", "tools"]

SKOPEO = Skopeo()
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


@pytest.fixture(scope="module")
def plain(need: Callable[[str], str]) -> Iterator[Registry]:
    need("skopeo")
    need("docker-registry")
    with registry() as server:
        yield server


def oci_archive(layout: Path, out: Path) -> Path:
    """Pack a layout as people do: with ./ before the names, index.json somewhere."""
    subprocess.run(["tar", "-C", layout, "-cf", out, "."], check=True)
    return out


def docker_archive(layout: Path, out: Path, name: str = "example/atlas:1.0.0") -> Path:
    """Write what `docker save` does; to one that is there another image is added."""
    target = f"docker-archive:{out}:{name}"
    argv = ["skopeo", "copy", "--quiet", f"oci:{layout}:1.0.0", target]
    subprocess.run(argv, check=True)
    return out


def children(layout: Path, index: Digest) -> list[Digest]:
    content = json.loads((layout / "blobs" / "sha256" / index.hex).read_bytes())
    return [Digest.parse(child["digest"]) for child in content["manifests"]]


def blob_bytes(layout: Path) -> int:
    return sum(path.stat().st_size for path in (layout / "blobs" / "sha256").iterdir())


@pytest.fixture(params=["oci", "oci-archive", "docker"])
def two_platforms(
    request: pytest.FixtureRequest, plain: Registry, tmp_path: Path
) -> tuple[Source, Digest, Path]:
    """An image for two platforms at each kind of source, its index, and its layout."""
    layout = tmp_path / "two"
    index = write_index_layout(layout, text="two platforms")
    if request.param == "oci":
        return LayoutSource(str(layout), "1.0.0"), index, layout
    if request.param == "oci-archive":
        archive = oci_archive(layout, tmp_path / "two.tar")
        return ArchiveSource("oci-archive", str(archive), "1.0.0"), index, layout
    argv = ["skopeo", "copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"]
    place = f"{plain.address}/two-platforms"
    subprocess.run([*argv, f"oci:{layout}:1.0.0", f"docker://{place}:1"], check=True)
    return RegistrySource(place, "1"), index, layout


def test_the_one_image_for_a_platform_is_taken_by_its_digest(
    two_platforms: tuple[Source, Digest, Path], tmp_path: Path
) -> None:
    source, index, layout = two_platforms
    for platform, child in zip((AMD64, ARM64), children(layout, index), strict=True):
        resolved = SKOPEO.resolve(source, platform=platform, plain_http=True)
        assert (resolved.digest, resolved.taken, resolved.manifests) == (index, child, (child,))
        out = tmp_path / platform.machine
        fetched = SKOPEO.fetch(source, out, taken=resolved.taken, plain_http=True)
        assert fetched.source_digest == fetched.digest == child
        assert read_layout(out).platforms == (str(platform),)
        assert resolved.size == blob_bytes(out)


def test_all_platforms_keep_the_index_and_its_digest(
    two_platforms: tuple[Source, Digest, Path], tmp_path: Path
) -> None:
    source, index, layout = two_platforms
    resolved = SKOPEO.resolve(source, platform=None, plain_http=True)
    assert (resolved.digest, resolved.taken) == (index, index)
    assert resolved.manifests == (index, *children(layout, index))
    fetched = SKOPEO.fetch(source, tmp_path / "all", taken=index, plain_http=True)
    assert fetched.digest == index
    assert resolved.size == blob_bytes(tmp_path / "all")


def test_a_platform_that_is_not_there_is_refused_with_those_that_are(
    two_platforms: tuple[Source, Digest, Path],
) -> None:
    wanted = Platform("linux", "s390x")
    with pytest.raises(MalformedError, match="linux/s390x, got: linux/amd64, linux/arm64") as found:
        SKOPEO.resolve(two_platforms[0], platform=wanted, plain_http=True)
    assert "platform: all" in (found.value.hint or "")


def test_a_docker_archive_is_converted_once_and_said_so(spec_path: Path, tmp_path: Path) -> None:
    images = spec_path.parent / "images"
    docker_archive(images / "atlas", images / "atlas.tar")
    edit_spec(spec_path, "oci:images/atlas:1.0.0", "docker-archive:images/atlas.tar\n  tag: 1.0.0")
    events: list[Event] = []
    built = build(spec_path, tmp_path / "out", emit=events.append)
    image = built.manifest.images[0]
    assert image.source == "docker-archive:images/atlas.tar"
    assert image.digest != image.source_digest
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert f"atlas:1.0.0: converted to OCI: {image.source_digest} is now {image.digest}" in notes
    again = build(spec_path, tmp_path / "again", built.lock)
    assert content(again.directory) == content(built.directory)


def test_a_lock_shows_what_a_converted_image_was_and_is(
    spec_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = spec_path.parent / "images"
    docker_archive(images / "atlas", images / "atlas.tar")
    edit_spec(spec_path, "oci:images/atlas:1.0.0", "docker-archive:images/atlas.tar\n  tag: 1.0.0")
    assert run(["lock", str(spec_path)]) == 0
    told = capsys.readouterr()
    lock = read_lock(lock_path(spec_path))
    image, *others = lock.images
    before, after = image.source_digest, image.digest
    assert (image.converted_from, before == after) == (before, False)
    assert {other.converted_from for other in others} == {None}
    assert "1 image converted from Docker's types to OCI's" in told.out
    [row] = [line.split() for line in told.out.splitlines() if line.startswith("atlas:1.0.0")]
    assert row == ["atlas:1.0.0", str(before), str(after)]
    assert f"atlas:1.0.0: converted to OCI: {before} is now {after}" in told.err
    assert run(["lock", str(spec_path), "--json"]) == 0
    [facts] = json.loads(capsys.readouterr().out)["converted"]
    assert facts == {
        "name": "atlas",
        "tag": "1.0.0",
        "convertedFrom": str(before),
        "digest": str(after),
    }
    built = build(spec_path, tmp_path / "out")
    assert built.lock == lock
    earlier = replace(lock, images=(replace(image, converted_from=None), *others))
    again = build(spec_path, tmp_path / "again", earlier)
    assert content(again.directory) == content(built.directory)
    for number, wrong in enumerate((image, others[0])):
        edited = replace(wrong, converted_from=Digest.of(b"what a reviewer trusts"))
        locked = tuple(edited if it is wrong else it for it in lock.images)
        with pytest.raises(ContentError, match="before it is converted"):
            build(spec_path, tmp_path / f"edited-{number}", replace(lock, images=locked))


def test_one_of_several_images_of_a_docker_archive_is_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_layout(tmp_path / name, text=name)
    archive = tmp_path / "both.tar"
    for name in ("one", "two"):
        docker_archive(tmp_path / name, tmp_path / f"{name}.tar", f"example/{name}:1")
    merge(tmp_path / "one.tar", tmp_path / "two.tar", archive)
    digests = {
        name: SKOPEO.resolve(
            ArchiveSource("docker-archive", str(archive), f"example/{name}:1"), platform=AMD64
        ).digest
        for name in ("one", "two")
    }
    assert digests["one"] != digests["two"]
    with pytest.raises(NotFoundError, match="expected one image there") as found:
        SKOPEO.resolve(ArchiveSource("docker-archive", str(archive)), platform=AMD64)
    assert "\n" not in str(found.value)
    missing = ArchiveSource("docker-archive", str(archive), "example/three:1")
    with pytest.raises(NotFoundError, match="example/three:1"):
        SKOPEO.resolve(missing, platform=AMD64)


def merge(one: Path, two: Path, out: Path) -> None:
    """Put two docker-archives together, as `docker save` does with two names."""
    manifests = []
    with tarfile.open(out, "w") as target:
        for path in (one, two):
            with tarfile.open(path) as source:
                for member in source:
                    file = source.extractfile(member)
                    if member.name == "manifest.json":
                        assert file is not None
                        manifests += json.load(file)
                    elif member.name != "repositories" and member.name not in target.getnames():
                        target.addfile(member, file)
        data = json.dumps(manifests).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(data)
        target.addfile(info, io.BytesIO(data))


def test_a_layout_in_a_tar_is_found_by_its_tag(tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "one", text="x", tag="3")
    archive = oci_archive(tmp_path / "one", tmp_path / "a:b.tar")
    for tag in ("3", None):
        source = ArchiveSource("oci-archive", str(archive), tag)
        assert SKOPEO.resolve(source, platform=AMD64).digest == digest
        assert SKOPEO.fetch(source, tmp_path / f"out-{tag}", taken=digest).digest == digest
    with pytest.raises(NotFoundError, match="expected an image named '4'") as found:
        SKOPEO.resolve(ArchiveSource("oci-archive", str(archive), "4"))
    assert found.value.hint == "named there: 3"


def test_a_tag_behind_a_whole_name_is_found_as_skopeo_and_podman_write_it(tmp_path: Path) -> None:
    archive = tmp_path / "two.tar"
    digests = {}
    for number, name in enumerate(("a.example/one:1", "a.example/two:2", "2")):
        layout = tmp_path / str(number)
        digests[name] = write_layout(layout, text=name)
        copy = ["skopeo", "copy", "--quiet", "--preserve-digests", f"oci:{layout}:1.0.0"]
        subprocess.run([*copy, f"oci:{tmp_path / 'all'}:{name}"], check=True)
    oci_archive(tmp_path / "all", archive)
    for tag, name in (("1", "a.example/one:1"), ("2", "2")):
        source = ArchiveSource("oci-archive", str(archive), tag)
        assert SKOPEO.resolve(source, platform=AMD64).digest == digests[name]


@pytest.mark.parametrize("form", ["oci", "oci-archive"])
def test_a_manifest_that_was_changed_in_place_is_refused(form: str, tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "layout", text="x")
    path = tmp_path / "layout" / "blobs" / "sha256" / digest.hex
    path.write_bytes(path.read_bytes() + b"\n")
    source: Source = LayoutSource(str(tmp_path / "layout"), "1.0.0")
    if form == "oci-archive":
        archive = oci_archive(tmp_path / "layout", tmp_path / "x.tar")
        source = ArchiveSource("oci-archive", str(archive), "1.0.0")
    for act in (SKOPEO.resolve, lambda at: SKOPEO.fetch(at, tmp_path / "out", taken=digest)):
        with pytest.raises(ContentError, match=re.escape(f"index.json names, {digest}")):
            act(source)
    assert not (tmp_path / "out").exists()


def spoil_gzip(archive: Path) -> None:
    archive.write_bytes(gzip.compress(archive.read_bytes()))


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:700])


def twice(archive: Path) -> None:
    subprocess.run(
        ["tar", "-C", archive.parent / "layout", "-rf", archive, "./index.json"], check=True
    )


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [(spoil_gzip, "not compressed"), (cut, "found none|expected a tar"), (twice, "is there twice")],
)
def test_an_archive_that_is_no_plain_layout_is_refused(
    spoil: Callable[[Path], None], problem: str, tmp_path: Path
) -> None:
    write_layout(tmp_path / "layout", text="x")
    archive = oci_archive(tmp_path / "layout", tmp_path / "x.tar")
    spoil(archive)
    with pytest.raises(BundleError, match=problem) as found:
        SKOPEO.resolve(ArchiveSource("oci-archive", str(archive)))
    assert "\n" not in str(found.value)


def test_a_docker_archive_that_is_called_a_layout_is_told_as_such(tmp_path: Path) -> None:
    write_layout(tmp_path / "layout", text="x")
    archive = docker_archive(tmp_path / "layout", tmp_path / "x.tar")
    source = ArchiveSource("oci-archive", str(archive), "1.0.0")
    with pytest.raises(MalformedError, match=r"oci-archive:.*: this is a docker-archive") as found:
        SKOPEO.resolve(source, platform=AMD64)
    assert "docker-archive:PATH" in (found.value.hint or "")
    for path in ("index.json", "oci-layout", "blobs"):  # as docker writes both since version 25
        subprocess.run(["tar", "-C", tmp_path / "layout", "-rf", archive, path], check=True)
    assert SKOPEO.resolve(source, platform=AMD64).manifests


def test_an_archive_of_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_layout(tmp_path / "layout", text="x")
    archive = oci_archive(tmp_path / "layout", tmp_path / "x.tar")
    source = ArchiveSource("oci-archive", str(archive))
    monkeypatch.setattr(layout_files, "_MAX_MEMBERS", 8)
    assert SKOPEO.resolve(source, platform=AMD64).manifests
    monkeypatch.setattr(layout_files, "_MAX_MEMBERS", 7)
    with pytest.raises(MalformedError, match="more than 7 members"):
        SKOPEO.resolve(source, platform=AMD64)


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_a_missing_archive_is_named(form: str, tmp_path: Path) -> None:
    source = ArchiveSource(form, str(tmp_path / "none.tar"))  # type: ignore[arg-type]  # any form
    with pytest.raises(NotFoundError, match=re.escape(f"{source}: expected an archive there")):
        SKOPEO.resolve(source)


def test_a_single_image_for_another_platform_is_refused(tmp_path: Path) -> None:
    write_layout(tmp_path / "x", text="x")
    source = LayoutSource(str(tmp_path / "x"), "1.0.0")
    with pytest.raises(MalformedError, match="for linux/arm64, its config says linux/amd64"):
        SKOPEO.resolve(source, platform=ARM64)
    assert SKOPEO.resolve(source, platform=None).manifests


@pytest.fixture
def maker(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "made")


def of(machine: str, system: str = "linux", **more: str) -> dict[str, object]:
    return {"platform": {"architecture": machine, "os": system, **more}}


def test_attestations_are_nobodys_platform(maker: LayoutMaker) -> None:
    image = maker.manifest([maker.layer({"a": b"a"})])
    attestation = maker.manifest([maker.layer({"b": b"b"})])
    entries = [image | of("amd64"), attestation | of("unknown", "unknown"), attestation]
    maker.name(maker.index(entries))
    source = LayoutSource(str(maker.directory))
    assert str(SKOPEO.resolve(source, platform=AMD64).taken) == image["digest"]
    with pytest.raises(MalformedError, match="expected an image for unknown/unknown"):
        SKOPEO.resolve(source, platform=Platform("unknown", "unknown"))


def test_two_images_for_one_platform_are_refused_by_name(maker: LayoutMaker) -> None:
    one, two = (maker.manifest([maker.layer({name: b"x"})]) for name in ("a", "b"))
    maker.name(maker.index([one | of("arm", variant="v6"), two | of("arm", variant="v7")]))
    source = LayoutSource(str(maker.directory))
    with pytest.raises(MalformedError, match="expected one image for linux/arm, got 2") as found:
        SKOPEO.resolve(source, platform=Platform("linux", "arm"))
    assert str(one["digest"]) in str(found.value)


def test_two_images_with_one_tag_are_refused_with_what_helps(maker: LayoutMaker) -> None:
    one, two = (maker.manifest([maker.layer({name: b"x"})]) for name in ("a", "b"))
    maker.name(one, two)
    for tag, hint in (("1.0", "the tag names several"), (None, "write the tag of one of them")):
        with pytest.raises(MalformedError, match=r"expected one image.*, got 2") as found:
            SKOPEO.resolve(LayoutSource(str(maker.directory), tag), platform=None)
        assert hint in (found.value.hint or "")
        assert repr(tag) in str(found.value) or tag is None


def test_an_index_in_an_index_is_taken_only_whole(maker: LayoutMaker) -> None:
    inner = maker.index([maker.manifest([maker.layer({"a": b"a"})]) | of("amd64")])
    maker.name(maker.index([inner | of("amd64")]))
    source = LayoutSource(str(maker.directory))
    with pytest.raises(MalformedError, match="an index in an index") as found:
        SKOPEO.resolve(source, platform=AMD64)
    assert "platform: all" in (found.value.hint or "")
    assert len(SKOPEO.resolve(source, platform=None).manifests) == 3


def test_an_index_that_lies_about_a_platform_is_refused(maker: LayoutMaker) -> None:
    image = maker.manifest([maker.layer({"a": b"a"})])
    maker.name(maker.index([image | of("arm64")]))
    with pytest.raises(MalformedError, match="for linux/arm64, its config says linux/amd64"):
        SKOPEO.resolve(LayoutSource(str(maker.directory)), platform=ARM64)


def test_an_artifact_is_no_image_for_a_platform(maker: LayoutMaker) -> None:
    config = maker.document({}, "application/vnd.oci.empty.v1+json")
    maker.name(maker.manifest([], config))
    with pytest.raises(MalformedError, match=r"config\.mediaType: expected one of"):
        SKOPEO.resolve(LayoutSource(str(maker.directory)), platform=AMD64)


def test_another_platform_makes_the_lock_stale(spec_path: Path, tmp_path: Path) -> None:
    layout = spec_path.parent / "images" / "both"
    index = write_index_layout(layout, text="both")
    spec = edit_spec(spec_path, "oci:images/atlas:1.0.0", "oci:images/both:1.0.0")
    lock = lock_release(spec_path, spec, images=SKOPEO, charts=Helm())
    amd64, arm64 = children(layout, index)
    image = lock.images[0]
    assert (image.platform, image.source_digest, image.digest) == ("linux/amd64", index, amd64)
    edit_spec(spec_path, "oci:images/both:1.0.0", "oci:images/both:1.0.0\n  platform: linux/arm64")
    error = refused(spec_path, tmp_path / "out", MalformedError, lock)
    assert "both:1.0.0 for linux/arm64, lock says oci:images/both:1.0.0 for linux/amd64" in str(
        error
    )
    built = build(spec_path, tmp_path / "out")
    assert built.manifest.images[0].digest == arm64
    assert built.manifest.images[0].platforms == ("linux/arm64",)
    assert built.lock.images[0].source_digest == index


def test_room_is_reckoned_for_what_is_taken_unpacked_and_attached() -> None:
    def pinned(source: Source, size: int) -> PinnedImage:
        spec = ImageSpec(tag=ImageTag("atlas", "1"), source=source)
        some = Digest.of(b"some")
        return PinnedImage(
            spec=spec, source=source, source_digest=some, taken=some, digest=some, size=size
        )

    registry_image = pinned(RegistrySource("a.example/x", "1"), 100)
    archived = pinned(ArchiveSource("oci-archive", "x.tar"), 70)
    assert scratch_bytes([registry_image]) == 100 + 100
    assert scratch_bytes([registry_image, archived]) == 170 + 2 * 70
    assert scratch_bytes([]) == 0
