"""Does harm at every n-th point where it may come, and tells where a job did not stand it."""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.changes import FullDisks, SourceChanges
from tests.faults.disk_sweeps import Kills, Refusals, ShortCalls
from tests.faults.jobs import BUCKET, JOBS, World
from tests.faults.machine import Machine
from tests.faults.power import PowerCuts
from tests.faults.publish_sweeps import ONLY, PublishKills, RequestKills
from tests.faults.shores import REGISTRIES
from tests.faults.upload_sweeps import NetworkFaults, UploadKills
from tests.faults.verdict import Sweep
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.s3 import Kind, s3

_OF_JOBS: Mapping[str, Callable[[Sequence[str]], Sweep]] = {
    "kill": Kills,
    "refuse": Refusals,
    "short": ShortCalls,
    "change": SourceChanges,
    "full": FullDisks,
    "power": PowerCuts,
    "kill-upload": UploadKills,
    "network": NetworkFaults,
}
_OF_PUBLISH: Mapping[str, Callable[[Sequence[str], Sequence[str]], Sweep]] = {
    "publish": RequestKills,
    "kill-publish": PublishKills,
}
SWEEPS = (*_OF_JOBS, *_OF_PUBLISH)


@dataclass
class Row:
    """What came of one sweep."""

    sweep: str
    points: int = 0
    tried: int = 0
    seconds: float = 0.0
    faults: dict[str, list[str]] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Sweep as the command line says; gives an exit status."""
    parser = _parser()
    asked = parser.parse_args(argv)
    if unknown := set(asked.sweeps) - set(SWEEPS):
        parser.error(f"expected {', '.join(SWEEPS)}, got {', '.join(sorted(unknown))}")
    if asked.point and len(asked.sweeps) != 1:
        parser.error("--point is of one sweep: name it")
    try:
        with _world(asked.server) as world:
            print(f"{'sweep':12} {'points':>7} {'tried':>7} {'failed':>7} {'seconds':>8}")
            rows = [_told(row, asked.server) for row in _rows(world, asked)]
    except RehearsalError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    return 1 if any(row.faults for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument(
        "sweeps", nargs="*", metavar="SWEEP", help=f"{', '.join(SWEEPS)}; all without any"
    )
    parser.add_argument(
        "--job", action="append", choices=list(JOBS), help="only this one; may be repeated"
    )
    parser.add_argument(
        "--registry",
        action="append",
        choices=REGISTRIES,
        help="publish to this one only; may be repeated",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(ONLY),
        help="publish these parts; both, if not given; may be repeated",
    )
    parser.add_argument(
        "--step", type=int, default=1, help="try every n-th point; default %(default)s"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="which of each n points, and in which order"
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds in all; default %(default)g"
    )
    parser.add_argument("--point", help="try only this point, of the one sweep that is named")
    parser.add_argument(
        "--server", choices=["seaweedfs", "minio"], default="seaweedfs", help="whose S3 server"
    )
    return parser


@contextmanager
def _world(server: Kind) -> Iterator[World]:
    with (
        s3(server, buckets=(BUCKET,)) as running,
        tempfile.TemporaryDirectory(prefix="faults-") as scratch,
    ):
        world = World(Machine(), Path(scratch), running)
        with world.opened:
            yield world


def _rows(world: World, asked: argparse.Namespace) -> Iterator[Row]:
    names = asked.sweeps or SWEEPS
    ends = time.monotonic() + asked.limit
    for left, name in zip(range(len(names), 0, -1), names, strict=True):
        share = (ends - time.monotonic()) / left
        yield run_sweep(
            world,
            _sweep(name, asked),
            step=asked.step,
            seed=asked.seed,
            seconds=share,
            point=asked.point,
        )


def _sweep(name: str, asked: argparse.Namespace) -> Sweep:
    if name in _OF_PUBLISH:
        return _OF_PUBLISH[name](asked.registry or REGISTRIES, asked.only or ["both"])
    return _OF_JOBS[name](asked.job or list(JOBS))


def run_sweep(
    world: World,
    sweep: Sweep,
    *,
    step: int = 1,
    seed: int = 0,
    seconds: float = 600.0,
    point: str | None = None,
) -> Row:
    """Try every ``step``-th point of a sweep, in an order that a time limit cuts anywhere.

    Args:
        world: Where.
        sweep: What.
        step: One of so many points, of each stretch of the run.
        seed: Which one of each stretch, and in which order.
        seconds: After which no point is begun.
        point: The only one to try.
    """
    begun = time.monotonic()
    row = Row(sweep.name)
    points = sweep.points(world) if point is None else [point]
    chance = random.Random(seed)
    chosen = [chance.choice(points[at : at + step]) for at in range(0, len(points), step)]
    chance.shuffle(chosen)
    row.points = len(points)
    for one in chosen:
        if row.tried and time.monotonic() - begun > seconds:
            break
        row.tried += 1
        if faults := sweep.try_point(world, one):
            row.faults[one] = faults
    row.seconds = time.monotonic() - begun
    return row


def _told(row: Row, server: str) -> Row:
    print(
        f"{row.sweep:12} {row.points:7} {row.tried:7} {len(row.faults):7} {row.seconds:8.0f}",
        flush=True,
    )
    for point, faults in sorted(row.faults.items()):
        command = ["scripts/faults", row.sweep, "--point", point, "--server", server]
        print(shlex.join(command))
        print("".join(f"    {fault}\n" for fault in faults), end="", flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
