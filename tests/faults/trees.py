"""What lies in a directory, and what must not lie there."""

from __future__ import annotations

import fnmatch
import hashlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

Tree = Mapping[str, str]


def tree(root: Path, *, varies: Sequence[str] = (), unseen: Sequence[str] = ()) -> Tree:
    """Give kind, mode and digest of all that lies below a directory.

    Args:
        root: The directory.
        varies: Patterns of files that are never twice the same: of them it is asked only whether
            they are there.
        unseen: Patterns of what is not asked for at all, unless its name is a temporary one.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if _matches(name, unseen) and not is_temporary(name):
            continue
        found[name] = "file" if _matches(name, varies) and path.is_file() else _what(path)
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _what(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"link to {path.readlink()}"
    if stat.S_ISDIR(mode):
        return f"directory {stat.S_IMODE(mode):o}"
    return f"file {stat.S_IMODE(mode):o} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def is_temporary(name: str) -> bool:
    """Say whether a name, or a directory on the way, is one that nobody takes for a final one."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


@dataclass(frozen=True, slots=True)
class Trees:
    """What a place is before a job, and after a clean run of it."""

    before: Tree
    after: Tree

    def faults_of_stop(self, now: Tree) -> Iterator[str]:
        """Name what is not whole under a final name after a run that did not end well."""
        for name, what in now.items():
            if is_temporary(name):
                continue
            right = {self.before.get(name), self.after.get(name)} - {None}
            if what not in right and not (what.startswith("directory") and right):
                yield f"{name}: {what} under a final name, expected {sorted(map(str, right))}"
        for name, what in self.before.items():
            if name not in now:
                yield f"{name}: {what} is gone"

    def without_temporary(self, now: Tree) -> Tree:
        """Leave out what only a run that did not end well leaves."""
        return {
            name: what for name, what in now.items() if name in self.after or not is_temporary(name)
        }

    def faults_of_end(self, now: Tree) -> Iterator[str]:
        """Name what differs from a clean run."""
        for name in sorted({*self.after, *now}):
            if self.after.get(name) != now.get(name):
                yield f"{name}: {now.get(name)} after the rerun, {self.after.get(name)} expected"
