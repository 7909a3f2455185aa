"""Ours with a small checkpoint and with a large one: memory must be the same.

The large one is mostly holes, so that it fits: 100 GB to verify and to upload to a sink that keeps
nothing, 16 GB to build, since the archive is written; 1 TB to plan an upload, for which headers are
read and the bucket is asked.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.reference import S3Prefix
from tests.bench.checkpoints import NAME, shards
from tests.bench.measure import measure
from tests.bench.report import GIGA, Case, Goal, Medians, Run
from tests.bench.s3_clients import log_in, upload_ours
from tests.bench.session import Benchmark, Command, Plan, Way
from tests.bench.sparse import write_release, write_sources
from tests.rehearsal import go_build
from tests.rehearsal.go_programs import SINK
from tests.rehearsal.s3 import S3, s3

_PLACE = S3Prefix("bench", f"checkpoints/{NAME}")
_FILES = 4
_SMALL, _LARGE = "small", "large"
_LARGE_GIGABYTES = {"build": 16, "verify": 100, "upload": 100, "plan": 1000}
_MOST_MIB, _EQUAL = 150, 1.1


@dataclass(frozen=True, slots=True)
class Work:
    """Where a checkpoint and its archive lie, where an archive goes, and a sink."""

    source: Path
    release: Path
    out: Path
    server: S3


_COMMANDS: dict[str, Callable[[Work], Command]] = {
    "build": lambda work: _module("build_ours", work.source, work.out),
    "verify": lambda work: _module("verify_ours", work.release),
    "upload": lambda work: upload_ours(work.release, work.server, _PLACE),
    "plan": lambda work: upload_ours(work.release, work.server, _PLACE, "--plan"),
}


def _module(name: str, *arguments: Path) -> Command:
    return [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]


def _none(_: object) -> list[Command]:
    return []


WAYS = {
    _SMALL: Way("a checkpoint of 1 GB", _none, look=lambda: go_build.find(SINK)),
    _LARGE: Way("one of the size that the case says", _none, look=lambda: go_build.find(SINK)),
}


def _measure(plan: Plan) -> Iterator[Run]:
    for name in plan.cases:
        case = Case(f"{name}: 1 GB and {_LARGE_GIGABYTES[name]} GB", 0)
        for tool in plan.turns():
            gigabytes = _LARGE_GIGABYTES[name] if tool == _LARGE else 1
            yield _run(case, name, tool, int(gigabytes * GIGA * plan.scale), plan.directory)


def _run(case: Case, name: str, tool: str, size: int, directory: Path) -> Run:
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place,
        s3("sink", buckets=(_PLACE.bucket,)) as server,
    ):
        home = Path(place)
        work = Work(home / NAME, home / "release", home / "out", server)
        work.out.mkdir()
        log_in(server, home)
        if name == "build":
            write_sources(work.source, shards(_FILES, size // _FILES))
        else:
            write_release(work.release, shards(_FILES, size // _FILES))
        cost = measure([_COMMANDS[name](work)], home / "tmp")
    return Run(case, tool, cost)


def _growth(known: Medians) -> float:
    return known[_LARGE].first.peak_bytes / known[_SMALL].first.peak_bytes


def _goals(_: Case) -> Iterator[Goal]:
    yield Goal("memory for the large one / for the small one", _EQUAL, _growth)
    yield Goal(
        "memory for the large one in MiB",
        _MOST_MIB,
        lambda known: known[_LARGE].first.peak_bytes / (1 << 20),
    )


main = Benchmark(
    name="size",
    about=__doc__ or "",
    cases=tuple(_LARGE_GIGABYTES),
    ways=WAYS,
    measure=_measure,
    goals=_goals,
    rounds=3,
).main
