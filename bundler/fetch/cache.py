"""Checkpoints that the pods of one node share: fetched once, given to each as plain files.

``<cache>/<identity>/`` holds the files of one checkpoint, under their paths. Whoever wants them
holds the lock of that directory, proves what is there, and brings what is missing; who comes second
waits, and then finds everything. The lock of a run that is killed goes with it, and the next one
goes on where it ended. Nothing believes the directory: each run hashes what it takes from there.

Each pod gets files of its own names, so that an entry of the cache may be removed at any time
without harm to a server that runs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from bundler.archive.held_directory import HeldDirectory
from bundler.archive.sharing import CANNOT, clone
from bundler.archive.trouble import blaming
from bundler.errors import MalformedError, WorldError
from bundler.events import Emit, Started
from bundler.fetch.download import bring, threads_from_disk
from bundler.fetch.wanted import Gap
from bundler.sizes import size_text

Way = Literal["link", "clone", "copy"]
_WAYS: Sequence[Way] = ("link", "clone", "copy")

_PROBE, _PROBE_BYTES = ".bundle-probe.partial", 4096
_COPY_HINT = "the cache changed while it was read: run again"
_BLOCK = 512  # what stat(2) counts in


def check_apart(cache: Path, destination: Path) -> None:
    """Refuse a cache and a destination that lie in each other.

    Raises:
        MalformedError: They do.
    """
    one, other = cache.resolve(), destination.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise MalformedError(
            f"--cache {cache} and {destination}: expected two directories, one not in the other"
        )


def find_way(entry: HeldDirectory, destination: HeldDirectory) -> Way:
    """Find out, with a small file, how files come from one directory to the other.

    A link costs nothing and shares what is in memory, but needs both in one mount: the volumes of
    a pod are mounts of their own. A clone (XFS, Btrfs) costs nothing either and needs only one
    file system. Otherwise the bytes are copied.
    """
    destination.remove(_PROBE)
    with entry.writing(_PROBE, os.O_CREAT | os.O_TRUNC) as probe, blaming(entry.path / _PROBE):
        os.write(probe, bytes(_PROBE_BYTES))
    try:
        if _link(entry, _PROBE, destination, _PROBE):
            return "link"
        return "clone" if _clone(entry, _PROBE, destination, _PROBE) else "copy"
    finally:
        for directory in (entry, destination):
            with suppress(WorldError):
                directory.remove(_PROBE)


def give(
    entry: HeldDirectory,
    gaps: Sequence[Gap],
    destination: HeldDirectory,
    *,
    way: Way,
    keep: bool,
    emit: Emit,
) -> Way:
    """Make files of a destination from those of an entry, which are right.

    Args:
        entry: Holds each of them.
        gaps: What the destination lacks.
        destination: Where.
        way: What ``find_way`` said; a dearer one is taken where it does not work for a file.
        keep: Whether what is copied stays in memory.
        emit: Told of each file, and of bytes where they are copied.

    Returns:
        The dearest way that was taken.

    Raises:
        ContentError: A file changed since it was proven; it is not there, all others are.
        WorldError: The disk failed, or is full.
    """
    ways = [_give(entry, gap, destination, way) for gap in gaps]
    destination.sync_parents(gap.file.path for gap in gaps)
    copies = [gap for gap, taken in zip(gaps, ways, strict=True) if taken == "copy"]
    for gap in copies:
        emit(Started("copy", gap.file.path, gap.missing))
    if copies:
        local = [Gap(replace(gap.file, key=gap.file.path), gap.parts) for gap in copies]
        bring(
            _Directory(entry),
            local,
            destination,
            keep=keep,
            emit=emit,
            hint=_COPY_HINT,
            parallel=threads_from_disk(),
        )
    return max(ways, key=_WAYS.index, default=way)


def others_hint(cache: Path, entry: Path) -> str:
    """Say which entries of a cache, but for one of them, could make room."""
    found = sorted(path for path in cache.iterdir() if path.is_dir() and path.name != entry.name)
    if not found:
        return "make the file system of the cache larger, or free space there"
    named = ", ".join(f"{path} ({size_text(_held(path))})" for path in found)
    return f"remove what no pod will need again: {named}"


def _held(directory: Path) -> int:
    """Give the bytes that an entry takes; about as many, where another pod is at work there."""
    held = 0
    with suppress(OSError):
        for path in directory.rglob("*"):
            with suppress(OSError):
                held += path.lstat().st_blocks * _BLOCK
    return held


def _give(entry: HeldDirectory, gap: Gap, destination: HeldDirectory, way: Way) -> Way:
    """Link or clone one file; where neither works nothing is changed."""
    name = PurePosixPath(gap.file.path)
    temporary = str(name.with_name(_PROBE))
    destination.remove(temporary)
    if way == "link" and _link(entry, gap.file.path, destination, temporary):
        taken: Way = "link"
    elif way != "copy" and _clone(entry, gap.file.path, destination, temporary):
        taken = "clone"
    else:
        return "copy"
    destination.rename(temporary, name.name)
    destination.remove(gap.file.partial)
    return taken


def _link(entry: HeldDirectory, name: str, destination: HeldDirectory, new: str) -> bool:
    with blaming(destination.path / new):
        try:
            entry.link(name, destination, new)
        except OSError as error:
            if error.errno in CANNOT:
                return False
            raise
    return True


def _clone(entry: HeldDirectory, name: str, destination: HeldDirectory, new: str) -> bool:
    with (
        entry.reader(name) as source,
        destination.writing(new, os.O_CREAT) as descriptor,
        blaming(destination.path / new),
    ):
        os.fchmod(descriptor, stat.S_IMODE(source.status.st_mode))
        if not clone(source.fileno(), descriptor):
            destination.remove(new)
            return False
    return True


class _Directory:
    """A directory as a source of parts; a key is a path in it."""

    def __init__(self, root: HeldDirectory) -> None:
        self._root = root

    def read(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        """Stream ``length`` bytes from ``offset``."""
        with self._root.reader(key) as reader:
            yield from reader.pieces(offset, length)
