"""Has files in memory, or not, before a tool reads them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bench.measure import FailureError

_PIECE = 1 << 20


def warm(files: Iterable[Path]) -> None:
    """Read files, so that what a disk costs is not compared; what was written before is flushed."""
    os.sync()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(_PIECE):
                pass


def chill(files: Iterable[Path]) -> None:
    """Drop files from memory.

    Raises:
        FailureError: A file stays there, as on a file system that lies in memory.
    """
    os.sync()  # what was not written cannot be dropped
    for path in files:
        with path.open("rb", buffering=0) as file:
            for pause in (0.0, 0.1, 0.5, 2.0):  # a page that somebody holds cannot be dropped
                time.sleep(pause)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                if not path.stat().st_size or not _is_warm(file.fileno()):
                    break
            else:
                raise FailureError(f"{path}: expected it on a disk, got it still in memory")


def _is_warm(descriptor: int) -> bool:
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return False  # this file system cannot say
    return True
