"""Whether a file keeps still while it is read, and whether anybody is about to write to it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

from bundler.archive.trouble import blaming
from bundler.errors import ContentError, printable

_FIELDS = ("st_size", "st_mtime_ns", "st_ino", "st_dev")


def settle(descriptor: int, real: Path) -> os.stat_result:
    """Flush what was written to a file, also through memory maps, and say what it is then.

    A store through a map shows in the times of a file only where it meets a page that is flushed.
    So from here on the next store shows, but on file systems without a disk behind them (tmpfs).

    Raises:
        WorldError: Its disk fails.
    """
    with blaming(real):
        try:
            os.fsync(descriptor)
        except OSError as error:  # most others say that there is nothing to flush to
            if error.errno == errno.EIO:
                raise
        return os.fstat(descriptor)


def has_writer(descriptor: int) -> bool:
    """Say whether anybody has a file open for writing, or mapped so.

    Asked by way of a lease, which the kernel gives only where nobody has. It gives none either
    where a file is not ours or its file system has no leases: there the answer is no.
    """
    # Who opens the file while we hold the lease has us told: by a signal that is ignored, then.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


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


def changed(path: str, real: Path, how: str) -> ContentError:
    """Say that a file was written to while it was read."""
    return ContentError(
        f"{printable(path)}: {printable(str(real))} changed while it was read: {how}",
        hint="let nothing write there while a release is built, and run again",
    )
