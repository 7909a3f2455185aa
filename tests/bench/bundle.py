"""Packing OCI archives into one file, beside tar with several compressors.

Ours is the library's part of `bundle build`: a `.tar.gz` whose blocks are stored, since layers are
compressed already, with the sha256 of each archive, of each slice and of the whole. The others
make no digest; what they write is flushed, as ours is.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.images import WORKLOADS, Prepared, prepare
from tests.bench.measure import measure
from tests.bench.memory import warm
from tests.bench.report import OURS, Case, Goal, Medians, Run, less_than, memory, no_scratch
from tests.bench.session import Benchmark, Command, Plan, Way
from tests.rehearsal import programs

_GZIP = "tar-gzip"
_SIZE = "size MB"
_WORKLOAD = "six"
_CLOSE = 0.005


@dataclass(frozen=True, slots=True)
class Work:
    """Which images, and which file they become."""

    images: Prepared
    out: Path


def _ours(work: Work) -> list[Command]:
    argv = [sys.executable, "-m", "tests.bench.bundle_ours", str(work.out)]
    return [[*argv, *map(str, work.images.archives)]]


def _tar(compressor: str, work: Work) -> list[Command]:
    archives = work.images.archives
    argv = ["tar", "--create", f"--use-compress-program={compressor}", f"--file={work.out}"]
    argv += [f"--directory={archives[0].parent}", *(path.name for path in archives)]
    return [argv, ["sync", str(work.out)]]


def _with(compressor: str, *options: str) -> Way[Work]:
    commands = functools.partial(_tar, " ".join([compressor, *options]))
    look = functools.partial(programs.find, compressor)
    return Way(f"tar with {' '.join([compressor, *options])}", commands, look=look)


WAYS = {
    OURS: Way("bundle's, stored blocks", _ours),
    _GZIP: _with("gzip"),
    "tar-pigz": _with("pigz"),
    "tar-zstd": _with("zstd", "-T0"),
}


def _measure(plan: Plan) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.directory) as place:
        images = prepare(Path(place, "images"), WORKLOADS[_WORKLOAD].scaled(plan.scale))
        size = sum(path.stat().st_size for path in images.archives)
        for name in plan.cases:
            for tool in plan.turns():
                warm(images.archives)
                with tempfile.TemporaryDirectory(prefix="run-", dir=place) as scratch:
                    work = Work(images, Path(scratch, "bundle.tar.gz"))
                    cost = measure(WAYS[tool].commands(work), Path(scratch, "tmp"))
                    more = {_SIZE: round(work.out.stat().st_size / 1e6, 3)}
                yield Run(Case(f"bundle, {name}", size), tool, cost, more=more)


def _larger(known: Medians) -> float:
    """Say how much larger ours is, as a part of the other's size."""
    ours, theirs = known[OURS].more[_SIZE], known[_GZIP].more[_SIZE]
    return (ours - theirs) / theirs


def _goals(_: Case) -> Iterator[Goal]:
    yield less_than(_GZIP, "wall", 10)
    yield Goal("ours is larger, as a part of tar-gzip's size", _CLOSE, _larger)
    yield memory(150)
    yield no_scratch()


main = Benchmark(
    name="bundle",
    about=__doc__ or "",
    cases=("warm",),
    ways=WAYS,
    measure=_measure,
    goals=_goals,
).main
