"""What the operating system refuses, told as our errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from bundler.errors import DeniedError, MediumError, NotFoundError, WorldError, printable

_FULL_HINT = "free space there, or choose another place, and run again"
_TROUBLE: dict[int | None, tuple[type[WorldError], str, str | None]] = {
    errno.ENOENT: (NotFoundError, "no such file or directory", None),
    errno.ENOTDIR: (NotFoundError, "a directory on the way is a file", None),
    errno.EACCES: (DeniedError, "permission denied", None),
    errno.EPERM: (DeniedError, "operation not permitted", None),
    errno.ENOSPC: (WorldError, "no space left on its file system", _FULL_HINT),
    errno.EDQUOT: (WorldError, "no space left in the disk quota", _FULL_HINT),
    errno.EFBIG: (
        WorldError,
        "larger than a file may be there",
        "choose another file system (FAT takes 4 GiB a file), or raise `ulimit -f`",
    ),
    errno.EIO: (
        MediumError,
        "input/output error",
        "the disk or medium fails there; use another copy",
    ),
}


def world_error(where: object, error: OSError) -> WorldError:
    """Tell what the operating system refused, with the path (or path and offset) in front."""
    fallback = (WorldError, (error.strerror or str(error)).lower(), None)
    kind, problem, hint = _TROUBLE.get(error.errno, fallback)
    return kind(f"{printable(str(where))}: {problem}", hint=hint)


@contextmanager
def blaming(where: object) -> Iterator[None]:
    """Turn an OSError of the block into a WorldError that names ``where``."""
    try:
        yield
    except OSError as error:
        raise world_error(where, error) from error
