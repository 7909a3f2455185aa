from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.archive import oci_walk
from bundler.archive.files import RandomReader
from bundler.archive.image_tree import read_image_tree
from bundler.archive.oci import Layout, read_layout, write_oci_archive
from bundler.archive.tar import walk
from bundler.errors import ContentError, MalformedError, WorldError
from bundler.manifest import Image
from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from bundler.reference import ImageTag
from tests.layouts import LAYER, Json, LayoutMaker, make_layout
from tests.tars import MTIME, tar_of

TAG = ImageTag("atlas", "1.0.0")
REF_NAME = "org.opencontainers.image.ref.name"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@pytest.fixture
def maker(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


def archived(directory: Path, out: Path, mtime: int = MTIME) -> Path:
    write_oci_archive(directory, read_layout(directory), TAG, out, mtime=mtime)
    return out


def files_of(archive: Path) -> dict[str, bytes]:
    with RandomReader(archive) as reader:
        return {
            member.path: reader.read_at(member.offset, member.size)
            for member in walk(reader.read_at, reader.size, name="x")
            if not member.directory
        }


def repacked(files: dict[str, bytes], out: Path) -> Path:
    out.write_bytes(tar_of(files))
    return out


def test_an_image_survives_the_trip_into_an_archive(tmp_path: Path) -> None:
    digest = make_layout(tmp_path / "layout")
    layout = read_layout(tmp_path / "layout")
    assert str(layout.digest) == digest
    assert layout.media_type == OCI_MANIFEST
    assert layout.platforms == ("linux/amd64",)
    assert len(layout.blobs) == 3
    archive = archived(tmp_path / "layout", tmp_path / "a.tar")
    for path, content in files_of(archive).items():
        (tmp_path / "again" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "again" / path).write_bytes(content)
    assert read_layout(tmp_path / "again") == layout


def test_an_archive_is_the_same_bytes_at_any_time_and_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_layout(tmp_path / name)
    index = json.loads((tmp_path / "two" / "index.json").read_bytes())
    index["annotations"] = {"created": "later"}
    (tmp_path / "two" / "index.json").write_text(json.dumps(index, indent=4))
    for path in (tmp_path / "two").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    one = archived(tmp_path / "one", tmp_path / "one.tar")
    two = archived(tmp_path / "two", tmp_path / "two.tar")
    assert one.read_bytes() == two.read_bytes()


def test_a_blob_that_nothing_names_is_left_out(maker: LayoutMaker, tmp_path: Path) -> None:
    maker.blob(b"left behind", LAYER)
    maker.name(maker.manifest([maker.layer({"a": b"1"})]))
    assert len(read_layout(maker.directory).blobs) == 3
    archive = archived(maker.directory, tmp_path / "a.tar")
    assert len(files_of(archive)) == 5
    assert b"left behind" not in archive.read_bytes()


def test_every_platform_of_an_index_is_taken(maker: LayoutMaker) -> None:
    layer = maker.layer({"a": b"1"})
    images = [
        maker.manifest([layer]),
        maker.manifest([layer], maker.config(architecture="arm64", variant="v8")),
        maker.manifest([layer], maker.config(os="unknown", architecture="unknown", rootfs={})),
    ]
    maker.name(maker.index([maker.index(images)]))
    layout = read_layout(maker.directory)
    assert layout.media_type == OCI_INDEX
    assert layout.platforms == ("linux/amd64", "linux/arm64/v8")
    assert len(layout.blobs) == 9


def test_an_image_of_no_layer_is_an_image(maker: LayoutMaker) -> None:
    maker.name(maker.manifest([], maker.config(0)))
    assert len(read_layout(maker.directory).blobs) == 2


def named(**change: object) -> Callable[[LayoutMaker], None]:
    """Name a good image by a descriptor that lies."""

    def bend(maker: LayoutMaker) -> None:
        maker.name({**maker.manifest([maker.layer({"a": b"1"})]), **change})

    return bend


def layered(**change: object) -> Callable[[LayoutMaker], None]:
    """Name a layer by a descriptor that lies."""

    def bend(maker: LayoutMaker) -> None:
        maker.name(maker.manifest([{**maker.layer({"a": b"1"}), **change}]))

    return bend


def manifested(**change: object) -> Callable[[LayoutMaker], None]:
    """Give a manifest fields that it must not have."""

    def bend(maker: LayoutMaker) -> None:
        maker.name(maker.manifest([maker.layer({"a": b"1"})], None, **change))

    return bend


def indexed(**change: object) -> Callable[[LayoutMaker], None]:
    """Give an index fields that it must not have."""

    def bend(maker: LayoutMaker) -> None:
        maker.name(maker.index([maker.manifest([maker.layer({"a": b"1"})])], **change))

    return bend


def with_file(path: str, content: bytes | None) -> Callable[[LayoutMaker], None]:
    """Replace or remove one file of a good layout."""

    def bend(maker: LayoutMaker) -> None:
        named()(maker)
        (maker.directory / path).unlink()
        if content is not None:
            (maker.directory / path).write_bytes(content)

    return bend


def with_index(**change: object) -> Callable[[LayoutMaker], None]:
    """Change index.json itself."""

    def bend(maker: LayoutMaker) -> None:
        named()(maker)
        good = json.loads((maker.directory / "index.json").read_bytes())
        maker.write("index.json", {**good, **change})

    return bend


def nested(depth: int) -> Callable[[LayoutMaker], None]:
    """Put indexes around an image."""

    def bend(maker: LayoutMaker) -> None:
        image = maker.manifest([maker.layer({"a": b"1"})])
        for _ in range(depth):
            image = maker.index([image])
        maker.name(image)

    return bend


def two_images(maker: LayoutMaker) -> None:
    images = [maker.manifest([maker.layer({"a": bytes([n])})]) for n in range(2)]
    maker.name(*images)


def two_sizes(maker: LayoutMaker) -> None:
    layer = maker.layer({"a": b"1"})
    maker.name(maker.manifest([layer, {**layer, "size": 5}]))


def linked_blob(maker: LayoutMaker) -> None:
    layer = maker.layer({"a": b"1"})
    maker.name(maker.manifest([layer]))
    path = maker.path(layer["digest"])
    path.rename(maker.directory / "elsewhere")
    path.symlink_to("../../elsewhere")


def docker_manifest(maker: LayoutMaker) -> None:
    image = maker.manifest([maker.layer({"a": b"1"})], None, mediaType=DOCKER_MANIFEST)
    maker.name({**image, "mediaType": DOCKER_MANIFEST})


def no_platform(maker: LayoutMaker) -> None:
    config = maker.config(os="unknown", architecture="unknown")
    maker.name(maker.manifest([maker.layer({"a": b"1"})], config))


def artifact(maker: LayoutMaker) -> None:
    maker.name(maker.manifest([], maker.document({}, "application/vnd.cncf.helm.config.v1+json")))


HEX = "0" * 64


@pytest.mark.parametrize(
    ("bend", "complaint"),
    [
        (with_file("oci-layout", None), "oci-layout is missing"),
        (with_file("oci-layout", b'{"imageLayoutVersion": "1.1.0"}'), "expected one of 1.0.0"),
        (with_file("oci-layout", b"no json"), "oci-layout: not JSON"),
        (with_file("index.json", None), "index.json is missing"),
        (with_file("index.json", b"[]"), "expected a mapping"),
        (with_file("index.json", b'{"manifests": [], "manifests": []}'), "stands there twice"),
        (with_file("index.json", b" " * (5 << 20)), "expected at most"),
        (with_index(manifests=[]), "expected exactly one image, got 0"),
        (with_index(manifests="x"), "expected a list"),
        (two_images, "expected exactly one image, got 2"),
        (docker_manifest, "Docker-typed"),
        (layered(mediaType=DOCKER_LAYER), "Docker-typed"),
        (named(mediaType="text/plain"), "expected an OCI image manifest or index"),
        (named(mediaType=OCI_INDEX), "as its descriptor says"),
        (named(digest=f"sha256:{HEX[:-1]}"), "64 lowercase hex digits"),
        (named(digest=f"sha256:{HEX[:-1]}A"), "64 lowercase hex digits"),
        (named(digest="sha256:../../../../etc/passwd"), "64 lowercase hex digits"),
        (named(digest=f"md5:{HEX}"), "not a sha256 digest"),
        (named(digest=f"sha512:{HEX}{HEX}"), "not a sha256 digest"),
        (named(digest=""), "must not be empty"),
        (named(digest=f"sha256:{HEX}"), f"blobs/sha256/{HEX} is missing"),
        (layered(digest=f"sha256:{HEX}"), f"blobs/sha256/{HEX} is missing"),
        (named(size=-1), "expected 0 to"),
        (named(size="3"), "expected an integer"),
        (named(size=2**63), "beyond 2\\*\\*53"),
        (named(size=1e3), "not an integer"),
        (named(size=True), "expected an integer"),
        (two_sizes, "elsewhere"),
        (layered(data=base64.b64encode(b"other").decode()), "embedded content"),
        (layered(data="%%%"), "not base64"),
        (manifested(manifests=[{}]), "an image manifest has none"),
        (manifested(schemaVersion=1), "expected 2 to 2"),
        (manifested(mediaType=OCI_INDEX), "as its descriptor says"),
        (indexed(layers=[{}]), "an index has none"),
        (indexed(config={"mediaType": OCI_CONFIG}), "an index has none"),
        (indexed(manifests=[]), "for at least one platform, got none"),
        (nested(3), "nested more than 3 deep"),
        (linked_blob, "expected a regular file, got a symbolic link"),
        (no_platform, "for at least one platform, got none"),
        (artifact, "for at least one platform, got none"),
        (manifested(config={}), "mediaType: missing"),
    ],
)
def test_a_layout_that_breaks_a_rule_is_refused(
    maker: LayoutMaker, bend: Callable[[LayoutMaker], None], complaint: str
) -> None:
    bend(maker)
    with pytest.raises(MalformedError, match=complaint) as caught:
        read_layout(maker.directory)
    assert str(maker.directory) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_may_be_nested_twice(maker: LayoutMaker) -> None:
    nested(2)(maker)
    assert len(read_layout(maker.directory).blobs) == 5


@pytest.mark.timeout(60)
def test_an_image_that_is_named_a_million_times_is_read_once(maker: LayoutMaker) -> None:
    image = maker.manifest([maker.layer({"a": b"1"})])
    maker.name(maker.index([maker.index([image] * 3000)] * 3000))
    assert len(read_layout(maker.directory).blobs) == 5


def test_blobs_are_counted(maker: LayoutMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_walk, "MAX_BLOBS", 3)
    maker.name(maker.manifest([maker.layer({"a": b"1"})]))
    assert len(read_layout(maker.directory).blobs) == 3
    maker.name(maker.manifest([maker.layer({"a": b"1"}), maker.layer({"a": b"2"})]))
    with pytest.raises(MalformedError, match="more than 3 blobs"):
        read_layout(maker.directory)


def test_a_config_must_know_as_many_layers_as_the_manifest(maker: LayoutMaker) -> None:
    maker.name(maker.manifest([maker.layer({"a": b"1"})], maker.config(2)))
    with pytest.raises(MalformedError, match="expected 1 diff_ids"):
        read_layout(maker.directory)


def test_embedded_content_that_is_the_blob_is_taken(maker: LayoutMaker) -> None:
    layer = maker.blob(b"x", LAYER, data=base64.b64encode(b"x").decode())
    maker.name(maker.manifest([layer]))
    assert len(read_layout(maker.directory).blobs) == 3


@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
@pytest.mark.parametrize("damage", ["flip", "shorten", "lengthen"])
def test_a_blob_that_is_not_what_its_descriptor_says_is_refused(
    maker: LayoutMaker, kind: str, damage: str
) -> None:
    parts: dict[str, Json] = {"layer": maker.layer({"a": b"1"}), "config": maker.config()}
    parts["manifest"] = maker.manifest([parts["layer"]], parts["config"])
    maker.name(parts["manifest"])
    path = maker.path(parts[kind]["digest"])
    content = path.read_bytes()
    flipped = bytes([content[0] ^ 1]) + content[1:]
    path.write_bytes({"flip": flipped, "shorten": content[:-1], "lengthen": content + b" "}[damage])
    with pytest.raises(ContentError, match=f"{path.name}: expected"):
        read_layout(maker.directory)


def test_a_blob_that_changes_before_it_is_packed_is_refused(
    maker: LayoutMaker, tmp_path: Path
) -> None:
    layer = maker.layer({"a": b"1"})
    maker.name(maker.manifest([layer]))
    layout = read_layout(maker.directory)
    path = maker.path(layer["digest"])
    for content in (path.read_bytes()[:-1] + b"!", path.read_bytes() + b"!"):
        path.write_bytes(content)
        with pytest.raises(ContentError, match=f"{path.name}: expected"):
            write_oci_archive(maker.directory, layout, TAG, tmp_path / "a.tar", mtime=MTIME)
    assert not (tmp_path / "a.tar").exists()


def test_a_full_disk_leaves_no_archive(maker: LayoutMaker, small_disk: Path) -> None:
    maker.name(maker.manifest([maker.blob(os.urandom(6 << 20), LAYER)]))
    layout = read_layout(maker.directory)
    with pytest.raises(WorldError, match=r"a\.tar: no space left"):
        write_oci_archive(maker.directory, layout, TAG, small_disk / "a.tar", mtime=MTIME)
    assert list(small_disk.iterdir()) == []


def change_archive(change: Callable[[dict[str, bytes]], Any]) -> Callable[[Path, Path], Path]:
    def bend(archive: Path, out: Path) -> Path:
        files = files_of(archive)
        change(files)
        return repacked(files, out)

    return bend


def image_of(layout: Layout) -> Image:
    return Image(
        tag=TAG,
        digest=layout.digest,
        source="oci:layout",
        source_digest=layout.digest,
        platforms=layout.platforms,
        blobs=layout.blobs,
    )


def check(archive: Path, image: Image) -> None:
    with RandomReader(archive) as reader:
        read_image_tree(reader.read_at, reader.size, image)


def reindex(**fields: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        index = json.loads(files["index.json"])
        index["manifests"][0].update(fields)
        files["index.json"] = json.dumps(index).encode()

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f: f.update({"extra": b""}), "expected index.json, got extra"),
        (lambda f: f.update({f"blobs/sha256/{HEX}": b"secret"}), "expected .*, got"),
        (lambda f: f.update({"blobs/md5/x": b""}), "expected blobs/sha256, got blobs/md5"),
        (lambda f: f.update({"z": b""}), "expected the end, got z"),
        (lambda f: f.pop("index.json"), "expected index.json, got oci-layout"),
        (lambda f: f.pop(min(f)), "expected blobs/sha256/.*, got"),
        (lambda f: f.pop(max(f)), "expected oci-layout, got the end"),
        (lambda f: f.update({min(f): b""}), "expected [0-9]+ bytes, got 0"),
        (lambda f: f.update({"oci-layout": b'{"imageLayoutVersion": "2"}'}), "expected one of 1.0"),
        (lambda f: f.update({"index.json": b"[" * (5 << 20)}), "expected at most 4194304 bytes"),
        (lambda f: f.update({"index.json": b'{"manifests": []}'}), "expected exactly one image"),
        (reindex(digest=f"sha256:{HEX}"), "index.json: manifests.*digest: expected one of sha256:"),
        (reindex(annotations={REF_NAME: "2"}), "ref.name: expected one of 1.0.0, got '2'"),
        (reindex(annotations={}), "ref.name: missing"),
    ],
)
def test_an_archive_holds_what_the_manifest_says_and_nothing_else(
    tmp_path: Path, change: Callable[[dict[str, bytes]], Any], complaint: str
) -> None:
    make_layout(tmp_path / "layout")
    image = image_of(read_layout(tmp_path / "layout"))
    good = archived(tmp_path / "layout", tmp_path / "good.tar")
    check(good, image)
    assert repacked(files_of(good), tmp_path / "same.tar").read_bytes() == good.read_bytes()
    bad = change_archive(change)(good, tmp_path / "bad.tar")
    with pytest.raises(MalformedError, match=complaint) as caught:
        check(bad, image)
    assert str(caught.value).startswith("containers/atlas__1.0.0.tar: ")


def test_a_manifest_that_names_other_blobs_than_the_archive_is_refused(tmp_path: Path) -> None:
    make_layout(tmp_path / "layout")
    image = image_of(read_layout(tmp_path / "layout"))
    archive = archived(tmp_path / "layout", tmp_path / "a.tar")
    other = next(blob.digest for blob in image.blobs if blob.digest != image.digest)
    few = tuple(blob for blob in image.blobs if blob.digest != other)
    large = tuple(replace(blob, size=blob.size + 1) for blob in image.blobs)
    for lying in (
        replace(image, digest=other),
        replace(image, blobs=few),
        replace(image, blobs=large),
    ):
        with pytest.raises(MalformedError, match="expected"):
            check(archive, lying)


def test_no_flipped_byte_of_an_archive_makes_another_image_of_it(tmp_path: Path) -> None:
    make_layout(tmp_path / "layout")
    image = image_of(read_layout(tmp_path / "layout"))
    good = archived(tmp_path / "layout", tmp_path / "good.tar")
    with RandomReader(good) as reader:
        tree = read_image_tree(reader.read_at, reader.size, image)
        members = walk(reader.read_at, reader.size, name="x")
        [index] = [member for member in members if member.path == "index.json"]
    # The receiver of a layer judges it; index.json has fields that nobody asks for.
    _, layer = tree.manifests[-1].blobs
    start = tree.offsets[layer.digest]
    free = {*range(start, start + layer.size), *range(index.offset, index.offset + index.size)}
    content, bad = good.read_bytes(), tmp_path / "bad.tar"
    for at in (n for n in range(0, len(content), 7) if n not in free):
        bad.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises((MalformedError, ContentError)):
            check(bad, image)
