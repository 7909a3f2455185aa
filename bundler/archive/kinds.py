"""What lies under a name, told without following a link."""

from __future__ import annotations

import stat

FILE, DIRECTORY, LINK = "a file", "a directory", "a symbolic link"
NOTHING = "nothing"
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: LINK}


def kind_of(mode: int) -> str:
    """Name the kind of file that ``lstat`` found, for a person."""
    return _KINDS.get(stat.S_IFMT(mode), "a device, pipe or socket")
