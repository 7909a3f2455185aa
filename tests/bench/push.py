"""Pushing the images of a bundle to a registry, beside the tools that others use.

Every push has a registry of its own. What a tool reads is in memory before it starts. `again` is
the same push when all is there. `six`: one image of six layers, 1.2 GB; `shared`: three images that
share layers; `small`: one of 200 layers of 50 kB. `start-up`: what precedes any work.
"""

from __future__ import annotations

import http.client
import ssl
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path

from bundler.oci_manifest import OCI_MANIFEST
from tests.bench.images import WORKLOADS, Prepared, prepare
from tests.bench.measure import FailureError, measure
from tests.bench.memory import warm
from tests.bench.report import Case, Goal, Run, again_within, less_than, memory, no_scratch
from tests.bench.session import Benchmark, Plan
from tests.bench.tools import WAYS, Push, sources
from tests.rehearsal import programs
from tests.rehearsal.registry import Kind, Registry, registry

_SERVERS: tuple[Kind, ...] = ("distribution", "debian")
_CASES = {
    f"{workload}-{server}-{transport}": (workload, server, transport == "tls")
    for workload, server, transport in product(WORKLOADS, _SERVERS, ("plain", "tls"))
}
_START_UP = "start-up"
_LOADED = "import bundler.cli.publish, bundler.stores.registry, bundler.stores.s3"
_HELP = "bundle --help"
_STARTED: dict[str, Sequence[str]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "push_ours --help": [sys.executable, "-m", "tests.bench.push_ours", "--help"],
    _HELP: [sys.executable, "-m", "bundler", "--help"],
    "bundle publish --help": [sys.executable, "-m", "bundler", "publish", "--help"],
    "bundle publish, loaded": [sys.executable, "-c", _LOADED],
}


def _measure(plan: Plan) -> Iterator[Run]:
    for name in plan.cases:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.directory) as place:
            if name == _START_UP:
                yield from _start_up(plan, Path(place))
                continue
            workload, server, tls = _CASES[name]
            scaled = WORKLOADS[workload].scaled(plan.scale)
            work = prepare(Path(place, "images"), scaled, skopeo=programs.find("skopeo"))
            case = Case(name, work.distinct_bytes, len(work.tags))
            for tool in plan.turns():
                yield _run(case, work, tool, Path(place), server, tls=tls)


def _start_up(plan: Plan, place: Path) -> Iterator[Run]:
    for tool in plan.turns(list(_STARTED)):
        with tempfile.TemporaryDirectory(prefix="run-", dir=place) as scratch:
            yield Run(Case(_START_UP, 0), tool, measure([_STARTED[tool]], Path(scratch, "tmp")))


def _run(case: Case, work: Prepared, tool: str, place: Path, kind: Kind, *, tls: bool) -> Run:
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir=place) as scratch,
        registry(kind, tls=tls) as server,
    ):
        warm(sources(tool, work))
        first, again = (Push(work, server, Path(scratch, which)) for which in ("first", "again"))
        commands, ca = WAYS[tool].commands, server.ca_file
        costs = [measure(commands(one), one.scratch, ca) for one in (first, again)]
        _check(work, server, tool)
    return Run(case, tool, first=costs[0], again=costs[1])


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


def _goals(case: Case) -> Iterator[Goal]:
    if case.title == _START_UP:
        yield Goal(f"wall of {_HELP} in s", 0.1, lambda known: known[_HELP].first.wall_seconds)
        return
    yield again_within(0.2, each=True)
    yield memory(100)
    yield no_scratch()
    for peer, wall, cpu in (("skopeo", 2, 10), ("regctl", 1, 1), ("crane", None, 1)):
        if wall:
            yield less_than(peer, "wall", wall)
        yield less_than(peer, "CPU", cpu)


main = Benchmark(
    name="push",
    about=__doc__ or "",
    cases=(*_CASES, _START_UP),
    ways=WAYS,
    measure=_measure,
    goals=_goals,
).main
