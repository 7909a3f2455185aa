"""Pushes of images to registries, by ours and by the tools that others use.

Every push has a registry of its own, and the tools take turns, so that what changes on the machine
meanwhile hits all of them. What a tool reads is in memory before it starts. Each push is done a
second time, when all is there.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import ssl
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import cast

from bundler.archive.oci import OCI_MANIFEST
from tests.bench.images import WORKLOADS, Prepared, prepare
from tests.bench.measure import Cost, FailureError, measure
from tests.bench.report import Case, Run, render
from tests.bench.tools import TOOLS
from tests.rehearsal import programs
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.registry import Kind, Registry, registry

_SERVERS: tuple[Kind, ...] = ("distribution", "debian")
_TRANSPORTS = ("plain", "tls")
_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        servers, transports, workloads, tools: Names; every combination is measured.
        rounds: How often.
        scale: Factor on the size of each layer.
        directory: For images, registries and temporary files.
    """

    servers: Sequence[Kind]
    transports: Sequence[str]
    workloads: Sequence[str]
    tools: Sequence[str]
    rounds: int
    scale: float
    directory: Path


def push(plan: Plan) -> Iterator[Run]:
    """Measure everything that a plan asks for, one run at a time.

    Raises:
        FailureError: A tool failed, or did not bring what it was given.
        RehearsalError: A registry or a tool is not there.
    """
    for name in plan.workloads:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.directory) as place:
            images = Path(place, "images")
            workload = WORKLOADS[name].scaled(plan.scale)
            work = prepare(images, workload, skopeo=programs.find("skopeo"))
            for server, transport in product(plan.servers, plan.transports):
                case = Case(server, transport, name, len(work.tags), work.distinct_bytes)
                for number in range(plan.rounds):
                    turn = number % len(plan.tools)
                    for tool in [*plan.tools[turn:], *plan.tools[:turn]]:
                        yield _run(case, work, tool, Path(place))


def _run(case: Case, work: Prepared, tool: str, place: Path) -> Run:
    kind = cast("Kind", case.server)
    with (
        tempfile.TemporaryDirectory(prefix="scratch-", dir=place) as scratch,
        registry(kind, tls=case.transport == "tls") as server,
    ):
        os.sync()  # what earlier runs left to be written is not to be paid by this one
        for path in TOOLS[tool].sources(work):
            _read(path)
        costs = [_push(work, server, tool, Path(scratch, which)) for which in ("first", "again")]
        _check(work, server, tool)
    return Run(case, tool, *costs)


def _read(path: Path) -> None:
    """Have a file in memory, as every tool's is: what a disk costs is not compared."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _push(work: Prepared, server: Registry, tool: str, scratch: Path) -> Cost:
    return measure(TOOLS[tool].commands(work, server, scratch), scratch, server.ca_file)


def _check(work: Prepared, server: Registry, tool: str) -> None:
    """Hold what the tags name to what the archives hold."""
    context = ssl.create_default_context(cafile=str(server.ca_file)) if server.ca_file else None
    for tag, digest in zip(work.tags, work.digests, strict=True):
        connection = (
            http.client.HTTPSConnection(server.host, server.port, context=context)
            if context
            else http.client.HTTPConnection(server.host, server.port)
        )
        with closing(connection):
            path = f"/v2/{tag.name}/manifests/{tag.tag}"
            connection.request("HEAD", path, headers={"Accept": OCI_MANIFEST})
            got = connection.getresponse().getheader("Docker-Content-Digest")
        if got != digest:
            raise FailureError(f"{tool}: {tag}: expected {digest} at the registry, got {got}")


def start_up(directory: Path) -> dict[str, Cost]:
    """Measure what it takes before anything is done: by the interpreter, by what is imported."""
    loaded = "bundler.cli.publish, bundler.stores.registry, bundler.stores.s3"
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "push_ours --help": [sys.executable, "-m", "tests.bench.push_ours", "--help"],
        "bundle publish --help": [sys.executable, "-m", "bundler", "publish", "--help"],
        "bundle publish, loaded": [sys.executable, "-c", f"import {loaded}"],
    }
    with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as place:
        return {
            name: measure([argv], Path(place, str(number)))
            for number, (name, argv) in enumerate(commands.items())
        }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench push", description=__doc__)
    for name, known in (
        ("server", _SERVERS),
        ("transport", _TRANSPORTS),
        ("workload", tuple(WORKLOADS)),
        ("tool", tuple(TOOLS)),
    ):
        parser.add_argument(
            f"--{name}", action="append", choices=known, help="only this one; may be repeated"
        )
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the layers' sizes")
    parser.add_argument("--directory", type=Path, help="for images and registries: 8 GB or more")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser


def main(argv: Sequence[str]) -> int:
    """Measure as the command line says; gives an exit status."""
    asked = _parser().parse_args(argv)
    directory = asked.directory or Path(tempfile.gettempdir())
    tempfile.tempdir = str(directory)  # the registries' files as well
    plan = Plan(
        servers=asked.server or _SERVERS,
        transports=asked.transport or _TRANSPORTS,
        workloads=asked.workload or tuple(WORKLOADS),
        tools=asked.tool or tuple(TOOLS),
        rounds=asked.rounds,
        scale=asked.scale,
        directory=directory,
    )
    runs: list[Run] = []
    try:
        idle = start_up(directory)
        for run in push(plan):
            runs.append(run)
            print(f"{run.case}: {run.tool}: {run.first.wall_seconds:.2f} s", file=sys.stderr)
    except (FailureError, RehearsalError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(render(runs))
    print("\nbefore anything is done")
    for name, cost in idle.items():
        print(f"{name:24}{cost.wall_seconds:7.2f} s wall{cost.cpu_seconds:7.2f} s CPU")
    if asked.json:
        _write(asked.json, plan, runs, idle)
    return 0


def _write(path: Path, plan: Plan, runs: Sequence[Run], idle: dict[str, Cost]) -> None:
    document = {
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release()},
        "python": platform.python_version(),
        "scale": plan.scale,
        "runs": [asdict(run) for run in runs],
        "startUp": {name: asdict(cost) for name, cost in idle.items()},
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
