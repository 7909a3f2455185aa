"""Temporary files of killed writers: found by name, known by a lock that nobody holds."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

# What the standard library puts between a prefix and a suffix.
_RANDOM = "[a-z0-9_]{8}"


def hold(descriptor: int) -> None:
    """Keep a temporary file from being taken for a leftover, until it is closed or we die."""
    with suppress(OSError):  # a file system without locks: there nothing is ever removed
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(directory: Path, *, prefix: str, suffix: str) -> None:
    """Remove temporary files whose writer is gone; whatever cannot be removed stays."""
    pattern = re.compile(re.escape(prefix) + _RANDOM + re.escape(suffix))
    with suppress(OSError), os.scandir(directory) as entries:
        names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
        for name in names:
            remove_unheld(directory / name)


def remove_unheld(path: Path) -> None:
    """Remove a temporary file if its writer is gone; what cannot be removed stays."""
    with suppress(OSError):
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        finally:
            os.close(descriptor)
