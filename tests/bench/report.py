"""Medians, ranges, ratios and goals of measured runs, as tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from tests.bench.measure import Cost

GIGA = 1e9
_MEGA, _MIB = 1e6, 1 << 20
OURS = "ours"
Figure = Literal["wall", "CPU"]


@dataclass(frozen=True, slots=True)
class Case:
    """What every tool was given to do.

    Attributes:
        title: For people; unlike that of every other case.
        size: Bytes that CPU time is told per gigabyte of; 0 where that says nothing.
        count: How many things the work consists of.
    """

    title: str
    size: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """What one tool took: once, or as a median of several times.

    Attributes:
        case: What it did.
        tool: Who did it.
        first: What that took.
        again: What the same took when all was there; None where nothing was done again.
        more: Other figures, by what stands above their column.
    """

    case: Case
    tool: str
    first: Cost
    again: Cost | None = None
    more: Mapping[str, float] = field(default_factory=dict)


Medians = Mapping[str, Run]


@dataclass(frozen=True, slots=True)
class Goal:
    """What ours is to be, by itself or against a peer.

    Attributes:
        text: Says what is held to the limit.
        limit: What it may at most be, or must at least be.
        value: Computes it; a KeyError says that somebody was not measured.
        least: Whether the limit is a lower one.
    """

    text: str
    limit: float
    value: Callable[[Medians], float]
    least: bool = False

    def judge(self, medians: Medians) -> str:
        """Say in a line what became of it; empty where it cannot be told."""
        try:
            got = self.value(medians)
        except KeyError:
            return ""
        reached = got >= self.limit if self.least else got <= self.limit
        sign = ">=" if self.least else "<="
        return f"{'reached' if reached else 'MISSED'}: {self.text} {sign} {self.limit:g}: {got:.3g}"


def less_than(peer: str, figure: Figure, factor: float) -> Goal:
    """Give the goal that a peer takes at least so many times as much as ours."""

    def ratio(known: Medians) -> float:
        return taken(known[peer].first, figure) / taken(known[OURS].first, figure)

    return Goal(f"{figure} of {peer} / of ours", factor, ratio, least=True)


def near_to(peer: str, figure: Figure, factor: float) -> Goal:
    """Give the goal that ours takes at most so many times as much as something else."""

    def ratio(known: Medians) -> float:
        return taken(known[OURS].first, figure) / taken(known[peer].first, figure)

    return Goal(f"{figure} of ours / of {peer}", factor, ratio)


def cpu_per_gigabyte(most: float) -> Goal:
    """Give the goal that ours takes at most so many CPU seconds for each gigabyte."""

    def value(known: Medians) -> float:
        return known[OURS].first.cpu_seconds / known[OURS].case.size * GIGA

    return Goal("CPU seconds of ours for each GB", most, value)


def memory(most: float) -> Goal:
    """Give the goal that ours has at most so many MiB in memory."""
    return Goal("memory of ours in MiB", most, lambda known: known[OURS].first.peak_bytes / _MIB)


def no_scratch() -> Goal:
    """Give the goal that ours writes no temporary byte."""
    return Goal("scratch of ours in bytes", 0, lambda known: known[OURS].first.scratch_bytes)


def again_within(seconds: float, *, each: bool = False) -> Goal:
    """Give the goal that ours is quick when all is there; ``each``: divided by how many there are.

    Args:
        seconds: The most that it may take.
        each: Of one thing rather than of the whole case.
    """

    def value(known: Medians) -> float:
        run = known[OURS]
        if run.again is None:
            raise KeyError(run.tool)
        return run.again.wall_seconds / (run.case.count if each else 1)

    what = "each thing" if each else "all"
    return Goal(f"wall of ours in s when {what} is there", seconds, value)


def taken(cost: Cost, figure: Figure) -> float:
    """Give seconds of one kind."""
    return cost.wall_seconds if figure == "wall" else cost.cpu_seconds


def medians(runs: Sequence[Run], case: Case) -> dict[str, Run]:
    """Give, for each tool, the median of each figure."""
    chosen = [run for run in runs if run.case == case]
    tools = dict.fromkeys(run.tool for run in chosen)
    return {tool: _median([run for run in chosen if run.tool == tool]) for tool in tools}


def _median(runs: Sequence[Run]) -> Run:
    one = runs[0]
    again = [run.again for run in runs if run.again is not None]
    return Run(
        case=one.case,
        tool=one.tool,
        first=_middle([run.first for run in runs]),
        again=_middle(again) if again else None,
        more={name: statistics.median(run.more[name] for run in runs) for name in one.more},
    )


def _middle(costs: Sequence[Cost]) -> Cost:
    names = [item.name for item in fields(Cost)]
    return Cost(
        **{name: statistics.median(getattr(cost, name) for cost in costs) for name in names}
    )


def render(runs: Sequence[Run], goals: Callable[[Case], Iterable[Goal]]) -> str:
    """Write one table for each case, and what became of its goals below it."""
    cases = dict.fromkeys(run.case for run in runs)
    return "\n\n".join("\n".join(_section(runs, case, goals(case))) for case in cases)


def _section(runs: Sequence[Run], case: Case, goals: Iterable[Goal]) -> Iterator[str]:
    known = medians(runs, case)
    rounds = max(sum(run.case == case and run.tool == tool for run in runs) for tool in known)
    size = f", {case.size / GIGA:.3g} GB" if case.size else ""
    yield f"### {case.title}{size}"
    yield f"\nMedians of {rounds}, with the least and the most in brackets.\n"
    yield from _table([run for run in runs if run.case == case], known)
    judged = [text for goal in goals if (text := goal.judge(known))]
    if judged:
        yield ""
        yield from (f"- {text}" for text in judged)


def _table(runs: Sequence[Run], known: Medians) -> Iterator[str]:
    again = any(run.again is not None for run in known.values())
    more = list(dict.fromkeys(name for run in known.values() for name in run.more))
    heads = ["", "wall s", "CPU s", "CPU s/GB", "peak MiB", "scratch MB", "written MB"]
    heads += ["again, wall s", "again, CPU s"] if again else []
    heads += more
    yield _line(heads)
    yield _line(["---", *["--:"] * (len(heads) - 1)])
    for tool, run in known.items():
        cells = [tool, *_cells(run, [each.first for each in runs if each.tool == tool])]
        if again:
            cells += _again(run)
        yield _line(
            [*cells, *(f"{run.more[name]:.10g}" if name in run.more else "" for name in more)]
        )


def _cells(run: Run, costs: Sequence[Cost]) -> list[str]:
    cost, size = run.first, run.case.size
    return [
        *(_with_range([taken(each, figure) for each in costs]) for figure in ("wall", "CPU")),
        f"{cost.cpu_seconds / size * GIGA:.2f}" if size else "",
        f"{cost.peak_bytes / _MIB:.0f}",
        f"{cost.scratch_bytes / _MEGA:.1f}",
        f"{cost.written_bytes / _MEGA:.1f}",
    ]


def _again(run: Run) -> list[str]:
    cost = run.again
    return ["", ""] if cost is None else [f"{cost.wall_seconds:.2f}", f"{cost.cpu_seconds:.2f}"]


def _with_range(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.2f}-{max(values):.2f}]"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
