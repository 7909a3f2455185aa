"""How the files of checkpoints stand in a bucket, compared with what was signed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bundler.manifest import CheckpointFile
from bundler.publish.inventory import Inventory
from bundler.publish.objects import first_wrong_part
from bundler.publish.status import Finding, Standing, Subject
from bundler.publish.together import for_each
from bundler.reference import S3Prefix
from bundler.stores.base import ObjectStore, StoredObject
from bundler.stores.judgement import Sameness, judge

T = TypeVar("T")

_THREADS = 24
_STANDINGS = {
    Sameness.SAME: Standing.PRESENT,
    Sameness.OTHER: Standing.DIFFERENT,
    Sameness.UNKNOWN: Standing.UNPROVEN,
}
_WHOSE = "stored by somebody else, without our checksum: --read-back tells"


def judge_object(
    key: str,
    file: CheckpointFile,
    found: StoredObject | None,
    *,
    group: str,
    has_checksum: bool = False,
) -> Finding:
    """Compare what a store says of an object with what was signed of a checkpoint's file.

    A checksum that is not ours counts as different, though the same bytes in other parts have
    another one, and so does none where publish would have left one: only reading tells, and nobody
    is to take for whole what perhaps is not.

    Args:
        key: Of the object.
        file: What was signed.
        found: What the store says; None where nothing is there.
        group: Address of the checkpoint.
        has_checksum: Whether the store keeps a checksum of what publish puts there in as many
            parts: of one, or of several.
    """
    standing, detail = Standing.MISSING, ""
    if found is not None:
        judged = judge(found, file.size, file.parts, file.digest)
        standing, detail = _STANDINGS[judged.sameness], judged.detail
        if standing is Standing.UNPROVEN and found.checksum is not None:
            standing, detail = Standing.DIFFERENT, f"{detail}: --read-back tells"
        elif standing is Standing.UNPROVEN and has_checksum:
            standing, detail = Standing.DIFFERENT, _WHOSE
    return Finding(
        subject=Subject.CHECKPOINT_FILE, name=key, standing=standing, detail=detail, group=group
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLook:
    """Looks at the files of checkpoints.

    Attributes:
        store: Where they are.
        inventory: What was listed there.
        manifest_key: Of an object that publish puts there in one part.
        read_back: Read an object whole where no checksum proves it.
    """

    store: ObjectStore
    inventory: Inventory
    manifest_key: str
    read_back: bool

    def findings(self, work: Sequence[tuple[S3Prefix, CheckpointFile]]) -> list[Finding]:
        """Judge some files, each with the place of its checkpoint; in their order."""
        stored = dict(_at_once(self._head, work))
        keeps = self._keeps_checksums(stored)

        def look(item: tuple[S3Prefix, CheckpointFile]) -> tuple[str, Finding]:
            place, file = item
            key = place.key(file.path)
            has_checksum = keeps[len(file.parts) > 1]
            found = stored[key]
            finding = judge_object(key, file, found, group=str(place), has_checksum=has_checksum)
            alike = found is not None and found.size == file.size
            if self.read_back and alike and finding.standing is not Standing.PRESENT:
                finding = self._read(finding, file)
            return key, finding

        judged = dict(_at_once(look, work))
        return [judged[place.key(file.path)] for place, file in work]

    def _head(self, item: tuple[S3Prefix, CheckpointFile]) -> tuple[str, StoredObject | None]:
        place, file = item
        held = self.inventory.checkpoints.get(str(place))
        key = place.key(file.path)
        there = held is not None and file.path in held.objects
        return key, self.store.head(key) if there else None

    def _keeps_checksums(self, stored: Mapping[str, StoredObject | None]) -> tuple[bool, bool]:
        """Say whether the store keeps checksums of objects of one part, and of several.

        Some keep one of the first kind alone, so each kind is judged by objects of its own.
        """
        found = [item.checksum for item in stored.values() if item is not None]
        of_several = any("-" in checksum for checksum in found if checksum)
        of_one = any("-" not in checksum for checksum in found if checksum)
        if None in found and not of_one:
            manifest = self.store.head(self.manifest_key)
            of_one = manifest is not None and manifest.checksum is not None
        return of_one, of_several

    def _read(self, finding: Finding, file: CheckpointFile) -> Finding:
        wrong = first_wrong_part(self.store, finding.name, file)
        standing = Standing.DIFFERENT if wrong else Standing.PRESENT
        return replace(finding, standing=standing, detail=wrong or "read back")


def _at_once(
    look: Callable[[tuple[S3Prefix, CheckpointFile]], tuple[str, T]],
    work: Iterable[tuple[S3Prefix, CheckpointFile]],
) -> list[tuple[str, T]]:
    found: list[tuple[str, T]] = []
    for_each(lambda item: found.append(look(item)), work, threads=_THREADS, stop=threading.Event())
    return found
