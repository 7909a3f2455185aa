"""Groups 31 to 44: image layouts that a build takes images from."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.oci_manifest import OCI_CONFIG, OCI_INDEX
from tests.hostile.limited import Case, Place, require_clean, require_refused
from tests.hostile.sources import IMAGE, Change, lock_of, new_layout, spoiled, take_image_from
from tests.layouts import Json, LayoutMaker

HEX = "0" * 64
CANARY = b"of nobody's concern"
Bend = Callable[[LayoutMaker], object]


def image(maker: LayoutMaker, **more: object) -> Json:
    return maker.manifest([maker.layer({"a": b"1"})], None, **more)


def laid_out(bend: Bend) -> Change:
    """Put a layout that somebody bent in the place of an image."""
    return lambda directory: bend(new_layout(directory))


def named(**change: object) -> Change:
    """Let index.json describe a good image otherwise."""
    return laid_out(lambda maker: maker.name({**image(maker), **change}))


def layered(**change: object) -> Change:
    """Let a manifest describe its layer otherwise."""
    return laid_out(
        lambda maker: maker.name(maker.manifest([{**maker.layer({"a": b"1"}), **change}]))
    )


def manifested(**change: object) -> Change:
    """Give a manifest other fields."""
    return laid_out(lambda maker: maker.name(image(maker, **change)))


def configured(**change: object) -> Change:
    """Give a config other fields."""

    def bend(maker: LayoutMaker) -> None:
        maker.name(maker.manifest([maker.layer({"a": b"1"})], maker.config(1, **change)))

    return laid_out(bend)


def with_file(path: str, content: bytes | None) -> Change:
    """Replace a file of a good layout, or remove it."""

    def change(directory: Path) -> None:
        (directory / IMAGE / path).unlink()
        if content is not None:
            (directory / IMAGE / path).write_bytes(content)

    return change


def with_text(path: str, old: str, new: str) -> Change:
    """Change the text of a good layout's file."""

    def change(directory: Path) -> None:
        text = (directory / IMAGE / path).read_text()
        assert old in text
        (directory / IMAGE / path).write_text(text.replace(old, new))

    return change


def damaged(kind: str) -> Change:
    """Flip a bit of a blob that keeps its name."""

    def bend(maker: LayoutMaker) -> None:
        layer, config = maker.layer({"a": b"1"}), maker.config()
        manifest = maker.manifest([layer], config)
        maker.name(manifest)
        descriptor = {"layer": layer, "config": config, "manifest": manifest}[kind]
        path = maker.path(descriptor["digest"])
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return laid_out(bend)


def nested(maker: LayoutMaker) -> None:
    one = image(maker)
    for _ in range(1000):
        one = maker.index([one])
    maker.name(one)


def many_manifests(maker: LayoutMaker) -> None:
    one = {**image(maker), "platform": {"os": "linux", "architecture": "amd64"}}
    others = [{**one, "digest": f"sha256:{n:064x}"} for n in range(10_001)]
    maker.name(maker.index(others))


def two_of_one_platform(maker: LayoutMaker) -> None:
    platform = {"os": "linux", "architecture": "amd64"}
    images = [
        {**maker.manifest([maker.layer({"a": bytes([n])})]), "platform": platform} for n in (1, 2)
    ]
    maker.name(maker.index(images))


def pipe_for(path: str) -> Change:
    def change(directory: Path) -> None:
        (directory / IMAGE / path).unlink()
        os.mkfifo(directory / IMAGE / path)

    return change


def pipe_for_a_layer(maker: LayoutMaker) -> None:
    layer = maker.layer({"a": b"1"})
    maker.name(maker.manifest([layer]))
    maker.path(layer["digest"]).unlink()
    os.mkfifo(maker.path(layer["digest"]))


DEPTH = b'{"a":' * 100_000
DOUBLE = ('"schemaVersion": 2', '"schemaVersion": 2, "schemaVersion": 2')
LAYOUTS: list[tuple[int, str, Change, int, str]] = [
    (31, "digest that climbs", named(digest="sha256:../../../etc/passwd"), 3, "hex digits"),
    (31, "layer's digest that climbs", layered(digest="sha256:../../evil"), 3, "hex digits"),
    (32, "uppercase digest", named(digest=f"sha256:{'A' * 64}"), 3, "lowercase hex digits"),
    (32, "digest of 63 digits", named(digest=f"sha256:{HEX[1:]}"), 3, "64 lowercase"),
    (32, "md5", named(digest=f"md5:{HEX[:32]}"), 3, "not a sha256 digest"),
    (32, "sha512 of 64 digits", layered(digest=f"sha512:{HEX}"), 3, "not a sha256 digest"),
    (32, "empty digest", named(digest=""), 3, "empty|not a sha256"),
    (33, "larger size", layered(size=10**6), 5, "expected 1000000 bytes"),
    (33, "smaller size", layered(size=1), 5, "expected 1 bytes"),
    (33, "negative size", layered(size=-1), 3, "expected 0 to"),
    (33, "size of 8 EiB", layered(size=2**63), 3, "beyond 2"),
    (33, "size with an exponent", layered(size=1e3), 3, "not an integer"),
    (33, "size as text", layered(size="3"), 3, "expected an integer"),
    (34, "other manifest", damaged("manifest"), 5, "expected .*sha256:.* got sha256:"),
    (34, "other config", damaged("config"), 5, "expected .*sha256:.* got sha256:"),
    (34, "other layer", damaged("layer"), 5, "a blob is not what its digest says"),
    (35, "indexes 1000 deep", laid_out(nested), 3, "nested more than 3|index in an index"),
    (
        36,
        "two images of one tag",
        laid_out(lambda maker: maker.name(image(maker), image(maker), tag="1.0.0")),
        3,
        "expected one image, got 2",
    ),
    (36, "no image", laid_out(lambda maker: maker.name()), 9, "expected an image"),
    (36, "ten thousand images", laid_out(many_manifests), 3, "expected one image|10000 blobs"),
    (37, "duplicate key", with_text("index.json", *DOUBLE), 3, "stands there twice"),
    (38, "layers and manifests", manifested(manifests=[]), 3, "manifests|index"),
    (38, "other media type within", manifested(mediaType=OCI_INDEX), 3, "mediaType|manifests"),
    (38, "config as a manifest", manifested(config={"mediaType": OCI_CONFIG}), 3, "digest"),
    (
        39,
        "more diff_ids than layers",
        configured(rootfs={"diff_ids": [f"sha256:{HEX}"] * 9}),
        3,
        "diff_ids",
    ),
    (39, "diff_ids of another kind", configured(rootfs={"diff_ids": ["x"]}), 3, "not a sha256"),
    (
        40,
        "layer elsewhere",
        layered(digest=f"sha256:{HEX}", urls=["https://a.example.com"]),
        9,
        "found none",
    ),
    (
        40,
        "other embedded content",
        layered(data=base64.b64encode(b"x").decode()),
        3,
        "embedded|data",
    ),
    (42, "no oci-layout", with_file("oci-layout", None), 9, "oci-layout"),
    (42, "version 1.1.0", with_file("oci-layout", b'{"imageLayoutVersion": "1.1.0"}'), 3, "1.0.0"),
    (42, "oci-layout that is no JSON", with_file("oci-layout", b"hello"), 3, "not JSON"),
    (42, "index that is no JSON", with_file("index.json", b"\x80\x04."), 3, "not JSON"),
    (42, "deep index", with_file("index.json", DEPTH), 3, "nested too deep"),
    (42, "index of 5 MiB", with_file("index.json", b" " * (5 << 20)), 3, "at most 4194304"),
    (43, "no platform", configured(os="", architecture=""), 3, "platform|linux/amd64|os"),
    (43, "another platform", configured(architecture="arm64"), 3, "linux/amd64"),
    (43, "platform that is none", configured(architecture="../x"), 3, "platform|linux/amd64"),
    (43, "two of one platform", laid_out(two_of_one_platform), 3, "expected one image"),
    (44, "pipe in the place of the index", pipe_for("index.json"), 3, "expected a file"),
    (44, "pipe in the place of a layer", laid_out(pipe_for_a_layer), 3, "expected a file"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "status", "says"),
    LAYOUTS,
    ids=[f"{group}-{what}" for group, what, *_ in LAYOUTS],
)
def test_a_hostile_layout_is_refused(
    place: Place, group: int, what: str, change: Change, status: int, says: str
) -> None:
    require_refused(Case(group, what, spoiled(retagged(change)), status, says), place)


def retagged(change: Change) -> Change:
    """Let the spec take whatever image there is."""

    def both(directory: Path) -> None:
        change(directory)
        take_image_from(directory, f"oci:{IMAGE}")
        path = directory / "release.yaml"
        path.write_text(path.read_text().replace("name: atlas\n", "name: atlas\n  tag: 1.0.0\n"))

    return both


def secret_and_links(maker: LayoutMaker) -> None:
    """Make a good image, among what is not of it, and described a little otherwise."""
    layer = maker.layer({"a": b"1"})
    wrong_hash = maker.config(rootfs={"type": "layers", "diff_ids": [f"sha256:{HEX}"]})
    manifest = maker.manifest([layer], wrong_hash)
    maker.name({**manifest, "mediaType": "text/plain"}, tag="../../evil @sha256:1.0.0")
    (maker.directory / "blobs/sha256" / HEX).write_bytes(CANARY)
    (maker.directory / "blobs/sha256/directory").mkdir()
    (maker.directory / "blobs/evil").symlink_to("/etc/passwd")
    shared = maker.directory / "shared"
    maker.path(layer["digest"]).rename(shared)
    maker.path(layer["digest"]).symlink_to(shared)


def test_what_an_image_does_not_name_stays_behind_and_no_name_becomes_a_path(place: Place) -> None:
    """Groups 38, 39, 41 and 44: digests decide what is taken, whatever lies or stands beside it."""
    argv = spoiled(retagged(laid_out(secret_and_links)))(place)
    before = place.snapshot()
    done = place.run(*argv)
    assert done.status == 0, done.stderr
    require_clean(done, place, {**before, **lock_of(place)})
    [bundle] = place.out.glob("*/*.tar.gz")
    held = subprocess.run(["tar", "-xzOf", bundle], capture_output=True, check=True).stdout
    assert CANARY not in held
