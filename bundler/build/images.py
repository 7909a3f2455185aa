"""The images of a release: pinned to digests, and fetched into archives that carry no clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.oci import Layout, read_layout, write_oci_archive
from bundler.archive.steady import keeping_still
from bundler.archive.trouble import blaming
from bundler.build.attached import (
    PinnedAttached,
    about,
    fetch_attached,
    find_attached,
    kinds_of,
    pin_attached,
)
from bundler.build.limits import require_within_limits
from bundler.build.lookups import look_up_all
from bundler.build.protocols import ImageSource
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError
from bundler.events import Emit, Finished, Noted, Started, ignore
from bundler.lock_images import LockedImage
from bundler.lockfile import Lock
from bundler.manifest import Image
from bundler.source import ArchiveSource, Platform, RegistrySource, Resolved, Source
from bundler.spec import ImageSpec, Spec
from bundler.stores.artifacts import OpenArtifacts, open_artifacts


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedImage:
    """An image of the spec whose digest is known, and that is not fetched yet.

    Attributes:
        spec: What the spec says of it.
        source: Where it is fetched from: a registry by digest, another by absolute path.
        source_digest: What its source names.
        taken: Digest of what is fetched of that.
        digest: Its digest in the bundle; None where nobody knows yet.
        size: Bytes of its blobs.
        attached: What its registry has about it.
    """

    spec: ImageSpec
    source: Source
    source_digest: Digest
    taken: Digest
    digest: Digest | None
    size: int
    attached: tuple[PinnedAttached, ...] = ()

    @property
    def bundle_bytes(self) -> int:
        """Bytes that it takes in the bundle, with what is attached to it."""
        return self.size + sum(item.size for item in self.attached)

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that it takes while it is copied: what is in an archive is unpacked first."""
        return self.size * (2 if isinstance(self.source, ArchiveSource) else 1)

    def locked(self, digest: Digest) -> LockedImage:
        """Give what a lock says of it, once its digest in the bundle is known."""
        spec = self.spec
        return LockedImage(
            tag=spec.tag,
            source=str(spec.source),
            platform=spec.fetch.platform_text,
            source_digest=self.source_digest,
            digest=digest,
            attached=tuple(item.locked for item in self.attached) if spec.fetch.attached else None,
            converted_from=self.taken if self.taken != digest else None,
        )


def pin_images(
    spec: Spec,
    base: Path,
    lock: Lock | None,
    images: ImageSource,
    *,
    artifacts: OpenArtifacts = open_artifacts,
    emit: Emit = ignore,
) -> tuple[PinnedImage, ...]:
    """Look up every image, and what is attached to it, at its source; nothing is copied yet.

    All that cannot be taken are told in one error, as ``look_up_all`` tells them.

    Args:
        spec: What goes into the release.
        base: The directory of the spec.
        lock: What the images must be; None to take what the tags name now.
        images: Where they come from.
        artifacts: Opens a repository to look for what is attached.
        emit: Told of what is attached and left out.

    Raises:
        NotFoundError: There is no such image, or not the locked one any more.
        MalformedError: It is not for the platform that the spec wants.
        ContentError: A source on this machine holds another image than the locked one.
        WorldError: A source refuses us or cannot be reached.
    """
    return look_up_all(
        spec.images,
        lambda image: _pin(
            image, base, lock.image(image.tag) if lock else None, images, artifacts, emit
        ),
    )


def _pin(
    image: ImageSpec,
    base: Path,
    locked: LockedImage | None,
    images: ImageSource,
    artifacts: OpenArtifacts,
    emit: Emit,
) -> PinnedImage:
    source = image.source
    if not isinstance(source, RegistrySource):
        source = source.below(base)
    elif locked is not None:
        source = source.at(locked.source_digest)
    fetch = image.fetch
    found = images.resolve(source, platform=fetch.platform, plain_http=fetch.plain_http)
    if locked is not None:
        _require_locked(image, "at its source", locked.source_digest, found.digest)
        if locked.converted_from is not None:  # locks of earlier versions do not say
            _require_locked(image, "before it is converted", locked.converted_from, found.taken)
    kept = None if found.docker_typed else found.taken
    pinned = source.at(found.digest) if isinstance(source, RegistrySource) else source
    return PinnedImage(
        spec=image,
        source=pinned,
        source_digest=found.digest,
        taken=found.taken,
        digest=locked.digest if locked else kept,
        size=found.size,
        attached=_attached(image, locked, found, artifacts, emit),
    )


def _attached(
    image: ImageSpec,
    locked: LockedImage | None,
    found: Resolved,
    artifacts: OpenArtifacts,
    emit: Emit,
) -> tuple[PinnedAttached, ...]:
    source, name = image.source, str(image.tag)
    if not image.fetch.attached or not isinstance(source, RegistrySource):
        return ()
    with artifacts(source.repository, image.fetch.plain_http) as there, about(image.tag):
        if locked is not None:
            return tuple(pin_attached(there, item) for item in locked.attached or ())
        for subject, reason in _left_behind(image, found).items():
            if left := find_attached(there, [subject], name=name, emit=emit):
                emit(Noted(f"{name}: left out, {reason}: {kinds_of(left)} about {subject}"))
        subjects = () if found.docker_typed else found.manifests
        return find_attached(there, subjects, name=name, emit=emit)


def _left_behind(image: ImageSpec, found: Resolved) -> dict[Digest, str]:
    """Name what is at the source and not in the bundle under its digest, and why."""
    left = {}
    if found.docker_typed:
        reason = (
            "since the image is converted from Docker's types to OCI's and so gets a new digest"
        )
        left[found.taken] = reason
    if found.taken != found.digest:
        platform = image.fetch.platform_text
        left[found.digest] = (
            f"since only {platform} of that index is taken (`platform: all` carries it)"
        )
    return left


def fetch_images(
    pinned: Sequence[PinnedImage],
    images: ImageSource,
    *,
    scratch: Path,
    mtime: int,
    artifacts: OpenArtifacts = open_artifacts,
    emit: Emit,
) -> Iterator[tuple[Image, Path]]:
    """Fetch images one by one and write each as an OCI archive of ours.

    Args:
        pinned: What to fetch.
        images: Where from.
        scratch: A directory for the archives, and for one unpacked image at a time.
        mtime: Seconds since 1970 that every member of the archives gets.
        artifacts: Opens a repository to fetch what is attached.
        emit: Told of each image, and of those that are converted to OCI.

    Yields:
        What the manifest says of an image, and where its archive is; behind each image what is
        attached to it.

    Raises:
        ContentError: An image is not the pinned one, or a blob not what its digest says.
        MalformedError: An image is for another platform than its source says.
        WorldError: A source fails, or the disk is full.
    """
    for image in pinned:
        tag = image.spec.tag
        emit(Started("fetch", str(tag)))
        yield _fetch(image, images, scratch, mtime, emit)
        if image.attached and isinstance(image.source, RegistrySource):
            with (
                artifacts(image.source.repository, image.spec.fetch.plain_http) as there,
                about(tag),
            ):
                for item in image.attached:
                    yield fetch_attached(there, item, name=tag.name, scratch=scratch, mtime=mtime)
        emit(Finished(str(tag)))


def _fetch(
    image: PinnedImage, images: ImageSource, scratch: Path, mtime: int, emit: Emit
) -> tuple[Image, Path]:
    tag = image.spec.tag
    layout_dir, archive = scratch / f"layout-{tag.name}", scratch / Path(tag.archive_path).name
    layout = fetch_layout(image, images, layout_dir)
    tell_converted(image, layout.digest, emit)
    write_oci_archive(layout_dir, layout, tag, archive, mtime=mtime)
    with blaming(layout_dir):
        shutil.rmtree(layout_dir)
    fetched = Image(
        tag=tag,
        digest=layout.digest,
        source=str(image.spec.source),
        source_digest=image.source_digest,
        platforms=layout.platforms,
        blobs=layout.blobs,
    )
    return fetched, archive


def tell_converted(image: PinnedImage, digest: Digest, emit: Emit) -> None:
    """Tell that an image has another digest in the bundle, if it has."""
    if digest != image.taken:
        emit(Noted(f"{image.spec.tag}: converted to OCI: {image.taken} is now {digest}"))


def fetch_layout(image: PinnedImage, images: ImageSource, layout_dir: Path) -> Layout:
    """Fetch a pinned image into a new layout, and hold it to all that is known of it.

    Raises:
        ContentError: It is not the pinned one, or a blob not what its digest says; or its archive
            changed while it was read.
        MalformedError: It is for another platform than its source says.
        WorldError: Its source fails, or the disk is full.
    """
    spec = image.spec
    with _kept_still(image.source):
        fetched = images.fetch(
            image.source, layout_dir, taken=image.taken, plain_http=spec.fetch.plain_http
        )
    layout = read_layout(layout_dir)
    require_within_limits(spec.tag, layout.blobs)
    _require_locked(spec, "at its source", image.taken, fetched.source_digest)
    _require_locked(spec, "in OCI form", image.digest or layout.digest, layout.digest)
    if spec.fetch.platform is not None:
        _require_platform(spec, spec.fetch.platform, layout.platforms)
    return layout


def _kept_still(source: Source) -> AbstractContextManager[None]:
    """Watch what `docker save` wrote: it is read twice, and nothing tells its layers before."""
    if isinstance(source, ArchiveSource) and source.form == "docker-archive":
        return keeping_still(str(source), Path(source.path))
    return nullcontext()


def scratch_bytes(pinned: Sequence[PinnedImage]) -> int:
    """Give how much disk the archives take while they are made: the largest more than once."""
    archives = sum(image.bundle_bytes for image in pinned)
    return archives + max((image.unpacked_bytes for image in pinned), default=0)


def _require_platform(image: ImageSpec, wanted: Platform, got: Sequence[str]) -> None:
    own = [Platform(*text.split("/", 2)) for text in got]
    if len(own) != 1 or not wanted.takes(own[0]):
        raise MalformedError(
            f"image {image.tag} ({image.source}): expected {wanted}, got {', '.join(got)}"
        )


def _require_locked(image: ImageSpec, where: str, expected: Digest, got: Digest) -> None:
    if expected != got:
        raise ContentError(
            f"image {image.tag} {where} ({image.source}): expected {expected}, got {got}",
            hint="its source changed; run `bundle lock` if that is meant",
        )
