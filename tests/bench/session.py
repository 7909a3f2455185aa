"""One benchmark from its command line to its report: what all of them have in common."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.bench.measure import FailureError
from tests.bench.report import Case, Goal, Run, render
from tests.rehearsal.errors import RehearsalError

FIGURES = Path(__file__).with_name("figures")
W = TypeVar("W")
Command = Sequence[str]


def nothing() -> None:
    """Look for nothing: what is needed is always there."""


@dataclass(frozen=True, slots=True)
class Way(Generic[W]):
    """One way to do the work of a benchmark.

    Attributes:
        title: What it is, for the report.
        commands: Gives what is run, in order.
        again: Gives what is run when all is there; None where nothing is done again.
        look: Raises RehearsalError where a program is not there.
    """

    title: str
    commands: Callable[[W], Sequence[Command]]
    again: Callable[[W], Sequence[Command]] | None = None
    look: Callable[[], object] = nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        cases, tools: Names.
        rounds: How often each tool does each case.
        scale: Factor on sizes.
        directory: For everything that is written.
    """

    cases: Sequence[str]
    tools: Sequence[str]
    rounds: int
    scale: float
    directory: Path

    def turns(self, tools: Sequence[str] | None = None) -> Iterator[str]:
        """Give names of tools, in turns, each round beginning with another one.

        So what changes on the machine meanwhile meets all of them.
        """
        known = self.tools if tools is None else tools
        for number in range(self.rounds):
            turn = number % len(known)
            yield from [*known[turn:], *known[:turn]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What ``scripts/bench NAME`` needs to know.

    Attributes:
        name: Of the benchmark.
        about: What it does, for ``--help`` and above the figures.
        cases: Names of all cases.
        ways: All tools by name.
        measure: Runs what a plan asks for, one run at a time.
        goals: What ours is to reach in a case.
        rounds: How often, if nobody says.
    """

    name: str
    about: str
    cases: Sequence[str]
    ways: Mapping[str, Way[Any]]
    measure: Callable[[Plan], Iterator[Run]]
    goals: Callable[[Case], Iterable[Goal]]
    rounds: int = 5

    def main(self, argv: Sequence[str]) -> int:
        """Measure as the command line says; gives an exit status."""
        asked = self._parser().parse_args(argv)
        directory = (asked.directory or Path(tempfile.gettempdir())).resolve()
        tempfile.tempdir = str(directory)  # the servers' files as well
        runs: list[Run] = []
        try:
            plan = Plan(
                cases=_chosen(asked.case, self.cases),
                tools=self._present(_chosen(asked.tool, list(self.ways)), named=bool(asked.tool)),
                rounds=asked.rounds,
                scale=asked.scale,
                directory=directory,
            )
            for run in self.measure(plan):
                runs.append(run)
                print(f"{run.case.title}: {run.tool}: {_brief(run)}", file=sys.stderr)
        except (FailureError, RehearsalError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        self._tell(runs, plan, asked)
        return 0

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=f"scripts/bench {self.name}",
            description=self.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, known in (("case", self.cases), ("tool", list(self.ways))):
            parser.add_argument(
                f"--{name}",
                action="append",
                metavar="PATTERN",
                help=f"only these; may be repeated; of: {' '.join(known)}",
            )
        parser.add_argument("--rounds", type=int, default=self.rounds)
        parser.add_argument("--scale", type=float, default=1.0, help="factor on sizes")
        parser.add_argument("--directory", type=Path, help="for all that is written")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write every run to it")
        parser.add_argument(
            "--save", action="store_true", help=f"keep the report as {FIGURES.name}/{self.name}.md"
        )
        return parser

    def _present(self, names: Sequence[str], *, named: bool) -> list[str]:
        """Leave out tools that are not here, unless somebody asked for them."""
        found = []
        for name in names:
            try:
                self.ways[name].look()
                found.append(name)
            except RehearsalError as error:
                if named:
                    raise
                print(f"bench: left out: {error}", file=sys.stderr)
        return found

    def _tell(self, runs: Sequence[Run], plan: Plan, asked: argparse.Namespace) -> None:
        text = "\n".join(self._report(runs, plan))
        print(text)
        if asked.save:
            FIGURES.mkdir(exist_ok=True)
            (FIGURES / f"{self.name}.md").write_text(f"{text}\n")
        if asked.json:
            document = {
                "machine": machine(),
                "scale": plan.scale,
                "runs": [asdict(run) for run in runs],
            }
            asked.json.write_text(json.dumps(document, indent=1) + "\n")

    def _report(self, runs: Sequence[Run], plan: Plan) -> Iterator[str]:
        yield f"# {self.name}\n"
        yield f"{self.about.strip()}\n"
        yield f"{machine()}{'' if plan.scale == 1 else f'; scale {plan.scale:g}'}.\n"
        yield from (f"- {name}: {self.ways[name].title}" for name in plan.tools)
        yield ""
        yield render(runs, self.goals)


def machine() -> str:
    """Say in a line what was measured on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{model[1] if model else platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def _chosen(patterns: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Give the names that patterns choose, all of them without any."""
    if patterns is None:
        return list(known)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise FailureError(f"{pattern}: expected some of {', '.join(known)}")
    return [name for name in known if any(fnmatch.fnmatch(name, each) for each in patterns)]


def _brief(run: Run) -> str:
    again = "" if run.again is None else f", again {run.again.wall_seconds:.2f} s"
    return f"{run.first.wall_seconds:.2f} s, {run.first.cpu_seconds:.2f} s of CPU{again}"
