"""The files below a directory that goes into a release."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.trouble import blaming
from bundler.errors import MalformedError, NotFoundError, printable
from bundler.events import Emit, Noted
from bundler.manifest import require_unique
from bundler.reference import relative_path

# What version control, downloaders and desktops leave behind.
_LEFT_OUT = frozenset({".git", ".gitattributes", ".gitignore", ".gitkeep", ".cache", ".DS_Store"})

_HINT = "paths in a spec are relative to the directory of the spec"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFile:
    """One file: its path below the directory, where its bytes are, how many, if by a link."""

    path: str
    real: Path
    size: int
    link: bool


def files_below(directory: Path, emit: Emit) -> list[TreeFile]:
    """List every file below a directory, sorted by the bytes of its path.

    Links to files are followed; files of version control and the like are left out and noted.

    Raises:
        NotFoundError: A link leads nowhere.
        MalformedError: There is no such directory; or there is a link to a directory, a device,
            or a path that not every file system can hold.
    """
    name = printable(str(directory))
    if not directory.is_dir():
        raise MalformedError(
            f"{name}: expected a directory, found none",
            hint=_HINT,
        )
    try:
        found = sorted(_walk(directory, "", emit), key=lambda file: file.path.encode())
        require_unique("path", (file.path for file in found))
    except ValueError as error:
        raise MalformedError(f"{name}: {printable(str(error))}") from error
    return found


def one_file(path: str, real: Path) -> TreeFile:
    """Look at a file that was named; raises as ``files_below`` does."""
    if not os.path.lexists(real):
        raise MalformedError(f"{printable(str(real))}: expected a file, found none", hint=_HINT)
    return _file(path, real)


def _walk(directory: Path, prefix: str, emit: Emit) -> Iterator[TreeFile]:
    with blaming(directory), os.scandir(directory) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    for entry in children:
        path, real = f"{prefix}{entry.name}", Path(entry.path)
        if entry.name in _LEFT_OUT:
            emit(Noted(f"left out: {printable(entry.path)}"))
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(real, f"{path}/", emit)
        else:
            yield _file(relative_path(path), real)


def _file(path: str, real: Path) -> TreeFile:
    shown = printable(str(real))
    link = real.is_symlink()
    try:
        with blaming(real):
            status = real.stat()
    except NotFoundError as error:
        raise NotFoundError(f"{shown}: a link to something that is not there") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a link to a directory" if link and real.is_dir() else "a device, pipe or socket"
        raise MalformedError(f"{shown}: expected a file, got {kind}")
    return TreeFile(path=path, real=real, size=status.st_size, link=link)
