"""Pushing images by a program that takes whole archives, one at a time, from a scratch directory.

``push.py`` needs neither; this is the work of ``--image-engine skopeo``.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle_files import BundleFiles
from bundler.errors import ContentError, WorldError
from bundler.events import Emit, Finished, Noted, Started
from bundler.manifest import Bundle, Image
from bundler.publish.at_registry import AtRegistry
from bundler.publish.destination import PushArchive
from bundler.publish.push import PushOptions, look_first
from bundler.publish.push_progress import Sent
from bundler.publish.schedule import Cargo, bytes_to_mount, bytes_to_send, schedule, tag_order
from bundler.publish.together import StoppedError
from bundler.reference import ImageTag
from bundler.sizes import size_text
from bundler.stores.base import Registry

# The archive itself, and what the program that pushes it unpacks.
_COPIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePush:
    """Sends images through a program.

    Attributes:
        push: Starts it.
        registry: Where it brings them; we look there before and after.
        files, bundle: Where their archives come from.
        scratch: Directory that holds one archive at a time.
        host: What to call the registry.
        options: ``rehash`` says nothing here: every archive is hashed on its way out.
        stop: Set when other work failed: the next image is not begun.
        emit: Told of each image.
    """

    push: PushArchive
    registry: Registry
    files: BundleFiles
    bundle: Bundle
    scratch: Path
    host: str
    options: PushOptions
    stop: threading.Event
    emit: Emit

    def send(self, images: Sequence[Image]) -> dict[ImageTag, Sent]:
        """Send images; each is tagged when it is there, images before what is about them.

        Returns:
            What each image came to, without those whose tags name other such things, as
            ``push_images`` has it; whether it mounts what images share, or sends that again, is
            the program's own affair, and not told.

        Raises:
            ContentError: An archive differs from what was signed, or the registry has something
                else after the push.
            ConflictError: A tag names something else.
            WorldError: The scratch directory is too small, or the registry fails.
        """
        self._require_space(images)
        look = AtRegistry(
            registry=self.registry,
            host=self.host,
            threads=self.options.parallel,
            stop=self.stop,
            emit=self.emit,
        )
        cargo, found = look_first(look, self.files, images)
        if cargo:
            self.emit(Noted(f"images are unpacked one at a time in {self.scratch}, then removed"))
        for item in tag_order(cargo):
            self._send(item.image)
        look.check(cargo, read_back=self.options.read_back, known=found)
        waves = schedule(cargo, found)
        sizes, shared = bytes_to_send(waves), bytes_to_mount(waves)
        return {
            item.image.tag: _sent(item, sizes.get(item.image.tag, 0), shared.get(item.image.tag, 0))
            for item in cargo
        }

    def _send(self, image: Image) -> None:
        self._go_on(image)
        file = self.bundle.file(image.tag.archive_path)
        item = f"image {image.tag}"
        self.emit(Started("push", item, file.size))
        archive = self.scratch / Path(file.path).name
        try:
            self.files.extract(file, archive)
            self._go_on(image)
            got = self.push(archive, image.tag)
        finally:
            archive.unlink(missing_ok=True)
        if got != image.digest:
            raise ContentError(
                f"{self.host}/{image.tag}: expected {image.digest} to be pushed, got {got}",
                hint="push without --image-engine skopeo",
            )
        there = self.registry.manifest(image.tag.name, image.tag.tag)
        if there is None or there.digest != image.digest:
            raise ContentError(
                f"{self.host}/{image.tag}: expected {image.digest} after the push, the tag names "
                f"{there.digest if there else 'nothing'}",
                hint="somebody set the tag meanwhile, or the registry lost what it took: see who "
                "pushes there, then run again",
            )
        self.emit(Finished(item))

    def _go_on(self, image: Image) -> None:
        if self.stop.is_set():
            raise StoppedError(f"image {image.tag}: not sent, since other work failed")

    def _require_space(self, images: Sequence[Image]) -> None:
        sizes = [self.bundle.file(image.tag.archive_path).size for image in images]
        need = _COPIES * max(sizes, default=0)
        free = shutil.disk_usage(self.scratch).free
        if need > free:
            raise WorldError(
                f"{self.scratch}: expected {size_text(need)} free to unpack one image at a time, "
                f"got {size_text(free)}",
                hint="name a directory with more space: --scratch DIR; or leave out "
                "--image-engine skopeo, which alone needs it",
            )


def _sent(item: Cargo, sent: int, shared: int) -> Sent:
    return Sent(sent=sent, there=item.size - sent - shared)
