"""The SBOMs of a release: of every image that runs, and of the bundle."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bundler.archive.bundle import Entry
from bundler.build.records import Records
from bundler.digest import Digest
from bundler.events import Emit, Finished, Started
from bundler.inventory.cyclonedx import (
    BUNDLE_SBOM_PATH,
    BundleParts,
    Sbom,
    bundle_sbom,
    image_sbom,
    sbom_path,
)
from bundler.inventory.effort import BUILD_FACTOR, too_much
from bundler.inventory.image import ImageInventory, KnownLayers, take_inventory
from bundler.inventory.record import decode_inventory, encode_inventory, inventory_key
from bundler.manifest import Chart, Checkpoint, Image, Release

_SCRIPTS = "scripts/"


@dataclass(frozen=True, slots=True)
class _Found:
    """The SBOM of an image, and what it took to make it."""

    sbom: Sbom
    spent: Mapping[str, int]


class SbomMaker:
    """Looks into the images of a release, in threads of its own, while the build goes on.

    Use it as a context manager: when the block ends, however it does, so do the threads.

    Args:
        release: Which release it is.
        images: Each with its OCI archive; those that run are looked into.
        records: What earlier builds found in images; None to find it out anew.
        emit: Told of each image, and of the bytes of its layers.
    """

    def __init__(
        self,
        release: Release,
        images: Sequence[tuple[Image, Path]],
        records: Records | None,
        emit: Emit,
    ) -> None:
        self._release = release
        self._images = images
        self._records = records
        self._emit = emit
        self._known = KnownLayers()
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        self._found: dict[Image, Future[_Found]] = {}

    def __enter__(self) -> Self:
        for image, archive in self._images:
            if image.subject is None:
                before = tuple(self._found.values())
                self._found[image] = self._pool.submit(self._look, image, archive, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._known.stop()
        self._pool.shutdown(cancel_futures=True)

    def entries(
        self, charts: Sequence[Chart], entries: Sequence[Entry], checkpoints: Sequence[Checkpoint]
    ) -> list[Entry]:
        """Wait for the images, and give every SBOM as a file of the bundle.

        Args:
            charts: All of the release.
            entries: The bundle's other files, among them its scripts.
            checkpoints: All of the release.

        Raises:
            ContentError, MalformedError: An archive is not what was written.
            WorldError: It cannot be read.
        """
        sboms = dict(self._within_limits())
        parts = BundleParts(
            images=[(image, sboms.get(image)) for image, _ in self._images],
            charts=charts,
            scripts={
                entry.path: Digest.of(entry.content)
                for entry in entries
                if entry.path.startswith(_SCRIPTS) and isinstance(entry.content, bytes)
            },
            checkpoints=checkpoints,
        )
        return [
            Entry(BUNDLE_SBOM_PATH, bundle_sbom(parts, self._release).content),
            *(Entry(sbom_path(image.tag), sbom.content) for image, sbom in sboms.items()),
        ]

    def _within_limits(self) -> Iterator[tuple[Image, Sbom]]:
        """Count what images took in their order: whichever was done first, the SBOMs are the same.

        The one that goes beyond the limits still counts, and none behind it does.
        """
        spent = Counter[str]()
        for image, future in self._found.items():
            found = future.result()
            reason = too_much(spent, BUILD_FACTOR)
            yield image, self._untouched(image, reason) if reason else found.sbom
            spent.update(found.spent)

    def _untouched(self, image: Image, reason: str) -> Sbom:
        told = f"this image: {reason} in the images before it"
        return image_sbom(ImageInventory(image=image, platforms=(), untouched=told), self._release)

    def _look(self, image: Image, archive: Path, before: Sequence[Future[_Found]]) -> _Found:
        """Look into an image, unless those before it that are done took all that a build may."""
        spent = Counter[str]()
        for one in before:
            if one.done() and not one.cancelled() and one.exception() is None:
                spent.update(one.result().spent)
        if reason := too_much(spent, BUILD_FACTOR):
            return _Found(self._untouched(image, reason), {})
        inventory = self._inventory(image, archive)
        return _Found(image_sbom(inventory, self._release), inventory.spent)

    def _inventory(self, image: Image, archive: Path) -> ImageInventory:
        records, key = self._records, inventory_key(image)
        found = records and records.find(
            key, lambda content, name: decode_inventory(content, image, name)
        )
        if found:
            self._emit(Started("take over packages of", str(image.tag)))
            self._emit(Finished(str(image.tag), skipped=True))
            return found
        found = take_inventory(archive, image, self._known, self._emit)
        if records:
            records.keep(key, encode_inventory(found))
        return found
