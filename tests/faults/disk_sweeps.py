"""Kills, and refusals of the operating system, at every call that a job makes about its files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.calls import SHOWN, Aim, aims, was_met
from tests.faults.jobs import JOBS, Job, World
from tests.faults.machine import Ended
from tests.faults.short_calls import NAMES
from tests.faults.verdict import KILLED, WORLD, Attempt

READS = ("read", "pread64", "preadv", "preadv2")
WRITES = ("write", "pwrite64", "pwritev", "pwritev2")
_NAMING = ("rename", "renameat", "renameat2", "link", "linkat")
_MAKING = ("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir")
_SIZING = ("ftruncate", "fallocate", "fchmod", "flock")
_SYNCS = ("fsync", "fdatasync")
CHANGES = (*WRITES, *_NAMING, *_MAKING, *_SIZING, *_SYNCS, "openat", "sendto", "sendmsg")
# What each call may be refused with; a read of 0 bytes is the end of a file that was longer.
_END = "retval=0"
_REFUSALS = {
    **dict.fromkeys(READS, ("error=EIO", "error=EINTR", _END)),
    **dict.fromkeys(WRITES[1:], ("error=ENOSPC", "error=EIO", "error=EINTR", "error=ENOSPC+")),
    # Not from then on: nothing could be told on standard error either.
    WRITES[0]: ("error=ENOSPC", "error=EIO", "error=EINTR"),
    **dict.fromkeys((*_NAMING, *_MAKING), ("error=EIO", "error=ENOSPC")),
    **dict.fromkeys((*_SIZING, *_SYNCS), ("error=EIO",)),
    "openat": ("error=EIO", "error=EMFILE", "error=ENOSPC"),
    "getdents64": ("error=EIO",),
}
# A file of the release that ends too early: malformed, not signed, or not what was signed.
_CONTENT = (3, 4, 5)


def looked_at(
    world: World, job: Job, names: Collection[str], *, sockets: bool = False
) -> list[Aim]:
    """Run a job once, to see which calls it makes."""
    place = world.place(job)
    try:
        trace = ["-e", f"trace={','.join((*names, 'execve'))}", *SHOWN]
        ended = world.machine.run(world.run(job, place), strace=trace)
        return aims(ended.calls, names, place, sockets=sockets)
    finally:
        world.discard(place)


def _tampering(aim: Aim, how: str) -> Sequence[str]:
    how, more = how.removesuffix("+"), "+" * how.endswith("+")
    inject = f"inject={aim.name}:{how}:when={aim.number}{more}"
    return ["-e", f"trace={aim.name}", *SHOWN, "-e", inject]


def _read_point(point: str) -> tuple[Job, Aim]:
    job, name, number = point.split("/")[:3]
    return JOBS[job], Aim(name, int(number))


@dataclass(frozen=True, slots=True)
class Kills:
    """SIGKILL as a job enters a call that changes something on the disk or is heard by others."""

    jobs: Sequence[str]
    name: str = "kill"

    def points(self, world: World) -> list[str]:
        """List all points, in the order of a run."""
        return [
            f"{name}/{aim}"
            for name in self.jobs
            for aim in looked_at(world, JOBS[name], CHANGES, sockets=True)
        ]

    def try_point(self, world: World, point: str) -> list[str]:
        """Kill at one point; gives what is wrong afterwards."""
        job, aim = _read_point(point)

        def harm(place: Path) -> Ended:
            return world.machine.run(
                world.run(job, place), strace=_tampering(aim, "signal=SIGKILL")
            )

        # strace counts the programs that the job starts, too: one of those may be what dies.
        return Attempt(world, job, {KILLED, WORLD}).faults(harm, lambda place: None)


@dataclass(frozen=True, slots=True)
class Refusals:
    """A call about a file of the job fails, once or from then on."""

    jobs: Sequence[str]
    name: str = "refuse"

    def points(self, world: World) -> list[str]:
        """List all points, in the order of a run."""
        return [
            f"{name}/{aim}/{how}"
            for name in self.jobs
            for aim in looked_at(world, JOBS[name], _REFUSALS)
            for how in _REFUSALS[aim.name]
        ]

    def try_point(self, world: World, point: str) -> list[str]:
        """Refuse at one point; gives what is wrong afterwards."""
        job, aim = _read_point(point)
        how = point.split("/")[3]
        met = True

        def harm(place: Path) -> Ended:
            nonlocal met
            ended = world.machine.run(world.run(job, place), strace=_tampering(aim, how))
            met = was_met(ended.calls, place)
            return ended

        allowed = {WORLD, *(_CONTENT if how == _END else ())}
        faults = Attempt(world, job, allowed).faults(harm, lambda place: None)
        return faults if met else []  # of another thread, about something else


@dataclass(frozen=True, slots=True)
class ShortCalls:
    """Every read, or every write, of one kind does half of what it is asked for."""

    jobs: Sequence[str]
    name: str = "short"

    def points(self, world: World) -> list[str]:
        """List all points."""
        return [f"{job}/{name}" for job in self.jobs for name in NAMES]

    def try_point(self, world: World, point: str) -> list[str]:
        """Shorten one kind of call; gives what is wrong afterwards."""
        name, call = point.split("/")
        job = JOBS[name]

        def harm(place: Path) -> Ended:
            return world.machine.run(world.run(job, place, short=call))

        return Attempt(world, job, ()).faults(harm, lambda place: None)
