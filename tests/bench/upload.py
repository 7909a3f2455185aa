"""Uploading a checkpoint from its archive to S3, beside what others do after `tar -x`.

Ours is the library's part of `bundle publish`: it looks what is there, sends each part with the
sha256 that the manifest knows, and compares what S3 keeps. Of the others, those whose name ends in
sha256 have S3 check it as well. `again` is the same when all is there. The sink keeps nothing: it
shows what the client takes by itself, and counts. `large`: 4 files, `small`: 1,000 files of 4 kB.
What a tool reads is in memory; each run has a server of its own.
"""

from __future__ import annotations

import json
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from ssl import create_default_context
from typing import get_args

from bundler.reference import S3Prefix
from tests.bench import checkpoints
from tests.bench.checkpoints import NAME, Prepared
from tests.bench.measure import FailureError, measure
from tests.bench.memory import warm
from tests.bench.report import (
    OURS,
    Case,
    Goal,
    Medians,
    Run,
    again_within,
    cpu_per_gigabyte,
    less_than,
    memory,
    no_scratch,
)
from tests.bench.s3_clients import aws, held, log_in, rclone, s5cmd, upload_ours
from tests.bench.session import Benchmark, Command, Plan, Way
from tests.rehearsal import go_build
from tests.rehearsal.go_programs import RCLONE, S5CMD
from tests.rehearsal.s3 import S3, Kind, program, s3

_BUCKET = "bench"
_SHARDS, _SHARD, _SHARD_TO_SINK = 4, 500 * checkpoints.MEGA, 1000 * checkpoints.MEGA
_SMALL, _SMALL_BYTES = 1000, 4000
_SERVERS: tuple[Kind, ...] = get_args(Kind)
_CASES = {
    f"{size}-{server}-{transport}": (size, server, transport == "tls")
    for size, server, transport in product(("large", "small"), _SERVERS, ("plain", "tls"))
}
_TUNED, _DEFAULT = "aws-tuned-sha256", "aws"
_REQUESTS, _BYTES = "requests", "sent MB"
_AGAIN_REQUESTS, _AGAIN_BYTES = "again, requests", "again, sent MB"
_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Work:
    """One upload.

    Attributes:
        checkpoint: What is sent.
        server: Where it goes.
        home: What the clients take for their home directory.
        scratch: Directory for temporary files.
    """

    checkpoint: Prepared
    server: S3
    home: Path
    scratch: Path

    @property
    def place(self) -> S3Prefix:
        """Give the address that files go below."""
        return S3Prefix(_BUCKET, f"checkpoints/{NAME}")

    @property
    def unpacked(self) -> str:
        """Give the directory that the others make of the archive."""
        return str(self.scratch / NAME)

    def unpack(self) -> Command:
        """Give the command for that."""
        return ["tar", "-xf", str(self.checkpoint.archive), "-C", str(self.scratch)]


def _ours(work: Work) -> list[Command]:
    return [upload_ours(work.checkpoint.release, work.server, work.place)]


def _aws(work: Work, *options: str, tuned: bool = False) -> list[Command]:
    copy = ["cp", "--recursive", "--only-show-errors", *options, work.unpacked, f"{work.place}/"]
    return [work.unpack(), aws(work.home, *copy, tuned=tuned)]


def _aws_again(work: Work, *options: str, tuned: bool = False) -> list[Command]:
    sync = ["sync", "--only-show-errors", *options, work.unpacked, f"{work.place}/"]
    return [aws(work.home, *sync, tuned=tuned)]


def _s5cmd(work: Work) -> list[Command]:
    return [work.unpack(), *_s5cmd_again(work)]


def _s5cmd_again(work: Work) -> list[Command]:
    return [s5cmd(work.server, "sync", f"{work.unpacked}/", f"{work.place}/")]


def _rclone(work: Work) -> list[Command]:
    return [work.unpack(), *_rclone_again(work)]


def _rclone_again(work: Work) -> list[Command]:
    to = f"s3:{work.place.bucket}/{work.place.prefix}"
    return [rclone(work.home, "copy", work.unpacked, to)]


_SHA256 = ("--checksum-algorithm", "SHA256")
WAYS = {
    OURS: Way("bundle's upload, from the archive", _ours, _ours),
    _DEFAULT: Way("tar -x; aws s3 cp --recursive", _aws, _aws_again),
    _TUNED: Way(
        "the same with SHA256, 64 MB parts, 20 at once, unsigned contents",
        lambda work: _aws(work, *_SHA256, tuned=True),
        lambda work: _aws_again(work, *_SHA256, tuned=True),
    ),
    "s5cmd": Way("tar -x; s5cmd sync", _s5cmd, _s5cmd_again, lambda: go_build.find(S5CMD)),
    "rclone": Way("tar -x; rclone copy", _rclone, _rclone_again, lambda: go_build.find(RCLONE)),
}


def _measure(plan: Plan) -> Iterator[Run]:
    for name in plan.cases:
        size, kind, tls = _CASES[name]
        program(kind)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.directory) as place:
            checkpoint = checkpoints.prepare(
                Path(place, "checkpoint"), _files(size, kind, plan.scale)
            )
            # Per gigabyte says nothing of small files.
            case = Case(name, checkpoint.size if size == "large" else 0, checkpoint.count)
            for tool in plan.turns():
                yield _run(case, tool, checkpoint, Path(place), kind, tls=tls)


def _files(size: str, kind: Kind, scale: float) -> dict[str, int]:
    if size == "large":
        shard = _SHARD_TO_SINK if kind == "sink" else _SHARD
        return checkpoints.shards(_SHARDS, int(shard * scale))
    return checkpoints.shards(max(2, int(_SMALL * scale)) - 1, _SMALL_BYTES)


def _run(case: Case, tool: str, checkpoint: Prepared, place: Path, kind: Kind, *, tls: bool) -> Run:
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir=place) as scratch,
        s3(kind, tls=tls, buckets=(_BUCKET,)) as server,
    ):
        home = Path(scratch)
        log_in(server, home)
        work = Work(checkpoint, server, home, home / "first")
        way, ca = WAYS[tool], server.ca_file
        warm([checkpoint.archive])
        counted(server)
        first = measure(way.commands(work), work.scratch, ca)
        more = _counts(server, _REQUESTS, _BYTES)
        _check(work, tool)
        assert way.again is not None
        os.sync()
        again = measure(way.again(work), home / "again", ca)
        more |= _counts(server, _AGAIN_REQUESTS, _AGAIN_BYTES)
    return Run(case, tool, first, again, more)


def _counts(server: S3, requests: str, sent: str) -> dict[str, float]:
    if server.kind != "sink":
        return {}
    count, size = counted(server)
    return {requests: count, sent: round(size / checkpoints.MEGA, 3)}


def counted(server: S3) -> tuple[int, int]:
    """Ask a sink how many requests, and bytes of bodies, it got since it was asked last."""
    if server.kind != "sink":
        return 0, 0
    context = create_default_context(cafile=str(server.ca_file)) if server.ca_file else None
    url = f"{server.url}/-/counts"
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS, context=context) as answer:
        document = json.load(answer)
    return document["requests"], document["bytes"]


def _check(work: Work, tool: str) -> None:
    """Hold names and sizes in the bucket to the checkpoint's files."""
    got = held(work.server, work.place)
    expected = {work.place.key(path.name): path.stat().st_size for path in work.checkpoint.files}
    if got != expected:
        raise FailureError(f"{tool}: expected {len(expected)} objects as given, got {len(got)}")


def _quiet(known: Medians) -> float:
    return known[OURS].more[_AGAIN_BYTES]


def _goals(case: Case) -> Iterator[Goal]:
    size, _, tls = _CASES[case.title]
    if size == "large":
        if not tls:
            yield cpu_per_gigabyte(0.6)
        yield less_than(_TUNED, "CPU", 2)
        yield less_than(_DEFAULT, "CPU", 5)
        yield less_than("s5cmd", "CPU", 3)
    else:
        yield again_within(5)
    yield Goal("MB sent by ours when all is there", 0, _quiet)
    yield memory(150)
    yield no_scratch()


main = Benchmark(
    name="upload",
    about=__doc__ or "",
    cases=tuple(_CASES),
    ways=WAYS,
    measure=_measure,
    goals=_goals,
).main
