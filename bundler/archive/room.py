"""Room on a disk, known to be there before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

from bundler.archive.hashing import hashing_text, probe_hashing
from bundler.archive.trouble import blaming
from bundler.errors import WorldError, printable
from bundler.sizes import size_text


def require_room(directory: Path, need: int, *, hint: str) -> int:
    """Refuse to begin what a disk will not hold; a file system that cannot say is believed.

    Returns:
        The bytes that are free.

    Raises:
        WorldError: It has less than ``need`` bytes; the message has both numbers.
    """
    with blaming(directory):
        disk = os.statvfs(directory)
    have = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and need > have:
        raise WorldError(
            f"{printable(str(directory))}: {size_text(need)} still to come, {size_text(have)} free",
            hint=hint,
        )
    return have


def work_text(place: Path, size: int, free: int, *, hashed: int) -> str:
    """Tell before work begins what it will take; the time is the least that hashing alone takes.

    Args:
        place: The directory.
        size: Bytes to write there.
        free: Bytes that are free there.
        hashed: Bytes to hash.
    """
    hashing = hashing_text(hashed / probe_hashing())
    return f"{printable(str(place))}: {size_text(size)} to write, {size_text(free)} free{hashing}"
