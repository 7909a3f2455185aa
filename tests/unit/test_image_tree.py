"""Images in their archives: what is sent of them, and what is refused before anything is sent."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bundler.archive import oci_walk
from bundler.archive.image_tree import ImageTree, TreeManifest, read_image_tree, require_manifests
from bundler.archive.oci import read_layout
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError
from bundler.manifest import Blob, Image
from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from bundler.reference import ImageTag
from tests.layouts import LAYER, Json, LayoutMaker
from tests.tars import tar_of

TAG = ImageTag("atlas", "1.0.0")
HEX = "0" * 64
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
SUBJECT: Json = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{HEX}", "size": 7}
LINUX = ("linux/amd64",)
MIB = 1 << 20


@dataclass
class Archive:
    """An archive in memory that notes what is read of it."""

    content: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read_at(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(self.content)
        self.reads.append((offset, length))
        return self.content[offset : offset + length]

    def tree(self, image: Image) -> ImageTree:
        return read_image_tree(self.read_at, len(self.content), image)


@pytest.fixture
def maker(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "layout")


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def signed(files: Mapping[str, bytes], *, platforms: tuple[str, ...] = LINUX) -> Image:
    """Sign an image by what lies in a layout, as a careless or hostile builder could."""
    blobs = {
        Digest(path.rpartition("/")[2]): len(content)
        for path, content in files.items()
        if path.startswith("blobs/")
    }
    digest = Digest.of(b"none")
    try:
        digest = Digest.parse(json.loads(files["index.json"])["manifests"][0]["digest"])
    except (ValueError, KeyError, IndexError, TypeError):
        digest = min(blobs)
    blobs.setdefault(digest, 0)
    return Image(
        tag=TAG,
        digest=digest,
        source="oci:layout",
        source_digest=digest,
        platforms=platforms,
        blobs=tuple(Blob(digest=one, size=size) for one, size in sorted(blobs.items())),
        subject=None if platforms else Digest(HEX),
    )


def packed(maker: LayoutMaker, platforms: tuple[str, ...] = LINUX) -> tuple[Archive, Image]:
    files = files_of(maker.directory)
    return Archive(tar_of(files)), signed(files, platforms=platforms)


def name(maker: LayoutMaker, *descriptors: Json) -> None:
    maker.name(*descriptors, tag=TAG.tag)


def refusal(
    archive: Archive, image: Image, kind: type[MalformedError] | type[ContentError]
) -> tuple[str, str | None]:
    with pytest.raises((MalformedError, ContentError)) as caught:
        archive.tree(image)
    assert type(caught.value) is kind, caught.value
    assert str(caught.value).startswith("containers/atlas__1.0.0.tar: ")
    assert "\n" not in str(caught.value)
    return str(caught.value), caught.value.hint


def digest_of(descriptor: Json) -> Digest:
    return Digest.parse(str(descriptor["digest"]))


def blob_of(descriptor: Json) -> Blob:
    size = descriptor["size"]
    assert isinstance(size, int)
    return Blob(digest=digest_of(descriptor), size=size)


def test_manifests_come_children_first_and_blobs_once_the_largest_first(maker: LayoutMaker) -> None:
    shared, small, large = (maker.layer({"a": b"x" * n}) for n in (5, 1, 3000))
    configs = [maker.config(2), maker.config(2, architecture="arm64")]
    ones = [
        maker.manifest([shared, small], configs[0]),
        maker.manifest([shared, large], configs[1]),
    ]
    inner = maker.index([ones[1]])
    top = maker.index([ones[0], inner, ones[1]])
    name(maker, top)
    archive, image = packed(maker, ("linux/amd64", "linux/arm64"))
    tree = archive.tree(image)
    order = [ones[0], ones[1], inner, top]
    assert [manifest.digest for manifest in tree.manifests] == list(map(digest_of, order))
    assert [manifest.media_type for manifest in tree.manifests] == [
        OCI_MANIFEST,
        OCI_MANIFEST,
        OCI_INDEX,
        OCI_INDEX,
    ]
    for manifest in tree.manifests:
        assert Digest.of(manifest.content) == manifest.digest
    assert [manifest.blobs for manifest in tree.manifests] == [
        (blob_of(configs[0]), blob_of(shared), blob_of(small)),
        (blob_of(configs[1]), blob_of(shared), blob_of(large)),
        (),
        (),
    ]
    sizes = [blob.size for blob in tree.blobs]
    assert sizes == sorted(sizes, reverse=True)
    assert set(tree.blobs) == set(map(blob_of, [shared, small, large, *configs]))
    assert len(tree.blobs) == 5


def test_each_blob_is_found_where_it_lies(maker: LayoutMaker) -> None:
    name(maker, maker.manifest([maker.layer({"a": b"1"}), maker.layer({"b": b"2"})]))
    archive, image = packed(maker)
    tree = archive.tree(image)
    assert tree.offsets.keys() == {blob.digest for blob in image.blobs}
    for blob in image.blobs:
        start = tree.offsets[blob.digest]
        assert Digest.of(archive.content[start : start + blob.size]) == blob.digest


def test_no_byte_of_a_layer_is_read(maker: LayoutMaker) -> None:
    layers = [maker.blob(bytes([n]) * MIB, LAYER) for n in range(4)]
    name(maker, maker.manifest(layers))
    archive, image = packed(maker)
    tree = archive.tree(image)
    for layer in map(digest_of, layers):
        begin, end = tree.offsets[layer], tree.offsets[layer] + MIB
        assert not any(at < end and begin < at + length for at, length in archive.reads)
    assert sum(length for _, length in archive.reads) < 20_000


def test_a_blob_that_is_named_twice_in_one_manifest_is_one_blob(maker: LayoutMaker) -> None:
    layer = maker.layer({"a": b"1"})
    name(maker, maker.manifest([layer, layer]))
    archive, image = packed(maker)
    assert len(archive.tree(image).manifests[-1].blobs) == 2


def test_a_child_that_is_named_often_is_read_once(maker: LayoutMaker) -> None:
    image = maker.manifest([maker.layer({"a": b"1"})])
    name(maker, maker.index([maker.index([image] * 500)] * 500))
    archive, signed_image = packed(maker)
    assert len(archive.tree(signed_image).manifests) == 3
    starts = [at for at, _ in archive.reads]
    assert len(starts) == len(set(starts))


def signature(maker: LayoutMaker) -> None:
    """Make what cosign makes: an image whose config knows no platform."""
    layer = maker.blob(b"{}", "application/vnd.dev.cosign.simplesigning.v1+json")
    config = maker.config(os="", architecture="")
    name(maker, maker.manifest([layer], config))


def referrer(maker: LayoutMaker, content: bytes = b"sbom") -> Json:
    empty = maker.blob(b"{}", EMPTY, data=base64.b64encode(b"{}").decode())
    layer = maker.blob(content, "text/spdx+json")
    return maker.manifest([layer], empty, artifactType="text/spdx+json", subject=SUBJECT)


def one_referrer(maker: LayoutMaker) -> None:
    name(maker, referrer(maker))


def bare_referrer(maker: LayoutMaker) -> None:
    empty = maker.blob(b"{}", EMPTY)
    name(maker, maker.manifest([empty], empty, artifactType="text/x", subject=SUBJECT))


def index_of_referrers(maker: LayoutMaker) -> None:
    ones = [{**referrer(maker, bytes([n])), "artifactType": "text/x"} for n in range(3)]
    name(maker, maker.index(ones))


def index_with_a_subject(maker: LayoutMaker) -> None:
    name(maker, maker.index([referrer(maker)], artifactType="text/x", subject=SUBJECT))


ARTIFACTS = [signature, one_referrer, bare_referrer, index_of_referrers, index_with_a_subject]


@pytest.mark.parametrize("make", ARTIFACTS)
def test_what_is_attached_to_an_image_has_no_platform_and_its_subject_is_elsewhere(
    maker: LayoutMaker, make: Callable[[LayoutMaker], None]
) -> None:
    make(maker)
    archive, image = packed(maker, ())
    tree = archive.tree(image)
    assert tree.manifests[-1].digest == image.digest
    held = {blob.digest for blob in tree.blobs} | {one.digest for one in tree.manifests}
    assert held == {blob.digest for blob in image.blobs}
    assert Digest(HEX) not in held


@pytest.mark.parametrize("make", ARTIFACTS)
def test_an_artifact_is_no_image_that_runs(
    maker: LayoutMaker, make: Callable[[LayoutMaker], None]
) -> None:
    make(maker)
    archive, image = packed(maker)
    told, _ = refusal(archive, image, MalformedError)
    assert "expected platforms linux/amd64, got none" in told
    assert read_layout(maker.directory, artifact=True).platforms == ()
    with pytest.raises(MalformedError, match="for at least one platform, got none"):
        read_layout(maker.directory)


def test_an_image_for_another_platform_than_the_signed_one_is_refused(maker: LayoutMaker) -> None:
    name(maker, maker.manifest([maker.layer({"a": b"1"})], maker.config(architecture="arm64")))
    archive, image = packed(maker)
    told, _ = refusal(archive, image, MalformedError)
    assert "expected platforms linux/amd64, got linux/arm64" in told


def good(maker: LayoutMaker, **more: object) -> Json:
    return maker.manifest([maker.layer({"a": b"1"})], None, **more)


Bend = Callable[[LayoutMaker], None]


def top(**change: object) -> Bend:
    """Name a good image by a descriptor that lies."""
    return lambda maker: name(maker, {**good(maker), **change})


def layer(**change: object) -> Bend:
    """Name a layer by a descriptor that lies."""
    return lambda maker: name(maker, maker.manifest([{**maker.layer({"a": b"1"}), **change}]))


def config(**change: object) -> Bend:
    """Name a config by a descriptor that lies."""
    return lambda maker: name(
        maker, maker.manifest([maker.layer({"a": b"1"})], {**maker.config(), **change})
    )


def manifest(**change: object) -> Bend:
    """Give a manifest fields that it must not have."""
    return lambda maker: name(maker, good(maker, **change))


def index(**change: object) -> Bend:
    """Give an index fields that it must not have."""
    return lambda maker: name(maker, maker.index([good(maker)], **change))


def file(path: str, content: bytes) -> Bend:
    """Replace one file of a good layout."""

    def bend(maker: LayoutMaker) -> None:
        name(maker, good(maker))
        (maker.directory / path).write_bytes(content)

    return bend


def nested(depth: int) -> Bend:
    def bend(maker: LayoutMaker) -> None:
        image = good(maker)
        for _ in range(depth):
            image = maker.index([image])
        name(maker, image)

    return bend


def two_images(maker: LayoutMaker) -> None:
    name(maker, good(maker), maker.manifest([maker.layer({"a": b"2"})]))


def two_tags(maker: LayoutMaker) -> None:
    name(maker, *[good(maker)] * 2)


def two_types(maker: LayoutMaker) -> None:
    """One blob, read as manifest and as index: it says nothing of its own type."""
    both: Json = {"schemaVersion": 2}
    named = maker.document(both, OCI_INDEX)
    name(maker, maker.index([named, {**named, "mediaType": OCI_MANIFEST}]))


def config_is_a_manifest(maker: LayoutMaker) -> None:
    """A manifest that was read as a config already is still read as a manifest."""
    child = maker.document({"schemaVersion": 2, "os": "unknown"}, OCI_MANIFEST)
    name(maker, maker.index([maker.manifest([], {**child, "mediaType": OCI_CONFIG}), child]))


def two_sizes(maker: LayoutMaker) -> None:
    one = maker.layer({"a": b"1"})
    name(maker, maker.manifest([one, {**one, "size": 5}]))


def unnamed_blob(maker: LayoutMaker) -> None:
    name(maker, good(maker))
    maker.blob(b"stowaway", LAYER)


def another_tag(maker: LayoutMaker) -> None:
    maker.name(good(maker), tag="2")


def twice_in_a_manifest(maker: LayoutMaker) -> None:
    child = good(maker)
    content = maker.path(child["digest"]).read_bytes()
    name(maker, maker.blob(content.replace(b"{", b'{"layers": [], ', 1), OCI_MANIFEST))


def docker_manifest(maker: LayoutMaker) -> None:
    name(maker, {**good(maker, mediaType=DOCKER_MANIFEST), "mediaType": DOCKER_MANIFEST})


def huge_manifest(maker: LayoutMaker) -> None:
    name(maker, good(maker, annotations={"a": "x" * (4 * MIB)}))


MISSING = f"blobs/sha256/{HEX} is missing"


@pytest.mark.parametrize(
    ("bend", "kind", "complaint"),
    [
        # what there must be, and how often
        (two_images, MalformedError, "expected exactly one image, got 2"),
        (two_tags, MalformedError, "expected exactly one image, got 2"),
        (file("index.json", b'{"manifests": []}'), MalformedError, "exactly one image, got 0"),
        (file("index.json", b'{"manifests": 1, "manifests": 2}'), MalformedError, "stands there"),
        (file("index.json", b" " * (5 * MIB)), MalformedError, "expected at most 4194304 bytes"),
        (file("index.json", b"\xff"), MalformedError, "index.json: not JSON"),
        (file("oci-layout", b'{"imageLayoutVersion": "1.1"}'), MalformedError, "one of 1.0.0"),
        (another_tag, MalformedError, "ref.name: expected one of 1.0.0, got '2'"),
        (unnamed_blob, MalformedError, "is named by nothing"),
        (layer(digest=f"sha256:{HEX}"), MalformedError, MISSING),
        (config(digest=f"sha256:{HEX}"), MalformedError, MISSING),
        (layer(digest=f"sha256:{HEX}", urls=["https://x"]), MalformedError, "lies elsewhere"),
        (nested(3), MalformedError, "nested more than 3 deep"),
        (index(manifests=[]), MalformedError, "is named by nothing"),
        # sizes
        (top(size=-1), MalformedError, "expected 0 to"),
        (top(size="3"), MalformedError, "expected an integer"),
        (top(size=1e3), MalformedError, "not an integer"),
        (top(size=2**63), MalformedError, "beyond 2**53"),
        (top(size=True), MalformedError, "expected an integer"),
        (top(size=None), MalformedError, "missing"),
        (top(size=5), ContentError, "expected 5 bytes, got"),
        (layer(size=-1), MalformedError, "expected 0 to"),
        (layer(size="3"), MalformedError, "expected an integer"),
        (layer(size=1.5), MalformedError, "not an integer"),
        (layer(size=2**63), MalformedError, "beyond 2**53"),
        (layer(size=5), ContentError, "expected 5 bytes, got"),
        (config(size=2**40), ContentError, "expected 1099511627776 bytes, got"),
        (two_sizes, MalformedError, "elsewhere"),
        (huge_manifest, MalformedError, "expected at most 4194304 bytes, got"),
        # digests
        (layer(digest=f"sha256:{HEX[1:]}A"), MalformedError, "64 lowercase hex digits"),
        (layer(digest=f"sha256:{HEX[1:]}"), MalformedError, "64 lowercase hex digits"),
        (layer(digest=f"SHA256:{HEX}"), MalformedError, "not a sha256 digest"),
        (layer(digest=f"sha512:{HEX}{HEX}"), MalformedError, "not a sha256 digest"),
        (layer(digest=f"md5:{HEX[:32]}"), MalformedError, "not a sha256 digest"),
        (layer(digest="sha256:../../../../etc/passwd"), MalformedError, "64 lowercase hex"),
        (layer(digest=f"sha256:../{HEX[3:]}"), MalformedError, "64 lowercase hex"),
        (layer(digest="sha256:" + "\n" * 64), MalformedError, "64 lowercase hex"),
        (layer(digest=5), MalformedError, "expected a text"),
        (layer(data=base64.b64encode(b"other").decode()), MalformedError, "embedded content"),
        (layer(data="%%%"), MalformedError, "not base64"),
        # media types
        (docker_manifest, MalformedError, "Docker-typed"),
        (layer(mediaType=DOCKER_LAYER), MalformedError, "Docker-typed"),
        (config(mediaType=DOCKER_MANIFEST), MalformedError, "Docker-typed"),
        (layer(mediaType=""), MalformedError, "must not be empty"),
        (layer(mediaType=None), MalformedError, "missing"),
        (top(mediaType="text/plain"), MalformedError, "expected an OCI image manifest or index"),
        (top(mediaType=OCI_INDEX), MalformedError, "as its descriptor says"),
        (two_types, MalformedError, "elsewhere"),
        (config_is_a_manifest, MalformedError, "config.mediaType: missing"),
        (manifest(mediaType=OCI_INDEX), MalformedError, "as its descriptor says"),
        (manifest(schemaVersion=1), MalformedError, "expected 2 to 2"),
        (manifest(manifests=[{}]), MalformedError, "an image manifest has none"),
        (manifest(config={}), MalformedError, "mediaType: missing"),
        (manifest(layers={}), MalformedError, "expected a list"),
        (manifest(layers=[1]), MalformedError, "expected a mapping"),
        (index(layers=[{}]), MalformedError, "an index has none"),
        (index(config={"mediaType": OCI_CONFIG}), MalformedError, "an index has none"),
        (manifest(artifactType=5), MalformedError, "expected a text"),
        (manifest(subject={"digest": "x"}), MalformedError, "subject.mediaType: missing"),
        (manifest(subject={**SUBJECT, "digest": "../x"}), MalformedError, "not a sha256 digest"),
        (manifest(subject={**SUBJECT, "size": -1}), MalformedError, "expected 0 to"),
        (manifest(subject=[]), MalformedError, "expected a mapping"),
        (twice_in_a_manifest, MalformedError, "'layers' stands there twice"),
    ],
)
def test_an_image_that_breaks_a_rule_is_refused_in_one_line(
    maker: LayoutMaker,
    bend: Bend,
    kind: type[MalformedError] | type[ContentError],
    complaint: str,
) -> None:
    bend(maker)
    archive, image = packed(maker)
    told, _ = refusal(archive, image, kind)
    assert complaint in told
    assert all(length <= 4 * MIB for _, length in archive.reads)
    assert sum(length for _, length in archive.reads) < 5 * MIB


def test_a_layer_that_lies_at_an_address_cannot_cross_the_gap(maker: LayoutMaker) -> None:
    foreign = {**maker.layer({"a": b"1"}), "urls": ["https://example.com/layer"]}
    name(maker, maker.manifest([foreign]))
    archive, image = packed(maker)
    assert archive.tree(image).manifests  # it has its content with it
    maker.path(foreign["digest"]).unlink()
    archive, image = packed(maker)
    _, hint = refusal(archive, image, MalformedError)
    assert hint is not None
    assert "no address is reached across the gap" in hint


def test_a_config_knows_as_many_layers_as_its_manifest(maker: LayoutMaker) -> None:
    name(maker, maker.manifest([maker.layer({"a": b"1"})], maker.config(2)))
    archive, image = packed(maker)
    assert "expected 1 diff_ids" in refusal(archive, image, MalformedError)[0]


@pytest.mark.parametrize(
    ("system", "problem"), [("", "os: must not be empty"), (1, "os: expected a text")]
)
def test_a_config_with_half_a_platform_is_refused(
    maker: LayoutMaker, system: object, problem: str
) -> None:
    name(maker, maker.manifest([maker.layer({"a": b"1"})], maker.config(os=system)))
    archive, image = packed(maker)
    assert problem in refusal(archive, image, MalformedError)[0]


@pytest.mark.parametrize("part", ["index", "manifest", "config"])
def test_a_rotten_manifest_or_config_is_named(maker: LayoutMaker, part: str) -> None:
    parts = {"layer": maker.layer({"a": b"1"}), "config": maker.config()}
    parts["manifest"] = maker.manifest([parts["layer"]], parts["config"])
    parts["index"] = maker.index([parts["manifest"]])
    name(maker, parts["index"])
    path = maker.path(parts[part]["digest"])
    path.write_bytes(path.read_bytes().replace(b"{", b"[", 1))
    archive, image = packed(maker)
    told, _ = refusal(archive, image, ContentError)
    assert f"blobs/sha256/{path.name}: expected sha256:{path.name}, got sha256:" in told


def test_a_rotten_layer_is_for_the_receiver_to_find(maker: LayoutMaker) -> None:
    one = maker.layer({"a": b"1"})
    name(maker, maker.manifest([one]))
    path = maker.path(one["digest"])
    path.write_bytes(bytes(path.stat().st_size))
    archive, image = packed(maker)
    assert archive.tree(image).blobs


def test_what_is_signed_and_what_is_there_must_agree(maker: LayoutMaker) -> None:
    name(maker, good(maker))
    archive, image = packed(maker)
    other = next(blob.digest for blob in image.blobs if blob.digest != image.digest)
    few = tuple(blob for blob in image.blobs if blob.digest != other)
    absent = Blob(digest=Digest(HEX), size=1)
    large = tuple(replace(blob, size=blob.size + 1) for blob in image.blobs)
    for lying in (
        replace(image, digest=other),
        replace(image, blobs=few),
        replace(image, blobs=(absent, *image.blobs)),
        replace(image, blobs=large),
        replace(image, tag=ImageTag("atlas", "1.0.1")),
    ):
        with pytest.raises(MalformedError, match="expected"):
            archive.tree(lying)


def with_kind(archive: bytes, at: int, kind: bytes, target: bytes) -> bytes:
    """Make the member whose data is at an offset a link or device, in a header that is valid."""
    header = bytearray(archive[at - 512 : at])
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[157 : 157 + len(target)] = target
    header[148:156] = b"%06o\0 " % sum(header)
    return archive[: at - 512] + bytes(header) + archive[at:]


@pytest.mark.parametrize(
    ("kind", "target"),
    [(b"2", b"../../../../etc/passwd"), (b"1", b"oci-layout"), (b"3", b""), (b"6", b"")],
)
def test_a_blob_that_is_no_file_is_refused(maker: LayoutMaker, kind: bytes, target: bytes) -> None:
    name(maker, good(maker))
    archive, image = packed(maker)
    at = archive.tree(image).offsets[image.digest]
    bad = Archive(with_kind(archive.content, at, kind, target))
    with tarfile.open(fileobj=io.BytesIO(bad.content)) as theirs:
        assert not theirs.getmember(f"blobs/sha256/{image.digest.hex}").isreg()
    told, _ = refusal(bad, image, MalformedError)
    assert f"at offset {at - 512}: " in told


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("evil.sh", b"#!/bin/sh\n"),
        ("blobs/sha256/README", b""),
        (f"blobs/sha512/{HEX}", b""),
        ("manifest.json", b"[]"),
        ("repositories", b"{}"),
    ],
)
def test_nothing_else_lies_in_the_archive(maker: LayoutMaker, path: str, content: bytes) -> None:
    name(maker, good(maker))
    files = files_of(maker.directory)
    archive = Archive(tar_of({**files, path: content}))
    assert ": expected " in refusal(archive, signed(files), MalformedError)[0]


def test_blobs_are_counted(maker: LayoutMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_walk, "MAX_BLOBS", 3)
    name(maker, maker.manifest([maker.layer({"a": b"1"})]))
    archive, image = packed(maker)
    archive.tree(image)
    name(maker, maker.manifest([maker.layer({"a": b"1"}), maker.layer({"a": b"2"})]))
    archive, image = packed(maker)
    assert "more than 3 blobs" in refusal(archive, image, MalformedError)[0]


def test_manifests_and_configs_are_limited_together(
    maker: LayoutMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One config that many manifests name counts as often as it is read."""
    shared = maker.config(0, filler="x" * 10_000)
    name(maker, maker.index([maker.manifest([], shared, n=n) for n in range(20)]))
    archive, image = packed(maker)
    assert len(archive.tree(image).manifests) == 21
    monkeypatch.setattr(oci_walk, "MAX_TREE_BYTES", 100_000)
    archive, image = packed(maker)
    told, _ = refusal(archive, image, MalformedError)
    assert "expected at most 100000 bytes of manifests and configs, got" in told
    assert sum(length for _, length in archive.reads) < 100_000 + 512 * 60


def test_a_tree_can_be_made_of_its_manifests_alone() -> None:
    blob = Blob(digest=Digest(HEX), size=1)
    tree = ImageTree((TreeManifest(Digest(HEX), OCI_MANIFEST, b"", (blob,)),))
    assert tree.blobs == (blob,)


def test_what_is_attached_to_a_layer_is_refused(maker: LayoutMaker, tmp_path: Path) -> None:
    layer, config = maker.layer({"a": b"1"}), maker.config()
    name(maker, maker.manifest([layer], config))
    archive, image = packed(maker)
    running = image, archive.tree(image)
    other = LayoutMaker(tmp_path / "signature")
    signature(other)
    about_archive, about = packed(other, ())
    tree = about_archive.tree(about)
    require_manifests([running, (replace(about, subject=image.digest), tree)])
    elsewhere = replace(about.tag, name="another")
    require_manifests([running, (replace(about, subject=digest_of(layer), tag=elsewhere), tree)])
    for wrong in (layer, config):
        told = f"expected its subject {wrong['digest']} to be a manifest, got a config or layer"
        with pytest.raises(MalformedError, match=told):
            require_manifests([running, (replace(about, subject=digest_of(wrong)), tree)])


def test_a_platform_that_is_no_platform_is_refused(maker: LayoutMaker) -> None:
    name(maker, maker.manifest([maker.layer({"a": b"1"})], maker.config(architecture="a b")))
    archive, image = packed(maker)
    assert "not a platform: 'linux/a b'" in refusal(archive, image, MalformedError)[0]


def test_an_image_that_is_attached_to_another_is_for_any_platform(maker: LayoutMaker) -> None:
    name(maker, maker.manifest([maker.layer({"a": b"1"})]))
    archive, image = packed(maker, ())
    assert archive.tree(image).manifests[-1].digest == image.digest
