"""Pushing images from where they lie in the bundle: blobs, manifests, proof, and tags last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from bundler.archive.bundle_files import BundleFiles
from bundler.blob_content import BlobContent
from bundler.digest import Digest
from bundler.errors import ConflictError, ContentError
from bundler.events import Emit, ignore
from bundler.manifest import Image
from bundler.publish.at_registry import DAMAGED_HINT, AtRegistry
from bundler.publish.image_content import REBUILD_HINT, hash_archive, misnamed_text
from bundler.publish.images import leave_others, load, moved_tag
from bundler.publish.push_progress import PushProgress, Sent
from bundler.publish.rate_limit import RateLimit
from bundler.publish.schedule import Cargo, Survey, Transfer, Wave, schedule, tag_order
from bundler.publish.survey import survey
from bundler.publish.together import StoppedError, for_each
from bundler.reference import ImageTag
from bundler.stores.base import Registry

_CHANGED_HINT = "the bytes changed on their way to the registry: run again"
_COPY_HINT = "nothing was tagged; copy the bundle again from its source"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """How images are pushed.

    Attributes:
        parallel: Blobs on their way at once, over all images.
        read_back: Read and hash every blob at the registry before anything is tagged.
        rehash: Hash every blob while it is read from the bundle, though the registry does too.
        limit: Bytes per second that all threads together keep to; None for as many as go.
    """

    parallel: int = 4
    read_back: bool = False
    rehash: bool = False
    limit: RateLimit | None = None


DEFAULT_OPTIONS = PushOptions()


def push_images(
    registry: Registry,
    files: BundleFiles,
    images: Sequence[Image],
    *,
    present: Sequence[Image] = (),
    options: PushOptions = DEFAULT_OPTIONS,
    host: str = "the registry",
    never_mounts: Callable[[], bool] = lambda: False,
    stop: threading.Event | None = None,
    emit: Emit = ignore,
) -> dict[ImageTag, Sent]:
    """Bring images to a registry, and tag them when all of them are there and proven.

    Each blob is sent once and mounted elsewhere, or sent there too where the registry does not
    mount it; what is there already is not sent. Safe to run again after a kill at any point. Memory
    is bounded by a few pieces of about 1 MiB, and nothing is written to a disk.

    Args:
        registry: Where they go; their repositories exist, or come by themselves.
        files: The bundle that has their archives.
        images: In the manifest's order.
        present: Images that are whole at the registry already: what they share is mounted.
        options: How.
        host: What to call the registry.
        never_mounts: Says whether mounts need not be tried; asked where there is one to try.
        stop: Set when other work failed, and by us when something does.
        emit: Told of progress; from other threads.

    Returns:
        What went over the wire for each image; without those about an image whose tag names
        other such things, which stay.

    Raises:
        ContentError: An archive differs from what was signed, or the registry has other things
            than we sent. Nothing was tagged.
        ConflictError: A tag names something else.
        DeniedError, WorldError: The registry does not let us, fails, or cannot be reached.
        StoppedError: ``stop`` was set.
    """
    stop = stop or threading.Event()
    look = AtRegistry(registry=registry, host=host, threads=options.parallel, stop=stop, emit=emit)
    cargo, found = look_first(look, files, images)
    waves = schedule(cargo, found, present)
    progress = PushProgress(cargo, waves, emit)
    pushing = _Push(
        registry=registry,
        files=files,
        found=found,
        options=options,
        never_mounts=cache(never_mounts),
        stop=stop,
        progress=progress,
    )
    for wave in waves:
        pushing.carry(wave)
    progress.tell_not_mounted()
    look.check(cargo, read_back=options.read_back, known=found)
    tagged = set_tags(registry, cargo, known=found, host=host, stop=stop, emit=emit)
    sent = progress.sent()
    return {item.image.tag: sent[item.image.tag] for item in tagged}


def look_first(
    look: AtRegistry, files: BundleFiles, images: Sequence[Image]
) -> tuple[tuple[Cargo, ...], Survey]:
    """Read what some images hold, ask what a registry has of them, and refuse what cannot come.

    Returns:
        The images, without those about an image whose tag names other such things; and what is
        there.

    Raises:
        ContentError, ConflictError, WorldError: As ``push_images`` does.
    """
    cargo = load(files, images)
    found = survey(look.registry, cargo, threads=look.threads, stop=look.stop)
    cargo = leave_others(cargo, found, look.emit)
    require_free_tags(cargo, found, look.host)
    require_sizes(cargo, found, look.host)
    return cargo, found


def require_free_tags(cargo: Sequence[Cargo], found: Survey, host: str) -> None:
    """Refuse where a tag names something else.

    Raises:
        ConflictError: One does; the message names all of them.
    """
    wrong = [text for item in cargo if (text := moved_tag(item, found, host))]
    if wrong:
        raise ConflictError(
            "; ".join(wrong), hint="somebody changed the registry meanwhile: plan again"
        )


def require_sizes(cargo: Sequence[Cargo], found: Survey, host: str) -> None:
    """Refuse where the registry has a blob with another size than its digest can have.

    Raises:
        ContentError: It has; the message names all of them.
    """
    wrong = [f"{host}/{text}" for item in cargo for text in found.wrong_sizes(item)]
    if wrong:
        raise ContentError("; ".join(wrong), hint=DAMAGED_HINT)


def set_tags(
    registry: Registry,
    cargo: Sequence[Cargo],
    *,
    known: Survey,
    host: str,
    stop: threading.Event,
    emit: Emit,
) -> tuple[Cargo, ...]:
    """Tag images whose manifests are there: the images first, then what is about them.

    A tag that names the right digest is left alone, so that immutable repositories take it well.

    Args:
        registry: Where they are.
        cargo: What to tag.
        known: What was there when this run began: of what was whole, no tag is asked for again.
        host: What to call the registry.
        stop: Set when other work failed.
        emit: Told of what stays untagged, since its tag names other such things meanwhile.

    Returns:
        Those whose tags are right.

    Raises:
        ConflictError: A tag names something else; where it was so at the start, nothing was done.
        ContentError: The registry does not have the tag as it was set.
        StoppedError: ``stop`` was set.
    """
    named = {item.image.tag: item.image.digest for item in cargo if known.is_whole(item)}
    for item in cargo:
        if item.image.tag not in named:
            there = registry.manifest(item.repository, item.image.tag.tag)
            if there is not None:
                named[item.image.tag] = there.digest
    ours = leave_others(cargo, Survey(tags=named), emit)
    require_free_tags(ours, Survey(tags=named), host)
    for item in tag_order(ours):
        if item.image.tag not in named:
            if stop.is_set():
                raise StoppedError(f"image {item.image.tag}: not tagged, since other work failed")
            named[item.image.tag] = _set_tag(registry, item, host)
    return leave_others(ours, Survey(tags=named), emit)


def _set_tag(registry: Registry, item: Cargo, host: str) -> Digest:
    """Tag an image; gives what the tag names then, another digest only of what is about one.

    No registry sets a tag on condition: somebody who sets it in the milliseconds between our look
    and our request is overwritten.
    """
    tag, top = item.image.tag, item.tree.manifests[-1]
    there = registry.manifest(item.repository, tag.tag)
    if there is None:
        with suppress(ConflictError):  # somebody was faster, in an immutable repository
            registry.put_manifest(item.repository, tag.tag, top.media_type, top.content)
        there = registry.manifest(item.repository, tag.tag)
    if there is None:
        raise ContentError(f"{host}/{tag}: expected {item.image.digest}, got no such tag")
    if there.digest != item.image.digest and item.image.subject is None:
        raise ConflictError(
            f"{host}/{tag}: names {there.digest} at the registry, expected {item.image.digest}",
            hint="somebody else pushes to this tag: find out who",
        )
    return there.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    registry: Registry
    files: BundleFiles
    found: Survey
    options: PushOptions
    never_mounts: Callable[[], bool]
    stop: threading.Event
    progress: PushProgress

    def carry(self, wave: Wave) -> None:
        """Bring what a wave transfers, then the manifests of the images that are whole by it."""
        for_each(self._transfer, wave.transfers, threads=self.options.parallel, stop=self.stop)
        for_each(self._store, wave.whole, threads=self.options.parallel, stop=self.stop)

    def _transfer(self, transfer: Transfer) -> None:
        image, blob, source = transfer.image, transfer.blob, transfer.source
        self.progress.begin(image)
        home = source if source and not self.never_mounts() else None
        if home and self.registry.mount(image.tag.name, blob.digest, source=home):
            self.progress.advance(image, blob.size)
            self.progress.count_mounted(image, blob.size)
            return
        try:
            self.registry.upload(
                image.tag.name,
                self._content(transfer),
                advance=lambda step: self.progress.advance(image, step),
            )
        except ContentError as error:
            raise self._explained(transfer, error) from error
        self.progress.count_sent(image, blob.size, again=source is not None)

    def _store(self, item: Cargo) -> None:
        for manifest, place in zip(item.tree.manifests, item.manifest_places, strict=True):
            self._go_on(item.image)
            if place not in self.found.manifests:
                self.registry.put_manifest(
                    item.repository, str(manifest.digest), manifest.media_type, manifest.content
                )
        self.progress.finish(item.image)

    def _content(self, transfer: Transfer) -> BlobContent:
        blob = transfer.blob
        source = self.files.blob(transfer.image, blob.digest, rehash=self.options.rehash)

        def pieces(offset: int) -> Iterator[memoryview]:
            for piece in source.pieces(offset):
                self._go_on(transfer.image)
                yield from self.options.limit.paced(piece) if self.options.limit else (piece,)

        return BlobContent(blob.digest, blob.size, pieces)

    def _go_on(self, image: Image) -> None:
        if self.stop.is_set():
            raise StoppedError(f"image {image.tag}: not sent, since other work failed")

    def _explained(self, transfer: Transfer, error: ContentError) -> ContentError:
        """Where a blob is refused, say whether the bundle is wrong, or its bytes changed later."""
        digest = transfer.blob.digest
        archive = self.files.archive_of(transfer.image)
        content = hash_archive(self.files, transfer.image)
        got = content.misnamed.get(digest)
        if got is not None and content.digest == archive.digest:
            return ContentError(
                misnamed_text(archive.path, digest, got), hint=f"nothing was tagged; {REBUILD_HINT}"
            )
        if got is not None:
            return ContentError(
                f"{archive.path}: expected blob {digest}, got {got}", hint=_COPY_HINT
            )
        return ContentError(
            f"{error}; {archive.path} itself is as signed",
            hint=f"nothing was tagged; {error.hint or _CHANGED_HINT}",
        )
