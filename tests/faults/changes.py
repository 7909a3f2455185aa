"""Sources that change while they are read, and disks that get full while they are written to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.calls import SHOWN
from tests.faults.disk_sweeps import READS, WRITES, looked_at
from tests.faults.jobs import JOBS, Job, World
from tests.faults.machine import Ended
from tests.faults.verdict import WORLD, Attempt

_MIB = 1 << 20
_CONTENT = {3, 5}  # a file that is none of its kind any more, or another one
_MOST_READS = 3


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more" * 300)


def _shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _rewrite(path, bytes(content))


def _replace(path: Path) -> None:
    other = path.with_name(f".{path.name}.other")
    other.write_bytes(path.read_bytes()[::-1])
    other.replace(path)


def _rewrite(path: Path, content: bytes) -> None:
    """Write in place, and leave the time as it was."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


_CHANGES: Mapping[str, Callable[[Path], None]] = {
    "grow": _grow,
    "shrink": _shrink,
    "change": _change,
    "replace": _replace,
}


def _stop_at(calls: Sequence[str], number: int) -> Sequence[str]:
    names = ",".join(calls)
    return ["-e", f"trace={names}", *SHOWN, "-e", f"inject={names}:signal=SIGSTOP:when={number}"]


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """A file that a job reads becomes another one after the n-th read of it."""

    jobs: Sequence[str]
    name: str = "change"

    def points(self, world: World) -> list[str]:
        """List each source with each number of a read, and each change."""
        return [
            f"{name}/{number}/{how}/{source}"
            for name in self.jobs
            for source in _sources(world, JOBS[name])
            for number in range(1, _MOST_READS + 1)
            for how in _CHANGES
        ]

    def try_point(self, world: World, point: str) -> list[str]:
        """Change one source at one time; gives what is wrong afterwards."""
        name, number, how, source = point.split("/", 3)
        job = JOBS[name]

        def harm(place: Path) -> Ended:
            path = place / source
            content, mode = path.read_bytes(), path.stat().st_mode
            stop = ["-P", str(path), *_stop_at(READS, int(number))]
            try:
                return world.machine.run(
                    world.run(job, place), strace=stop, when_stopped=lambda: _CHANGES[how](path)
                )
            finally:
                _rewrite(path, content)
                path.chmod(mode)

        return Attempt(world, job, {*_CONTENT, WORLD}).faults(harm, lambda place: None)


def _sources(world: World, job: Job) -> list[str]:
    place = world.place(job)
    try:
        found = [path for pattern in job.sources for path in place.glob(pattern)]
        return sorted(path.relative_to(place).as_posix() for path in found)
    finally:
        world.discard(place)


@contextmanager
def _small_disk(at: Path, size: int) -> Iterator[None]:
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)
        at.rmdir()


def _fill(disk: Path) -> None:
    """Take all the space that is left."""
    with (disk / "filler").open("wb", buffering=0) as file:
        while free := os.statvfs(disk).f_bavail:
            file.write(bytes(min(free * os.statvfs(disk).f_frsize, _MIB)))


@dataclass(frozen=True, slots=True)
class FullDisks:
    """Somebody else takes the rest of a small disk as a job writes for the n-th time."""

    jobs: Sequence[str]
    name: str = "full"

    def points(self, world: World) -> list[str]:
        """List all writes, in the order of a run."""
        return [
            f"{name}/{aim}" for name in self.jobs for aim in looked_at(world, JOBS[name], WRITES)
        ]

    def try_point(self, world: World, point: str) -> list[str]:
        """Fill the disk at one write; gives what is wrong afterwards."""
        name, call, number = point.split("/")
        job = JOBS[name]
        disk = world.scratch / "disk"

        def harm(place: Path) -> Ended:
            return world.machine.run(
                world.run(job, place),
                strace=_stop_at([call], int(number)),
                when_stopped=lambda: _fill(disk),
            )

        with _small_disk(disk, 96 * _MIB):
            return Attempt(world, job, {WORLD}, below=disk).faults(
                harm, lambda place: (disk / "filler").unlink(missing_ok=True)
            )
