from __future__ import annotations

from pathlib import Path

import pytest

from bundler.archive.oci import read_layout
from bundler.build import limits
from bundler.build.images import PinnedImage, fetch_layout
from bundler.build.limits import MAX_LAYER_BYTES, require_within_limits
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.manifest import Blob
from bundler.reference import ImageTag
from bundler.source import Fetched, LayoutSource, Resolved, Source
from bundler.spec import ImageSpec
from tests.layouts import LayoutMaker, make_layout

TAG = ImageTag("atlas", "1.0.0")


def blob(text: bytes, size: int) -> Blob:
    return Blob(digest=Digest.of(text), size=size)


def test_a_layer_of_just_the_limit_is_fine() -> None:
    assert MAX_LAYER_BYTES == 52_000 * 1024 * 1024
    require_within_limits(TAG, [blob(b"a", MAX_LAYER_BYTES), blob(b"b", 0)])


def test_every_layer_over_the_limit_is_named_with_a_way_out() -> None:
    blobs = [blob(b"a", MAX_LAYER_BYTES + 1), blob(b"b", 5), blob(b"c", 60_000 << 20)]
    with pytest.raises(MalformedError, match=r"image atlas:1\.0\.0") as caught:
        require_within_limits(TAG, blobs)
    said = str(caught.value)
    assert "50.8 GiB" in said
    assert f"{blobs[0].digest} (50.8 GiB), {blobs[2].digest} (58.6 GiB)" in said
    assert str(blobs[1].digest) not in said
    assert "checkpoints" in (caught.value.hint or "")


def test_a_manifest_over_four_mebibytes_is_not_read(tmp_path: Path) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    maker.name(maker.manifest([], annotations={"long": "x" * (4 << 20)}))
    with pytest.raises(MalformedError, match="expected at most 4194304 bytes, got 4194"):
        read_layout(tmp_path / "layout")


class OneLayout:
    """A source that has one image, which a registry would not take."""

    def __init__(self, digest: Digest) -> None:
        self.digest = digest

    def require(self) -> None:
        pass

    def resolve(self, *_: object, **__: object) -> Resolved:
        raise NotImplementedError

    def fetch(self, source: Source, layout_dir: Path, **_: object) -> Fetched:
        make_layout(layout_dir)
        return Fetched(source_digest=self.digest, digest=self.digest)


def test_an_image_is_held_to_the_limits_when_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Digest.parse(make_layout(tmp_path / "first"))
    spec = ImageSpec(tag=TAG, source=LayoutSource("first"))
    image = PinnedImage(
        spec=spec, source=spec.source, source_digest=digest, taken=digest, digest=digest, size=1
    )
    fetch_layout(image, OneLayout(digest), tmp_path / "second")
    monkeypatch.setattr(limits, "MAX_LAYER_BYTES", 100)
    with pytest.raises(MalformedError, match="expected layers of at most 100 B"):
        fetch_layout(image, OneLayout(digest), tmp_path / "third")
