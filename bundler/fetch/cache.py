"""Checkpoints that the pods of one node share: fetched once, given to each as plain files.

``<cache>/<identity>/`` holds the files of one checkpoint, under their paths. Whoever wants them
holds the lock of that directory, proves what is there, and brings what is missing; who comes second
waits, and then finds everything. The lock of a run that is killed goes with it, and the next one
goes on where it ended. Nothing believes the directory: each run hashes what it takes from there.

Each pod gets files of its own names, so that an entry of the cache may be removed at any time
without harm to a server that runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from bundler.archive.files import READ_BYTES, RandomReader, open_regular, sync_directory
from bundler.archive.trouble import blaming
from bundler.errors import MalformedError
from bundler.events import Emit, Finished, Started
from bundler.fetch.download import bring
from bundler.fetch.room import open_partial
from bundler.fetch.wanted import Gap
from bundler.sizes import size_text

Way = Literal["link", "clone", "copy"]
_WAYS: Sequence[Way] = ("link", "clone", "copy")

# Source: Linux, include/uapi/linux/fs.h, FICLONE.
_FICLONE = 0x40049409
_CANNOT = {
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
}
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


def find_way(entry: Path, destination: Path) -> Way:
    """Find out, with a small file, how files come from one directory to the other.

    A link costs nothing and shares what is in memory, but needs both in one mount: the volumes of
    a pod are mounts of their own. A clone (XFS, Btrfs) costs nothing either and needs only one
    file system. Otherwise the bytes are copied.
    """
    probe, target = entry / _PROBE, destination / _PROBE
    with blaming(probe):
        probe.write_bytes(bytes(_PROBE_BYTES))
    try:
        with blaming(target):
            if _link(probe, target):
                return "link"
            return "clone" if _clone(probe, target) else "copy"
    finally:
        for path in (probe, target):
            with suppress(OSError):
                path.unlink()


def give(
    entry: Path, gaps: Sequence[Gap], destination: Path, *, way: Way, keep: bool, emit: Emit
) -> Way:
    """Make files of a destination from those of an entry, which are right.

    Args:
        entry: Holds each of them.
        gaps: What the destination lacks.
        destination: Where; held by the caller.
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
    for parent in sorted({(destination / gap.file.path).parent for gap in gaps}):
        sync_directory(parent)
    copies = [gap for gap, taken in zip(gaps, ways, strict=True) if taken == "copy"]
    for gap, taken in zip(gaps, ways, strict=True):
        emit(Started("copy", gap.file.path, gap.missing) if taken == "copy" else _done(gap))
    if copies:
        local = [Gap(replace(gap.file, key=gap.file.path), gap.parts) for gap in copies]
        bring(_Directory(entry), local, destination, keep=keep, emit=emit, hint=_COPY_HINT)
    return max(ways, key=_WAYS.index, default=way)


def _done(gap: Gap) -> Finished:
    return Finished(gap.file.path)


def others_hint(cache: Path, entry: Path) -> str:
    """Say which other entries of a cache could make room."""
    found = sorted(path for path in cache.iterdir() if path.is_dir() and path.name != entry.name)
    if not found:
        return "make the file system of the cache larger, or free space there"
    named = ", ".join(f"{path} ({size_text(_held(path))})" for path in found)
    return f"remove what no pod will need again: {named}"


def _held(directory: Path) -> int:
    files = (path.lstat() for path in directory.rglob("*"))
    return sum(status.st_blocks * _BLOCK for status in files)


def _give(entry: Path, gap: Gap, destination: Path, way: Way) -> Way:
    """Link or clone one file; where neither works nothing is changed."""
    source, final = entry / gap.file.path, destination / gap.file.path
    temporary = final.with_name(_PROBE)
    with blaming(final):
        temporary.unlink(missing_ok=True)
        if way == "link" and _link(source, temporary):
            taken: Way = "link"
        elif way != "copy" and _clone(source, temporary):
            taken = "clone"
        else:
            return "copy"
        temporary.replace(final)
        (destination / gap.file.partial).unlink(missing_ok=True)
    return taken


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _clone(source: Path, target: Path) -> bool:
    with open_partial(target, os.O_CREAT) as descriptor, open_regular(source) as file:
        try:
            fcntl.ioctl(descriptor, _FICLONE, file.fileno())
        except OSError as error:
            if error.errno in _CANNOT:
                target.unlink()
                return False
            raise
        os.fsync(descriptor)
    return True


class _Directory:
    """A directory as a source of parts; a key is a path in it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """Stream ``length`` bytes from ``offset``."""
        with RandomReader(Path(key), root=self._root) as reader:
            for done in range(0, length, READ_BYTES):
                yield reader.read_at(offset + done, min(READ_BYTES, length - done))
