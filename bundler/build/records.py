"""What was found out before, in files. No trouble with them ends a build: it is noted.

Records are trusted only in a directory of their owner to which nobody else may write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from bundler.archive.files import atomic_write_bytes, read_limited
from bundler.archive.leftovers import remove_unheld
from bundler.archive.trouble import blaming
from bundler.errors import BundleError, DeniedError, NotFoundError, printable
from bundler.events import Emit, Noted

T = TypeVar("T")
MAX_RECORDS = 64
MAX_RECORD_BYTES = 64 << 20


class Records:
    """Files by their keys; the oldest go when there are more than ``MAX_RECORDS``.

    Args:
        directory: Made when the first one is kept.
        emit: Told of trouble.
    """

    def __init__(self, directory: Path, emit: Emit) -> None:
        self._directory = directory
        self._emit = emit

    def find(self, key: str, decode: Callable[[bytes, str], T]) -> T | None:
        """Read a record; None where there is none, or none that can be read.

        Args:
            key: Names it: hex.
            decode: Makes a value of its bytes; the second is what to call it in an error.
        """
        path = self._path(key)
        try:
            _require_ours(self._directory)
            return decode(read_limited(path, limit=MAX_RECORD_BYTES), str(path))
        except NotFoundError:
            return None
        except BundleError as error:
            self._emit(Noted(f"cache: {error}; it is not used"))
            return None

    def keep(self, key: str, content: bytes) -> None:
        """Write a record down, whole or not at all, and drop what killed writers left."""
        try:
            with blaming(self._directory):
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_ours(self._directory)
            atomic_write_bytes(self._path(key), content, mode=0o600)
            self._drop_old()
        except BundleError as error:
            self._emit(Noted(f"cache: {error}; what was found out is not kept"))

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.json"

    def _drop_old(self) -> None:
        for path in self._directory.glob(".*.partial"):
            remove_unheld(path)
        ages = []
        for path in self._directory.glob("*.json"):
            with suppress(FileNotFoundError):  # another build drops it too
                ages.append((path.lstat().st_mtime_ns, path))
        for _, path in sorted(ages, reverse=True)[MAX_RECORDS:]:
            with suppress(FileNotFoundError):
                path.unlink()


def _require_ours(directory: Path) -> None:
    with blaming(directory):
        status = directory.lstat()
    others = stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or others:
        raise DeniedError(
            f"{printable(str(directory))}: expected a directory of ours that nobody else writes to"
        )
