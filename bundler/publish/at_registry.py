"""Holding what a registry has to what was signed: manifests byte by byte, blobs by size or hash."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bundler.archive.image_tree import TreeManifest
from bundler.digest import Digest
from bundler.errors import ContentError
from bundler.events import Advanced, Emit, Finished, Noted, Started
from bundler.manifest import Blob
from bundler.publish.schedule import NOTHING_KNOWN, Cargo, Place, Survey
from bundler.publish.together import StoppedError, for_each
from bundler.sizes import count_text
from bundler.stores.base import Registry

_HINT = (
    "nothing was tagged; what the registry said when it took them was not true: ask its operator"
)
DAMAGED_HINT = "the registry's storage is damaged: have the blob deleted there, and run again"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRegistry:
    """Looks at images that are at a registry.

    Attributes:
        registry: The one.
        host: What to call it.
        threads: How many requests at once.
        stop: Set when other work failed.
        emit: Told of what is read.
    """

    registry: Registry
    host: str
    threads: int
    stop: threading.Event
    emit: Emit

    def check(
        self, cargo: Sequence[Cargo], *, read_back: bool, known: Survey = NOTHING_KNOWN
    ) -> None:
        """Compare manifests and blobs of some images, whatever their tags name.

        Args:
            cargo: The images.
            read_back: Read and hash each blob instead of asking for its size; then of all.
            known: What was right when this run began, and is not asked for again.

        Raises:
            ContentError: Something is not there, or is not what was signed.
            DeniedError, WorldError: The registry does not let us, or cannot be reached.
            StoppedError: ``stop`` was set meanwhile.
        """
        images = count_text(len(cargo), "image")
        verb, item = "read back" if read_back else "check", f"{images} at the registry"
        known = NOTHING_KNOWN if read_back else known
        blobs = {
            place: blob
            for each in cargo
            for place, blob in each.blob_places
            if place not in known.sizes
        }
        total = sum(blob.size for blob in blobs.values())
        self.emit(Started(verb, item, total if read_back else None))
        look = partial(self._read, item) if read_back else self._ask
        work: list[Callable[[], None]] = [
            partial(self._manifest, each.repository, manifest)
            for each in cargo
            for place, manifest in zip(each.manifest_places, each.tree.manifests, strict=True)
            if place not in known.manifests
        ]
        largest_first = sorted(blobs.items(), key=lambda pair: -pair[1].size)
        work += [partial(look, place, blob) for place, blob in largest_first]
        for_each(lambda check: check(), work, threads=self.threads, stop=self.stop)
        self.emit(Finished(item))
        if read_back:
            were = "was" if len(cargo) == 1 else "were"
            self.emit(Noted(f"{item}: {were} read back, and as signed"))

    def _manifest(self, repository: str, manifest: TreeManifest) -> None:
        found = self.registry.manifest(repository, str(manifest.digest))
        if found is None or found.content != manifest.content:
            raise ContentError(
                f"{self.host}/{repository}@{manifest.digest}: expected the manifest at the "
                f"registry, got {'other bytes' if found else 'nothing'}",
                hint=_HINT,
            )

    def _ask(self, place: Place, blob: Blob) -> None:
        size = self.registry.blob_size(place.repository, place.digest)
        if size != blob.size:
            raise ContentError(
                f"{self.host}/{place.repository}: blob {blob.digest}: expected {blob.size} bytes "
                f"at the registry, got {'nothing' if size is None else f'{size} bytes'}",
                hint=_HINT,
            )

    def _read(self, item: str, place: Place, blob: Blob) -> None:
        whole = hashlib.sha256()
        for chunk in self.registry.read_blob(place.repository, blob.digest, blob.size):
            if self.stop.is_set():
                raise StoppedError(f"{place.repository}: not read back, since other work failed")
            whole.update(chunk)
            self.emit(Advanced(item, len(chunk)))
        got = Digest(whole.hexdigest())
        if got != blob.digest:
            raise ContentError(
                f"{self.host}/{place.repository}: expected blob {blob.digest} at the registry, "
                f"got {got}",
                hint=DAMAGED_HINT,
            )
