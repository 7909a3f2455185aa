"""Room on the disk: known to be there before anything is fetched, and then held."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bundler.archive.trouble import blaming
from bundler.errors import MalformedError, WorldError, printable
from bundler.fetch.wanted import Gap
from bundler.sizes import size_text

_HINT = "make the volume larger, or free space on the node's disk"
_BLOCK = 512  # what stat(2) counts in
_PROBE_BYTES = 1 << 20


def check_room(asked: Sequence[tuple[Path, Sequence[Gap]]], *, hint: str = _HINT) -> None:
    """Refuse to begin what the disks will not hold; what partial files hold already counts.

    Args:
        asked: Directories, and what each is to take; two may be on one file system.
        hint: What to do where there is too little.

    Raises:
        WorldError: There is too little room; the message has what is needed and what is there.
    """
    needs: dict[int, tuple[list[Path], int]] = {}
    for directory, gaps in asked:
        with blaming(directory):
            device = directory.stat().st_dev
        places, need = needs.get(device, ([], 0))
        more = sum(_need(directory, gap) for gap in gaps)
        needs[device] = ([*places, directory], need + more)
    for places, need in needs.values():
        with blaming(places[0]):
            disk = os.statvfs(places[0])
        have = disk.f_bavail * disk.f_frsize
        if need > have:
            names = " and ".join(map(str, places))
            raise WorldError(
                f"{names}: {size_text(need)} still to come, {size_text(have)} free", hint=hint
            )


def _need(directory: Path, gap: Gap) -> int:
    """Give what a file will take beyond what its partial file takes already."""
    try:
        taken = (directory / gap.file.partial).lstat().st_blocks * _BLOCK
    except FileNotFoundError:
        taken = 0
    return max(0, gap.file.size - taken)


def reserve(gaps: Sequence[Gap], directory: Path) -> None:
    """Make each partial file in its full length, and take its room on the disk.

    Raises:
        MalformedError: Something else than a regular file is in its place.
        WorldError: The disk is full after all; what holds nothing that is proven is removed again.
    """
    for number, gap in enumerate(gaps):
        try:
            with open_partial(directory / gap.file.partial, os.O_CREAT) as descriptor:
                _extend(descriptor, directory / gap.file.partial, gap.file.size)
        except WorldError:
            for empty in gaps[: number + 1]:
                if len(empty.parts) == len(empty.file.cut):
                    with suppress(OSError):
                        (directory / empty.file.partial).unlink()
            raise


def _extend(descriptor: int, partial: Path, size: int) -> None:
    with blaming(partial):
        if size and _allocates(descriptor, size):
            os.posix_fallocate(descriptor, 0, size)
        os.ftruncate(descriptor, size)


def _allocates(descriptor: int, size: int) -> bool:
    """Say whether the file system reserves room without writing to it.

    Where it cannot, the C library writes into every block instead, which would take as long as the
    fetch. So a file is tried whose bytes were written by nobody: reserved room reads as a hole.
    """
    if os.fstat(descriptor).st_blocks:
        return False  # an earlier run took its room
    probe = min(size, _PROBE_BYTES)
    try:
        os.posix_fallocate(descriptor, 0, probe)
        return os.lseek(descriptor, 0, os.SEEK_DATA) >= probe
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            return False
        if error.errno == errno.ENXIO:
            return True
        raise


@contextmanager
def open_partial(partial: Path, flags: int = 0) -> Iterator[int]:
    """Open a regular file to write to; never wait for the other end of what is none."""
    flags |= os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with blaming(partial):
        descriptor = os.open(partial, flags, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MalformedError(f"{printable(str(partial))}: expected a regular file")
        yield descriptor
    finally:
        os.close(descriptor)
