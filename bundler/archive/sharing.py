"""One file under two names or in two files without copying its bytes, where that can be."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Literal

from bundler.archive.descriptors import open_descriptor
from bundler.archive.trouble import blaming

# Source: Linux, include/uapi/linux/fs.h, FICLONE.
_FICLONE = 0x40049409
_MODE = 0o644
CANNOT = {
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.EOPNOTSUPP,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
}


def share(source: Path, target: Path, *, link: bool) -> Literal["linked", "cloned"] | None:
    """Make a new file of the same bytes at no cost, or do nothing where no way is open.

    A clone (XFS, Btrfs) is a file of its own that shares blocks until one of the two is written
    to. A link is the same file: who writes into one writes into both.

    Args:
        source: A regular file, not a link.
        target: Where nothing is yet; its directory exists.
        link: Whether a link will do, where there is no clone.

    Raises:
        WorldError: The disk refuses for another reason than that it cannot.
    """
    with blaming(target):
        if _clone(source, target):
            return "cloned"
        return "linked" if link and _link(source, target) else None


def clone(source: int, target: int) -> bool:
    """Have an empty file share the blocks of another; False where the file system cannot.

    Args:
        source: Descriptor of the one.
        target: Of the empty one, which is flushed to the disk.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in CANNOT:
            return False
        raise
    os.fsync(target)
    return True


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in CANNOT:
            return False
        raise
    return True


def _clone(source: Path, target: Path) -> bool:
    descriptor = open_descriptor(source)
    made = False
    try:
        with target.open("xb") as file:
            os.fchmod(file.fileno(), _MODE)
            made = clone(descriptor, file.fileno())
    finally:
        os.close(descriptor)
        if not made:
            target.unlink(missing_ok=True)
    return made
