"""Whether a file keeps still while it is read, and whether anybody is about to write to it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bundler.archive.trouble import blaming
from bundler.errors import ContentError, printable

_FIELDS = ("st_size", "st_mtime_ns", "st_ino", "st_dev")


def settle(descriptor: int, real: Path) -> os.stat_result:
    """Say what a file is, so that whatever is written to it from here on shows in its times.

    A store through a memory map shows only where it meets a page that is flushed, so what somebody
    may have mapped is flushed. On file systems without a disk (tmpfs) such a store never shows.

    Raises:
        WorldError: The file's disk fails.
    """
    with blaming(real):
        status = os.fstat(descriptor)  # before the flush: a store during it is one that shows
        if has_writer(descriptor) is not False:
            _flush(descriptor)
    return status


def has_writer(descriptor: int) -> bool | None:
    """Say whether anybody has a file open for writing, or mapped so; None where nobody can tell.

    Asked by way of a lease, which the kernel gives only where nobody has; and which it gives to
    nobody where a file is another user's or its file system knows of none.
    """
    # Who opens the file while we hold the lease has us told: by a signal that is ignored, then.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:  # most others say that there is nothing to flush to
        if error.errno == errno.EIO:
            raise


def require_unchanged(path: str, real: Path, before: os.stat_result, descriptor: int) -> None:
    """Demand that a file is as ``settle`` saw it.

    The time of status change counts too, as tools set the other one back; but not where a link was
    made or removed meanwhile, which changes it as well.

    Args:
        path: What the file is called in its checkpoint.
        real: Where it is.
        before: What it was.
        descriptor: The file that was read.

    Raises:
        ContentError: It changed, or is another file now.
        WorldError: It is gone.
    """
    with blaming(real):
        named = real.stat()
    for now in (os.fstat(descriptor), named):
        fields = _FIELDS if now.st_nlink != before.st_nlink else (*_FIELDS, "st_ctime_ns")
        for field in fields:
            was, got = getattr(before, field), getattr(now, field)
            if was != got:
                raise changed(path, real, f"expected {field} {was}, got {got}")


@contextmanager
def keeping_still(name: str, real: Path) -> Iterator[None]:
    """Refuse a file, called ``name``, that changes while the block has others read it.

    Raises:
        ContentError: It changed, or is another file now.
        WorldError: It cannot be opened, or is gone.
    """
    with blaming(real):
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = settle(descriptor, real)
        yield
        require_unchanged(name, real, before, descriptor)
    finally:
        os.close(descriptor)


def changed(path: str, real: Path, how: str) -> ContentError:
    """Say that a file was written to while it was read."""
    return ContentError(
        f"{printable(path)}: {printable(str(real))} changed while it was read: {how}",
        hint="let nothing write there while a release is built, and run again",
    )
