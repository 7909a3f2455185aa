"""Images: how they stand at the registry, and how they get there."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.bundle import BundleReader
from bundler.errors import CheckError, ContentError, WorldError
from bundler.events import Emit, Finished, Started
from bundler.manifest import Bundle, Image, Manifest
from bundler.publish.plan import Kind, Plan, State, Step
from bundler.publish.upload import StoppedError
from bundler.sizes import size_text
from bundler.stores.base import Registry

# The archive itself, and what the program that pushes it unpacks.
_COPIES = 2


def plan_images(registry: Registry, manifest: Manifest, host: str) -> Iterator[Step]:
    """Say for each image of the bundle whether the registry, at ``host``, has it under its tag."""
    for image in manifest.images:
        found = registry.digest(image.tag)
        name = str(image.tag)
        if found == image.digest:
            yield Step(kind=Kind.IMAGE, name=name, state=State.PRESENT)
        elif found is None:
            size = manifest.bundle.file(image.tag.archive_path).size
            yield Step(kind=Kind.IMAGE, name=name, state=State.TO_DO, size=size)
        else:
            detail = (
                f"{host}/{image.tag} names {found}, expected {image.digest}; tags are never moved"
            )
            yield Step(kind=Kind.IMAGE, name=name, state=State.CONFLICT, detail=detail)


def require_images(registry: Registry, images: tuple[Image, ...]) -> None:
    """Make sure that images are at the registry under the digests that were signed.

    Raises:
        CheckError: One is not.
    """
    for image in images:
        found = registry.digest(image.tag)
        if found != image.digest:
            raise CheckError(
                f"image {image.tag}: expected {image.digest} at the registry, "
                f"got {found or 'nothing'}",
                hint="nothing was installed; somebody changed the registry meanwhile: run again",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Sends what a plan says is to do of the images, one at a time.

    Attributes:
        registry: Where they go.
        reader, bundle: Where their archives come from.
        scratch: Directory that holds one archive at a time.
        stop: Set when other work failed: the next image is not begun.
        emit: Told of each image.
    """

    registry: Registry
    reader: BundleReader
    bundle: Bundle
    scratch: Path
    stop: threading.Event
    emit: Emit

    def send(self, plan: Plan, manifest: Manifest) -> None:
        """Send the pending images.

        Raises:
            ContentError: An archive differs from what was signed, or the registry has something
                else after the push.
            WorldError: The scratch directory is too small, or the registry fails.
        """
        pending = [i for i in manifest.images if plan.is_pending(Kind.IMAGE, str(i.tag))]
        self._require_space(pending)
        for image in pending:
            self._go_on(image)
            self._send(image)

    def _go_on(self, image: Image) -> None:
        if self.stop.is_set():
            raise StoppedError(f"image {image.tag}: not sent, since other work failed")

    def _send(self, image: Image) -> None:
        file = self.bundle.file(image.tag.archive_path)
        item = f"image {image.tag}"
        self.emit(Started("push", item, file.size))
        archive = self.scratch / Path(file.path).name
        try:
            self.reader.extract(file, archive)
            self._go_on(image)
            got = self.registry.push(archive, image.tag)
        finally:
            archive.unlink(missing_ok=True)
        if got != image.digest or self.registry.digest(image.tag) != image.digest:
            raise ContentError(
                f"image {image.tag}: expected {image.digest} at the registry, got {got}"
            )
        self.emit(Finished(item))

    def _require_space(self, images: list[Image]) -> None:
        sizes = [self.bundle.file(image.tag.archive_path).size for image in images]
        need = _COPIES * max(sizes, default=0)
        free = shutil.disk_usage(self.scratch).free
        if need > free:
            raise WorldError(
                f"{self.scratch}: expected {size_text(need)} free to unpack one image at a time, "
                f"got {size_text(free)}",
                hint="name a directory with more space: --scratch DIR",
            )
