"""Fetching a checkpoint from S3, beside what others bring a prefix with.

Ours verifies each part by the signed manifest and flushes every file to the disk; the others do
neither. `again` is the same when all is there: ours reads and hashes all of it again, the others
compare names, sizes and times.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bundler.digest import Digest
from bundler.manifest import MANIFEST_NAME
from bundler.reference import S3Prefix
from tests.bench import checkpoints
from tests.bench.checkpoints import NAME, Prepared
from tests.bench.measure import FailureError, measure
from tests.bench.report import OURS, Case, Goal, Run, memory, no_scratch
from tests.bench.s3_clients import aws, log_in, s5cmd, upload_ours
from tests.bench.session import Benchmark, Command, Plan, Way
from tests.rehearsal import go_build
from tests.rehearsal.go_programs import S5CMD
from tests.rehearsal.s3 import S3, Kind, program, s3

_BUCKET = "bench"
_PLACE = S3Prefix(_BUCKET, f"checkpoints/{NAME}")
_MANIFEST = S3Prefix(_BUCKET, f"releases/bench-1/{MANIFEST_NAME}")
_SHARDS, _SHARD = 4, 256 * checkpoints.MEGA
_SERVERS: tuple[Kind, ...] = ("minio", "seaweedfs")
_CASES = {
    f"{server}-{transport}": (server, transport == "tls")
    for server, transport in product(_SERVERS, ("plain", "tls"))
}


@dataclass(frozen=True, slots=True)
class Work:
    """One fetch: of what, from where, into which directory, with which home directory."""

    checkpoint: Prepared
    server: S3
    home: Path

    @property
    def fetched(self) -> Path:
        """Give the directory that files are fetched to."""
        return self.home / "fetched"


def _ours(work: Work) -> list[Command]:
    server = work.server
    digest = Digest.of((work.checkpoint.release / MANIFEST_NAME).read_bytes())
    # As a pod is told; the credentials lie in the home directory.
    settings = [f"AWS_ENDPOINT_URL_S3={server.url}", f"AWS_REGION={server.region}"]
    settings += [f"AWS_CA_BUNDLE={server.ca_file}"] if server.ca_file else []
    argv = [sys.executable, "-m", "bundler", "fetch", "--manifest", str(_MANIFEST)]
    argv += ["--manifest-sha256", digest.hex, "--checkpoint", NAME]
    return [["env", *settings, *argv, str(_PLACE), str(work.fetched)]]


def _aws(work: Work) -> list[Command]:
    return [aws(work.home, "sync", "--only-show-errors", f"{_PLACE}/", str(work.fetched))]


def _s5cmd(work: Work) -> list[Command]:
    return [s5cmd(work.server, "sync", f"{_PLACE}/*", f"{work.fetched}/")]


WAYS = {
    OURS: Way("bundle fetch", _ours, _ours),
    "aws": Way("aws s3 sync", _aws, _aws),
    "s5cmd": Way("s5cmd sync", _s5cmd, _s5cmd, lambda: go_build.find(S5CMD)),
}


def _measure(plan: Plan) -> Iterator[Run]:
    for name in plan.cases:
        kind, tls = _CASES[name]
        program(kind)
        with (
            tempfile.TemporaryDirectory(prefix="bench-", dir=plan.directory) as place,
            s3(kind, tls=tls, buckets=(_BUCKET,)) as server,
        ):
            home = Path(place)
            sizes = checkpoints.shards(_SHARDS, int(_SHARD * plan.scale))
            work = Work(checkpoints.prepare(home / "checkpoint", sizes), server, home)
            log_in(server, home)
            _publish(work)
            case = Case(f"fetch, {name}", work.checkpoint.size)
            for tool in plan.turns():
                yield _run(case, tool, work)


def _publish(work: Work) -> None:
    """Store the checkpoint and its manifest."""
    server, release = work.server, work.checkpoint.release
    checkpoint = upload_ours(release, server, _PLACE)
    manifest = aws(work.home, "cp", str(release / MANIFEST_NAME), str(_MANIFEST))
    measure([checkpoint, manifest], work.home / "publish", server.ca_file)


def _run(case: Case, tool: str, work: Work) -> Run:
    way, ca = WAYS[tool], work.server.ca_file
    assert way.again is not None
    os.sync()  # what was left to be written is not to be paid by this one
    try:
        first = measure(way.commands(work), work.home / "first", ca)
        _check(work, tool)
        again = measure(way.again(work), work.home / "again", ca)
    finally:
        for used in ("fetched", "first", "again"):
            shutil.rmtree(work.home / used, ignore_errors=True)
        for log in work.home.glob("*.log"):
            log.unlink()
    return Run(case, tool, first, again)


def _check(work: Work, tool: str) -> None:
    """Hold names and sizes of what was fetched to the checkpoint's files."""
    expected = {path.name: path.stat().st_size for path in work.checkpoint.files}
    got = {
        path.name: path.stat().st_size
        for path in work.fetched.iterdir()
        if path.name in expected or not path.name.startswith(".")
    }
    if got != expected:
        raise FailureError(f"{tool}: expected {len(expected)} files as given, got {len(got)}")


def _goals(_: Case) -> Iterator[Goal]:
    yield memory(150)
    yield no_scratch()


main = Benchmark(
    name="fetch",
    about=__doc__ or "",
    cases=tuple(_CASES),
    ways=WAYS,
    measure=_measure,
    goals=_goals,
).main
