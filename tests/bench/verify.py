"""Verifying the archive of one large file, beside programs that hash it.

Ours is the library's part of `bundle verify`: it hashes parts on all cores, and compares headers.
The others make one digest of the archive. `ours-1-core` may use one core alone. `read` hashes
nothing: what the disk, or memory, gives. Cold: not a byte of the archive is in memory.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import checkpoints
from tests.bench.checkpoints import Prepared
from tests.bench.measure import measure
from tests.bench.memory import chill, warm
from tests.bench.report import (
    OURS,
    Case,
    Goal,
    Medians,
    Run,
    cpu_per_gigabyte,
    less_than,
    memory,
    no_scratch,
)
from tests.bench.session import Benchmark, Command, Plan, Way
from tests.rehearsal import programs

_SIZE = 2000 * checkpoints.MEGA
_ONE_CORE = "ours-1-core"
_SUMS = "SHA256SUMS"
_FILE_DIGEST = "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256'))"
_CASES = ("cold", "warm")


def _ours(work: Prepared) -> list[Command]:
    return [[sys.executable, "-m", "tests.bench.verify_ours", str(work.release)]]


def _one_core(work: Prepared) -> list[Command]:
    core = min(os.sched_getaffinity(0))
    return [[programs.find("taskset"), "--cpu-list", str(core), *argv] for argv in _ours(work)]


WAYS = {
    OURS: Way("bundle's verify, on all cores", _ours),
    _ONE_CORE: Way("the same on one core", _one_core),
    "sha256sum": Way("sha256sum -c", lambda work: [["sha256sum", "-c", str(work.release / _SUMS)]]),
    "openssl": Way(
        "openssl dgst -sha256", lambda work: [["openssl", "dgst", "-sha256", str(work.archive)]]
    ),
    "file_digest": Way(
        "Python's hashlib.file_digest",
        lambda work: [[sys.executable, "-I", "-S", "-c", _FILE_DIGEST, str(work.archive)]],
    ),
    "read": Way(
        "dd to /dev/null",
        lambda work: [["dd", f"if={work.archive}", "of=/dev/null", "bs=4M", "status=none"]],
    ),
}


def _measure(plan: Plan) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.directory) as place:
        sizes = checkpoints.shards(1, int(_SIZE * plan.scale))
        work = checkpoints.prepare(Path(place, "checkpoint"), sizes)
        [checkpoint] = checkpoints.read(work.release).checkpoints
        (work.release / _SUMS).write_text(f"{checkpoint.digest.hex}  {work.archive}\n")
        for name in plan.cases:
            case = Case(f"verify, {name}", work.size)
            for tool in plan.turns():
                (chill if name == "cold" else warm)([work.archive])
                with tempfile.TemporaryDirectory(prefix="run-", dir=place) as scratch:
                    cost = measure(WAYS[tool].commands(work), Path(scratch, "tmp"))
                yield Run(case, tool, cost)


def _scaling(known: Medians) -> float:
    """Say how many times as fast ours is on all cores, for each core."""
    alone, together = known[_ONE_CORE].first, known[OURS].first
    return alone.wall_seconds / together.wall_seconds / len(os.sched_getaffinity(0))


def _goals(case: Case) -> Iterator[Goal]:
    if case.title.endswith("cold"):
        yield less_than("sha256sum", "wall", 5)
    else:
        yield Goal("speed of ours on all cores / on one, for each core", 0.8, _scaling, least=True)
    yield cpu_per_gigabyte(0.8)
    yield memory(150)
    yield no_scratch()


main = Benchmark(
    name="verify", about=__doc__ or "", cases=_CASES, ways=WAYS, measure=_measure, goals=_goals
).main
