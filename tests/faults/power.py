"""What a power cut would leave: a file system that keeps only what was flushed, replayed.

The rule of POSIX alone is assumed: content is on the disk after fsync of its file, a name after
fsync of its directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.faults.calls import SHOWN
from tests.faults.jobs import JOBS, World
from tests.faults.trees import is_temporary
from tests.faults.verdict import faults_of_telling

_CALLS = (
    *("openat", "write", "pwrite64", "pwritev", "pwritev2", "copy_file_range", "ioctl"),
    *("ftruncate", "fallocate", "fsync", "fdatasync", "mkdir", "mkdirat"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir"),
)
_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")
_UNFINISHED = " <unfinished ...>"
_DESCRIPTOR = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>")
# A directory and a name below it, or a name alone; or a descriptor.
_PLACE = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_RESULT = re.compile(r"\) += (\d+)(?:<([^>]*)>)?[^)]*$")


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    text: str

    @property
    def places(self) -> list[str]:
        """The paths that it names."""
        return [os.path.normpath(Path(base, name)) for base, name in _PLACE.findall(self.text)]

    @property
    def descriptors(self) -> list[str]:
        """The paths of its descriptors, without the result."""
        return _DESCRIPTOR.findall(self.text.rpartition(" = ")[0])

    @property
    def opened(self) -> str:
        """The path of the descriptor that it gave."""
        found = _RESULT.search(self.text)
        return (found and found[2]) or ""


def _calls(text: str) -> Iterator[_Call]:
    """Give the calls that succeeded, at their ends."""
    begun: dict[tuple[str, str], str] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        thread, name, rest = found.groups()
        if rest.endswith(_UNFINISHED):
            begun[thread, name] = rest.removesuffix(_UNFINISHED)
            continue
        whole = begun.pop((thread, name), "") + rest
        if _RESULT.search(whole):
            yield _Call(name, whole)


@dataclass
class Disk:
    """What of a directory would survive.

    Attributes:
        root: The directory; it and all in it is on the disk at first.
        faults: What was named before it was flushed.
    """

    root: Path
    faults: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _inodes: dict[str, int] = field(default_factory=dict)
    _dirty: set[int] = field(default_factory=set)
    _names: set[tuple[int, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for path in [self.root, *self.root.rglob("*")]:
            self._inodes[str(path)] = next(self._numbers)

    def replay(self, text: str) -> None:
        """Take in what strace wrote."""
        effects: Mapping[str, Callable[[_Call], None]] = {
            "openat": self._open,
            **dict.fromkeys(("mkdir", "mkdirat"), lambda call: self._appears(call.places[0])),
            **dict.fromkeys(("rename", "renameat", "renameat2"), self._rename),
            **dict.fromkeys(("link", "linkat"), self._link),
            **dict.fromkeys(("unlink", "unlinkat", "rmdir"), self._remove),
            **dict.fromkeys(("fsync", "fdatasync"), self._flush),
            "copy_file_range": lambda call: self._write(call.descriptors[1]),
            "ioctl": self._clone,
        }
        for call in _calls(text):
            effects.get(call.name, self._change)(call)

    def lost(self) -> Iterator[str]:
        """Name what a power cut now would take, of what has a final name."""
        for path, inode in sorted(self._inodes.items()):
            if self._is_final(path):
                if inode in self._dirty:
                    yield f"{self._short(path)}: its content is not on the disk in the end"
                if (self._inodes.get(str(Path(path).parent)), Path(path).name) in self._names:
                    yield f"{self._short(path)}: its name is not on the disk in the end"

    def _short(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def _is_final(self, path: str) -> bool:
        below = path.startswith(f"{self.root}/")
        return below and not is_temporary(self._short(path))

    def _open(self, call: _Call) -> None:
        if "O_CREAT" in call.text:
            self._appears(call.opened)
        if "O_TRUNC" in call.text:
            self._write(call.opened)

    def _rename(self, call: _Call) -> None:
        self._move(*call.places[:2], keep=False)

    def _link(self, call: _Call) -> None:
        self._move(*call.places[:2], keep=True)

    def _remove(self, call: _Call) -> None:
        self._inodes.pop(call.places[0], None)

    def _change(self, call: _Call) -> None:
        self._write(*call.descriptors[:1])

    def _clone(self, call: _Call) -> None:
        if "FICLONE" in call.text:
            self._write(call.descriptors[0])

    def _appears(self, path: str) -> None:
        if path.startswith(f"{self.root}/") and path not in self._inodes:
            self._inodes[path] = next(self._numbers)
            self._names.add((self._inodes[str(Path(path).parent)], Path(path).name))

    def _write(self, path: str = "") -> None:
        if path in self._inodes:
            self._dirty.add(self._inodes[path])

    def _flush(self, call: _Call) -> None:
        inode = self._inodes.get(call.descriptors[0])
        if inode is not None:
            self._dirty.discard(inode)
            self._names = {entry for entry in self._names if entry[0] != inode}

    def _move(self, old: str, new: str, *, keep: bool) -> None:
        if old not in self._inodes:
            return
        moved = [path for path in self._inodes if path == old or path.startswith(f"{old}/")]
        if self._is_final(new):
            self.faults += (
                f"{self._short(new)}: was named so before {self._short(path)} was on the disk"
                for path in moved
                if self._is_unsafe(path, top=path == old)
            )
        for path in moved:
            inode = self._inodes[path] if keep else self._inodes.pop(path)
            self._inodes[new + path.removeprefix(old)] = inode
        parent = self._inodes.get(str(Path(new).parent))
        if parent is not None:
            self._names.add((parent, Path(new).name))

    def _is_unsafe(self, path: str, *, top: bool) -> bool:
        entry = (self._inodes.get(str(Path(path).parent), -1), Path(path).name)
        return self._inodes[path] in self._dirty or (not top and entry in self._names)


@dataclass(frozen=True, slots=True)
class PowerCuts:
    """Content before its name, and both before a job says that it is done."""

    jobs: Sequence[str]
    name: str = "power"

    def points(self, world: World) -> list[str]:
        """List the jobs: one run of each shows every order of flushing and naming."""
        return list(self.jobs)

    def try_point(self, world: World, point: str) -> list[str]:
        """Run one job, and replay it."""
        job = JOBS[point]
        place = world.place(job)
        try:
            disk = Disk(place)
            run = world.run(job, place)
            trace = ["-e", f"trace={','.join(_CALLS)}", *SHOWN]
            ended = world.machine.run(run, strace=trace)
            disk.replay(ended.calls)
            seen = job.tree(place)
            lost = [fault for fault in disk.lost() if fault.partition(":")[0] in seen]
            return [*faults_of_telling(ended, ()), *disk.faults, *lost]
        finally:
            world.discard(place)
