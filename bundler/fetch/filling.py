"""One run of fetch: what is right stays, what is missing comes, from S3 or through a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bundler.archive.files import make_directories
from bundler.archive.held_directory import HeldDirectory
from bundler.archive.room import work_text
from bundler.digest import Digest
from bundler.errors import printable
from bundler.events import Emit, Finished, Noted, Started
from bundler.fetch.cache import Way, check_apart, find_way, give, others_hint
from bundler.fetch.download import Source, bring
from bundler.fetch.locks import alone, in_turn, let_others
from bundler.fetch.memory import stays_in_memory
from bundler.fetch.room import check_room
from bundler.fetch.survey import survey
from bundler.fetch.wanted import File, Gap, check_names, missing_bytes

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a run did.

    Attributes:
        files, size: What is there now, and its bytes.
        kept: Bytes that were right at the destination already.
        cached: Bytes that were right in the cache already, of those that the destination lacked.
        received: Bytes that came from S3, those of retries not counted.
        way: How files came from the cache; None where nothing came from there.
    """

    files: int
    size: int
    kept: int
    cached: int = 0
    received: int = 0
    way: Way | None = None


class Filling:
    """Makes a directory hold some files.

    Args:
        source: Where they come from.
        files: What it is to hold.
        destination: The directory; made if need be.
        emit: Told of progress, from several threads.
    """

    def __init__(
        self, source: Source, files: Sequence[File], destination: Path, emit: Emit
    ) -> None:
        check_names(files)
        self._source = source
        self._files = files
        self._size = sum(file.size for file in files)
        self._destination = destination
        self._emit = emit
        self._keep = stays_in_memory(self._size)

    def directly(self) -> Fetched:
        """Bring what is missing from S3; raises as ``fetch_checkpoint`` does."""
        make_directories(self._destination)
        with alone(self._destination) as destination:
            gaps = self._look(destination)
            check_room([(destination, gaps)])
            self._begin(gaps, destination)
            bring(self._source, gaps, destination, keep=self._keep, emit=self._emit)
        self._name_others()
        received = missing_bytes(gaps)
        return Fetched(len(self._files), self._size, self._size - received, received=received)

    def through(self, cache: Path, identity: Digest) -> Fetched:
        """Bring what is missing by way of a cache; raises as ``fetch_checkpoint`` does."""
        check_apart(cache, self._destination)
        make_directories(self._destination)
        with alone(self._destination) as destination:
            gaps = self._look(destination)
            if gaps:
                make_directories(cache)
                fetched = self._take(gaps, cache, cache / identity.hex, destination)
            else:
                fetched = Fetched(len(self._files), self._size, self._size)
        self._name_others()
        return fetched

    def _take(
        self, gaps: list[Gap], cache: Path, place: Path, destination: HeldDirectory
    ) -> Fetched:
        wanted = [gap.file for gap in gaps]
        with in_turn(place, emit=self._emit) as entry:
            way = find_way(entry, destination)
            keep = self._keep and way == "link"  # only then the server reads these very files
            lacking = survey(wanted, entry, keep=keep, emit=self._emit)
            asked = [(entry, lacking), (destination, gaps)][: 2 if way == "copy" else 1]
            check_room(asked, hint=partial(others_hint, cache, place))
            self._begin(lacking, entry)
            bring(self._source, lacking, entry, keep=keep, emit=self._emit)
            let_others(entry)
            self._tell_cached(cache, wanted, lacking)
            way = give(entry, gaps, destination, way=way, keep=self._keep, emit=self._emit)
        received, needed = missing_bytes(lacking), sum(file.size for file in wanted)
        return Fetched(
            files=len(self._files),
            size=self._size,
            kept=self._size - needed,
            cached=needed - received,
            received=received,
            way=way,
        )

    def _look(self, destination: HeldDirectory) -> list[Gap]:
        gaps = survey(self._files, destination, keep=self._keep, emit=self._emit)
        missing = {gap.file.path for gap in gaps}
        for file in self._files:
            if file.path not in missing:
                self._emit(Started("fetch", file.path))
                self._emit(Finished(file.path, skipped=True))
        return gaps

    def _begin(self, gaps: Sequence[Gap], place: HeldDirectory) -> None:
        if gaps:
            disk, size = place.room(), missing_bytes(gaps)
            hashed = size if all(gap.file.provable for gap in gaps) else 0
            free = disk.f_bavail * disk.f_frsize
            self._emit(Noted(work_text(place.path, size, free, hashed=hashed)))
        for gap in gaps:
            self._emit(Started("fetch", gap.file.path, gap.missing))

    def _tell_cached(self, cache: Path, wanted: Sequence[File], lacking: Sequence[Gap]) -> None:
        fetched = {gap.file.path for gap in lacking}
        for file in wanted:
            if file.path not in fetched:
                self._emit(Noted(f"{file.path}: comes from the cache {cache}"))

    def _name_others(self) -> None:
        wanted = {file.path for file in self._files}
        paths = self._destination.rglob("*")
        found = (path for path in paths if path.is_symlink() or not path.is_dir())
        others = sorted({str(path.relative_to(self._destination)) for path in found} - wanted)
        for name in others[:_SHOWN]:
            self._emit(
                Noted(f"{self._destination}: {printable(name)} is not among the files; left alone")
            )
        if len(others) > _SHOWN:
            more = len(others) - _SHOWN
            self._emit(Noted(f"{self._destination}: and {more} other files; left alone"))
