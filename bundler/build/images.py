"""The images of a release: pinned to digests, and fetched into archives that carry no clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.oci import read_layout, write_oci_archive
from bundler.archive.trouble import blaming
from bundler.build.protocols import ImageSource
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Emit, Finished, Noted, Started
from bundler.lockfile import Lock, LockedImage
from bundler.manifest import Image
from bundler.source import LayoutSource, RegistrySource, Source
from bundler.spec import ImageSpec, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedImage:
    """An image of the spec whose digest is known, and that is not fetched yet.

    Attributes:
        spec: What the spec says of it.
        source: Where it is fetched from: a registry by digest, a layout by absolute path.
        source_digest: Its digest there.
        digest: Its digest in the bundle; None where nobody knows yet.
        size: Bytes of its blobs.
    """

    spec: ImageSpec
    source: Source
    source_digest: Digest
    digest: Digest | None
    size: int


def pin_images(
    spec: Spec, base: Path, lock: Lock | None, images: ImageSource
) -> tuple[PinnedImage, ...]:
    """Look up every image at its source, before anything is copied.

    Args:
        spec: What goes into the release.
        base: The directory of the spec.
        lock: What the images must be; None to take what the tags name now.
        images: Where they come from.

    Raises:
        NotFoundError: There is no such image, or not the locked one any more.
        ContentError: A layout holds another image than the locked one.
        WorldError: A source refuses us or cannot be reached.
    """
    return tuple(
        _pin(image, base, lock.image(image.tag) if lock else None, images) for image in spec.images
    )


def _pin(
    image: ImageSpec, base: Path, locked: LockedImage | None, images: ImageSource
) -> PinnedImage:
    source = image.source
    if isinstance(source, LayoutSource):
        source = source.below(base)
    elif locked is not None:
        source = source.at(locked.source_digest)
    found = images.resolve(source, plain_http=image.plain_http)
    if locked is not None:
        _require_locked(image, "at its source", locked.source_digest, found.digest)
    if isinstance(source, RegistrySource):
        source = source.at(found.digest)
    kept = None if found.docker_typed else found.digest
    return PinnedImage(
        spec=image,
        source=source,
        source_digest=found.digest,
        digest=locked.digest if locked else kept,
        size=found.size,
    )


def fetch_images(
    pinned: tuple[PinnedImage, ...],
    images: ImageSource,
    *,
    scratch: Path,
    mtime: int,
    emit: Emit,
) -> Iterator[tuple[Image, Path]]:
    """Fetch images one by one and write each as an OCI archive of ours.

    Args:
        pinned: What to fetch.
        images: Where from.
        scratch: A directory for the archives, and for one unpacked image at a time.
        mtime: Seconds since 1970 that every member of the archives gets.
        emit: Told of each image, and of those that are converted to OCI.

    Yields:
        What the manifest says of an image, and where its archive is.

    Raises:
        ContentError: An image is not the pinned one, or a blob not what its digest says.
        WorldError: A source fails, or the disk is full.
    """
    for image in pinned:
        tag = image.spec.tag
        emit(Started("fetch", str(tag)))
        layout_dir, archive = scratch / f"layout-{tag.name}", scratch / Path(tag.archive_path).name
        fetched = images.fetch(image.source, layout_dir, plain_http=image.spec.plain_http)
        layout = read_layout(layout_dir)
        _require_locked(image.spec, "at its source", image.source_digest, fetched.source_digest)
        _require_locked(image.spec, "in OCI form", image.digest or layout.digest, layout.digest)
        if layout.digest != image.source_digest:
            emit(Noted(f"{tag}: converted to OCI: {image.source_digest} is now {layout.digest}"))
        write_oci_archive(layout_dir, layout, tag, archive, mtime=mtime)
        with blaming(layout_dir):
            shutil.rmtree(layout_dir)
        emit(Finished(str(tag)))
        yield (
            Image(
                tag=tag,
                digest=layout.digest,
                source=str(image.spec.source),
                source_digest=image.source_digest,
                platforms=layout.platforms,
                blobs=layout.blobs,
            ),
            archive,
        )


def scratch_bytes(pinned: tuple[PinnedImage, ...]) -> int:
    """Give how much disk the archives take while they are made: the largest one twice."""
    sizes = [image.size for image in pinned]
    return sum(sizes) + max(sizes, default=0)


def _require_locked(image: ImageSpec, where: str, expected: Digest, got: Digest) -> None:
    if expected != got:
        raise ContentError(
            f"image {image.tag} {where} ({image.source}): expected {expected}, got {got}",
            hint="its source changed; run `bundle lock` if that is meant",
        )
