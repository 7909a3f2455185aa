"""What every fault has to end in, whatever it was."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundler.errors import ConflictError, WorldError
from tests.faults.jobs import Job, World
from tests.faults.machine import Ended
from tests.faults.trees import Trees

CONFLICT = ConflictError.exit_status
WORLD = WorldError.exit_status
KILLED = -9


class Sweep(Protocol):
    """One kind of fault, at every point where it may come."""

    @property
    def name(self) -> str:
        """What the command line calls it."""

    def points(self, world: World) -> list[str]:
        """List all points, in the order of a run."""

    def try_point(self, world: World, point: str) -> list[str]:
        """Do harm at one point; gives what is wrong afterwards."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run of a job that something is done to, and the rerun after it.

    Attributes:
        world, job: What runs.
        allowed: Statuses that it may end with, beside success.
        below: Where its directory is made; where not given, anywhere.
    """

    world: World
    job: Job
    allowed: Collection[int]
    below: Path | None = None

    def faults(self, harm: Callable[[Path], Ended], mend: Callable[[Path], object]) -> list[str]:
        """Do harm, look, mend, run again, look.

        Args:
            harm: Runs the job in a place.
            mend: Puts right there what the harm was.
        """
        trees = self.world.trees(self.job)
        place = self.world.place(self.job, below=self.below)
        try:
            return list(self._faults(place, trees, harm, mend))
        finally:
            self.world.discard(place)

    def _faults(
        self,
        place: Path,
        trees: Trees,
        harm: Callable[[Path], Ended],
        mend: Callable[[Path], object],
    ) -> Iterator[str]:
        ended = harm(place)
        now = self.job.tree(place)
        yield from faults_of_telling(ended, self.allowed)
        yield from trees.faults_of_stop(now)
        if ended.status == 0:
            # What could not be removed, on a disk that fails, is the next run's to remove.
            found = trees.faults_of_end(trees.without_temporary(now))
            yield from (f"after a success: {fault}" for fault in found)
        mend(place)
        again = self.world.machine.run(self.world.run(self.job, place))
        if again.status and not (self.job.once and again.status == CONFLICT):
            yield f"the rerun ended with {again.status}: {again.said.strip()}"
        else:
            yield from trees.faults_of_end(self.job.tree(place))


def faults_of_telling(ended: Ended, allowed: Collection[int]) -> Iterator[str]:
    """Name what is wrong with a status, or with what a person is told."""
    errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    if ended.left:
        yield f"left running: {', '.join(ended.left)}"
    if ended.status not in {0, *allowed}:
        yield f"status {ended.status}, expected 0 or one of {sorted(allowed)}: {_end_of(ended)}"
    elif ended.status > 0 and len(errors) != 1:
        yield f"expected one line with the error, got {len(errors)}: {_end_of(ended)}"
    if "Traceback" in ended.said:
        yield f"a traceback: {_end_of(ended)}"


def _end_of(ended: Ended) -> str:
    return " | ".join(ended.said.strip().splitlines()[-4:])
