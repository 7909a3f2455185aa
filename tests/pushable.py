"""A bundle of images for pushing, and nothing else in it: layers are whatever a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle import Entry, write_bundle
from bundler.archive.bundle_files import BundleFiles, open_bundle_files
from bundler.digest import Digest
from bundler.manifest import Bundle, Image
from bundler.reference import ImageTag
from tests.layouts import LAYER, LayoutMaker, pack
from tests.small_release import MTIME

ROOT = "images-1.0.0"
_SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"


@dataclass(frozen=True)
class Pushable:
    """A bundle that was written to ``directory``."""

    directory: Path
    bundle: Bundle
    images: tuple[Image, ...]

    @property
    def archive(self) -> Path:
        return self.directory / self.bundle.archive

    def open(self) -> BundleFiles:
        return open_bundle_files(self.directory, self.bundle)

    def offset(self, image: Image, digest: Digest) -> int:
        """Say where in the ``.tar.gz`` the first byte of a blob lies."""
        with self.open() as files:
            return blob_offset(files, self.bundle, image, digest)


def blob_offset(files: BundleFiles, bundle: Bundle, image: Image, digest: Digest) -> int:
    """Say where in a bundle's ``.tar.gz`` the first byte of a blob lies."""
    plain = bundle.file(image.tag.archive_path).offset + files.image_tree(image).offsets[digest]
    return 10 + plain + 5 * (plain // bundle.block_bytes + 1)


def make_pushable(
    directory: Path,
    images: Mapping[str, Sequence[bytes]],
    *,
    signed: str | None = None,
    platforms: int = 1,
    more: Sequence[Entry] = (),
) -> Pushable:
    """Write a bundle.

    Args:
        directory: A new one.
        images: Layers of each image, by its name and tag.
        signed: The image that another one, in the same repository, is a signature of.
        platforms: With more than one, each image is an index, and has the layers for each.
        more: What else lies in the bundle.
    """
    directory.mkdir()
    scratch = directory.with_name(f"{directory.name}.scratch")
    made = [
        _make(scratch / str(n), ImageTag(*tag.split(":")), layers, platforms)
        for n, (tag, layers) in enumerate(images.items())
    ]
    if signed is not None:
        subject = next(image for image, _ in made if str(image.tag) == signed)
        made.append(sign_image(scratch / "signature", subject))
    entries = [*more, *(Entry(image.tag.archive_path, archive) for image, archive in made)]
    bundle = write_bundle(
        directory / f"{ROOT}.tar.gz",
        root=ROOT,
        entries=sorted(entries, key=lambda entry: entry.path),
        mtime=MTIME,
    )
    return Pushable(directory, bundle, tuple(image for image, _ in made))


def _make(
    place: Path, tag: ImageTag, layers: Sequence[bytes], platforms: int
) -> tuple[Image, Path]:
    maker = LayoutMaker(place)
    stored = [maker.blob(layer, LAYER) for layer in layers]
    manifests = []
    for number in range(platforms):
        machine = ("amd64", "arm64", "riscv64")[number]
        config = maker.config(len(stored), architecture=machine, config={"Labels": {"n": str(tag)}})
        platform = {"os": "linux", "architecture": machine}
        manifests.append({**maker.manifest(stored, config), "platform": platform})
    top = manifests[0] if platforms == 1 else maker.index(manifests)
    top.pop("platform", None)
    return _archive(maker, tag, top)


def sign_image(place: Path, subject: Image) -> tuple[Image, Path]:
    """Make what looks like a signature of cosign: an image in the place that its tag says."""
    maker = LayoutMaker(place)
    layer = maker.blob(b'{"critical": "' + str(subject.digest).encode() + b'"}', _SIGNATURE)
    config = maker.config(1, architecture="", os="")
    tag = ImageTag(subject.tag.name, f"sha256-{subject.digest.hex}.sig")
    return _archive(maker, tag, maker.manifest([layer], config), subject.digest)


def _archive(
    maker: LayoutMaker, tag: ImageTag, top: dict[str, object], subject: Digest | None = None
) -> tuple[Image, Path]:
    archive = maker.directory.with_suffix(".tar")
    return pack(maker, tag, top, archive, mtime=MTIME, subject=subject), archive
