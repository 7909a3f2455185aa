"""Building a checkpoint's archive, beside pipelines of programs that make the same digests.

Ours is the library's part of `bundle build`. The digests of files and parts that the others make
are held to ours. The floor reads and writes each byte once and hashes what the digests need on all
cores, where nothing waits for anything; its archive is none.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.parts import SMALLEST_PART
from tests.bench import checkpoints
from tests.bench.checkpoints import Prepared
from tests.bench.measure import FailureError, measure
from tests.bench.memory import chill, warm
from tests.bench.report import OURS, Case, Goal, Run, less_than, memory, near_to, no_scratch
from tests.bench.session import Benchmark, Command, Plan, Way

_HERE = Path(__file__).parent
_SHARDS, _SHARD = 4, 500 * checkpoints.MEGA
_FLOOR = "floor"
_CASES = ("warm", "cold")


@dataclass(frozen=True, slots=True)
class Work:
    """One build: of what, and into which directory."""

    checkpoint: Prepared
    out: Path


def _ours(work: Work) -> list[Command]:
    argv = [sys.executable, "-m", "tests.bench.build_ours"]
    return [[*argv, str(work.checkpoint.source), str(work.out)]]


def _pipeline(*how: str, work: Work) -> list[Command]:
    argv = ["bash", str(_HERE / "digests.sh"), str(work.checkpoint.source), str(work.out)]
    return [[*argv, str(SMALLEST_PART), *how]]


def _floor(work: Work) -> list[Command]:
    argv = [sys.executable, "-I", "-S", str(_HERE / "floor.py"), str(work.out / "copied")]
    return [[*argv, *map(str, work.checkpoint.files)]]


def _way(title: str, *how: str) -> Way[Work]:
    pipeline = functools.partial(_pipeline, *how)
    return Way(title, lambda work: pipeline(work=work))


WAYS = {
    OURS: Way("bundle's build, one pass", _ours),
    "sha256sum": _way("tar | tee | sha256sum, sha256sum of files, split | sha256sum", "sha256sum"),
    "openssl": _way("the same with openssl dgst", "openssl"),
    "openssl-together": _way("the same, all three at once", "openssl", "together"),
    _FLOOR: Way("one read, three digests of each byte, one write, flushed", _floor),
}


def _measure(plan: Plan) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.directory) as place:
        sizes = checkpoints.shards(_SHARDS, int(_SHARD * plan.scale))
        checkpoint = checkpoints.prepare(Path(place, "checkpoint"), sizes)
        for name in plan.cases:
            case = Case(f"build, {name}", checkpoint.size)
            for tool in plan.turns():
                (chill if name == "cold" else warm)(checkpoint.files)
                yield _run(case, tool, checkpoint, Path(place))


def _run(case: Case, tool: str, checkpoint: Prepared, place: Path) -> Run:
    with tempfile.TemporaryDirectory(prefix="run-", dir=place) as scratch:
        work = Work(checkpoint, Path(scratch, "out"))
        work.out.mkdir()
        cost = measure(WAYS[tool].commands(work), Path(scratch, "tmp"))
        if tool not in {OURS, _FLOOR}:
            _check(work, tool)
    return Run(case, tool, cost)


def _check(work: Work, tool: str) -> None:
    """Hold the digests of files and parts to ours."""
    [expected] = checkpoints.read(work.checkpoint.release).checkpoints
    files = sorted(expected.files, key=lambda file: file.path)
    wanted = {
        "members": [file.digest.hex for file in files],
        "parts": [part.hex for file in files for part in file.parts],
    }
    for name, digests in wanted.items():
        got = _digests(work.out / name)
        if got != digests:
            raise FailureError(f"{tool}: expected other digests of {name}, got {got[:1]}")


def _digests(path: Path) -> Sequence[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


def _goals(_: Case) -> Iterator[Goal]:
    yield near_to(_FLOOR, "wall", 1.25)
    for peer in ("sha256sum", "openssl", "openssl-together"):
        yield less_than(peer, "wall", 3)
        yield less_than(peer, "CPU", 2)
    yield memory(150)
    yield no_scratch()


main = Benchmark(
    name="build", about=__doc__ or "", cases=_CASES, ways=WAYS, measure=_measure, goals=_goals
).main
