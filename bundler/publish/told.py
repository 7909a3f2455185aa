"""Whether receipts tell of all that is there: a run that was killed may have written none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import DeniedError, MalformedError
from bundler.manifest import Manifest
from bundler.publish.images import present_images
from bundler.publish.layout import Layout, pinned_image
from bundler.publish.plan import Kind, Plan, State
from bundler.receipt import MAX_RECEIPT_BYTES, Receipt, decode_receipt
from bundler.stores.base import ObjectStore
from bundler.target import Target

_OBJECTS = {Kind.CHECKPOINT_FILE, Kind.RELEASE_FILE, Kind.MARKER}
# The newest; whoever published more often than that, part by part, gets one about all of them.
_MOST_READ = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The receipts of a release.

    Attributes:
        plan: What was asked for, with nothing to do.
        manifest: The release's.
        target: Where it is.
        layout: All names there.
        store: The bucket; asked only where ``plan`` asked it.
        receipts: Directory of receipts on this machine.
    """

    plan: Plan
    manifest: Manifest
    target: Target
    layout: Layout
    store: ObjectStore
    receipts: Path

    def everything(self) -> bool:
        """Tell whether every image and object that is there is in some receipt.

        Objects must be in one that lies in the bucket, images in any. Where the bucket does not
        let us list receipts, we take it that they are there.
        """
        here = list(self._here())
        try:
            there = list(self._there()) if self.plan.only.uses_store else []
        except DeniedError:
            return True
        images = {image.reference for receipt in (*here, *there) for image in receipt.images}
        objects = {item.key for receipt in there for item in receipt.objects}
        return self._images() <= images and self._objects() <= objects

    def _images(self) -> set[str]:
        host = self.target.registry.host
        present = present_images(self.plan, self.manifest.images)
        return {pinned_image(host, image) for image in present}

    def _objects(self) -> set[str]:
        steps = self.plan.in_state(State.PRESENT)
        return {step.name for step in steps if step.kind in _OBJECTS and not step.kept}

    def _here(self) -> Iterator[Receipt]:
        paths = self.receipts.glob(f"{self.plan.release}-*.receipt.json")
        for path in sorted(paths, reverse=True)[:_MOST_READ]:
            with contextlib.suppress(OSError), path.open("rb") as file:
                yield from self._read(file.read(MAX_RECEIPT_BYTES + 1), path.name)

    def _there(self) -> Iterator[Receipt]:
        keys = [item.key for item in self.store.list(self.layout.release.key("receipts/"))]
        for key in sorted(keys, reverse=True)[:_MOST_READ]:
            yield from self._read(self.store.get(key, limit=MAX_RECEIPT_BYTES), key)

    def _read(self, content: bytes, name: str) -> Iterator[Receipt]:
        """Give a receipt if it is one, and about this very release and place."""
        with contextlib.suppress(MalformedError):
            receipt, place = decode_receipt(content, name=name), str(self.target.s3.place)
            if (receipt.manifest, receipt.bucket) == (self.plan.manifest, place):
                yield receipt
