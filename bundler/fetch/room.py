"""Room on the disk: known to be there before anything is fetched, and then held."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bundler.archive.held_directory import HeldDirectory
from bundler.archive.trouble import blaming
from bundler.errors import WorldError, printable
from bundler.fetch.wanted import Gap
from bundler.sizes import size_text

_HINT = "make the volume larger, or free space on the node's disk"
_BLOCK = 512  # what stat(2) counts in
_PROBE_BYTES = 1 << 20


def check_room(
    asked: Sequence[tuple[HeldDirectory, Sequence[Gap]]],
    *,
    hint: str | Callable[[], str] = _HINT,
) -> None:
    """Refuse to begin what the disks will not hold; what partial files hold already counts.

    Args:
        asked: Directories, and what each is to take; two may be on one file system.
        hint: What to do where there is too little; or what finds that out.

    Raises:
        WorldError: There is too little room; the message has what is needed and what is there.
    """
    needs: dict[int, tuple[list[HeldDirectory], int]] = {}
    for directory, gaps in asked:
        places, need = needs.get(directory.device, ([], 0))
        more = sum(_need(directory, gap) for gap in gaps)
        needs[directory.device] = ([*places, directory], need + more)
    for places, need in needs.values():
        disk = places[0].room()
        have = disk.f_bavail * disk.f_frsize
        if disk.f_blocks and need > have:  # some that are on a network cannot say
            names = printable(" and ".join(str(place.path) for place in places))
            raise WorldError(
                f"{names}: {size_text(need)} still to come, {size_text(have)} free",
                hint=hint if isinstance(hint, str) else hint(),
            )


def _need(directory: HeldDirectory, gap: Gap) -> int:
    """Give what a file will take beyond what its partial file takes already."""
    found = directory.status(gap.file.partial)
    return max(0, gap.file.size - (found.st_blocks * _BLOCK if found else 0))


def reserve(gaps: Sequence[Gap], directory: HeldDirectory) -> None:
    """Make each partial file in its full length, and take its room on the disk.

    Raises:
        MalformedError: Something else than a regular file is in its place.
        WorldError: The disk is full after all; what holds nothing that is proven is removed again.
    """
    for number, gap in enumerate(gaps):
        try:
            with directory.writing(gap.file.partial, os.O_CREAT) as descriptor:
                _extend(descriptor, directory.path / gap.file.partial, gap.file.size)
        except WorldError:
            for empty in gaps[: number + 1]:
                if len(empty.parts) == len(empty.file.cut):
                    with suppress(WorldError):
                        directory.remove(empty.file.partial)
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
