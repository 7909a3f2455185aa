"""Medians, ratios and targets of measured pushes, as a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from tests.bench.measure import Cost

GIGA = 1e9
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """What was pushed where.

    Attributes:
        server: Kind of the registry.
        transport: ``plain`` or ``tls``.
        workload: Name of the images.
        images: How many they are.
        distinct_bytes: Of their blobs, each counted once.
    """

    server: str
    transport: str
    workload: str
    images: int
    distinct_bytes: int

    def __str__(self) -> str:
        return f"{self.workload}, to {self.server} ({self.transport})"


@dataclass(frozen=True, slots=True)
class Run:
    """One push by one tool, and the same push again."""

    case: Case
    tool: str
    first: Cost
    again: Cost


@dataclass(frozen=True, slots=True)
class Target:
    """What ours is to be, against a peer or by itself."""

    text: str
    reached: bool
    got: str


def medians(runs: Sequence[Run], case: Case) -> dict[str, tuple[Cost, Cost]]:
    """Give, for each tool, the median of each figure: of the first push, and of the second."""
    tools = dict.fromkeys(run.tool for run in runs if run.case == case)
    chosen = {tool: [run for run in runs if (run.case, run.tool) == (case, tool)] for tool in tools}
    return {
        tool: (_median(run.first for run in some), _median(run.again for run in some))
        for tool, some in chosen.items()
    }


def _median(costs: Iterable[Cost]) -> Cost:
    known = list(costs)
    names = [field.name for field in fields(Cost)]
    return Cost(
        **{name: statistics.median(getattr(cost, name) for cost in known) for name in names}
    )


def targets(case: Case, costs: dict[str, tuple[Cost, Cost]]) -> list[Target]:
    """Hold our figures to what was promised, as far as the peers were measured."""
    if "ours" not in costs:
        return []
    first, again = costs["ours"]
    each = again.wall_seconds / case.images
    found = [
        _at_most("re-push of an image in s", each, 0.2),
        _at_most("memory in MiB", first.peak_bytes / _MIB, 100),
        _at_most("scratch in bytes", first.scratch_bytes, 0),
    ]
    for peer, wall, cpu in (("skopeo", 2, 10), ("regctl", 1, 1), ("crane", None, 1)):
        if peer in costs:
            theirs = costs[peer][0]
            if wall:
                ratio = theirs.wall_seconds / first.wall_seconds
                found.append(_at_least(f"{peer}'s wall / ours", ratio, wall))
            ratio = theirs.cpu_seconds / first.cpu_seconds
            found.append(_at_least(f"{peer}'s CPU / ours", ratio, cpu))
    return found


def _at_most(text: str, got: float, limit: float) -> Target:
    return Target(f"{text} <= {limit:g}", got <= limit, f"{got:.2f}")


def _at_least(text: str, got: float, limit: float) -> Target:
    return Target(f"{text} >= {limit:g}", got >= limit, f"{got:.2f}")


def render(runs: Sequence[Run]) -> str:
    """Write one table for each case, and what became of the targets below it."""
    return "\n\n".join(
        "\n".join(_table(runs, case)) for case in dict.fromkeys(run.case for run in runs)
    )


def _table(runs: Sequence[Run], case: Case) -> list[str]:
    costs = medians(runs, case)
    count = max(sum(run.case == case and run.tool == tool for run in runs) for tool in costs)
    lines = [
        f"{case}: {case.distinct_bytes / GIGA:.3f} GB, medians of {count}",
        f"{'':14}{'wall s':>9}{'CPU s':>9}{'CPU s/GB':>10}{'peak MiB':>10}"
        f"{'scratch MB':>12}{'written MB':>12}{'again s':>9}{'CPU s':>8}",
    ]
    for tool, (first, again) in costs.items():
        lines.append(
            f"{tool:14}{first.wall_seconds:9.2f}{first.cpu_seconds:9.2f}"
            f"{first.cpu_seconds / case.distinct_bytes * GIGA:10.2f}"
            f"{first.peak_bytes / _MIB:10.0f}{first.scratch_bytes / 1e6:12.1f}"
            f"{first.written_bytes / 1e6:12.1f}{again.wall_seconds:9.2f}{again.cpu_seconds:8.2f}"
        )
    for target in targets(case, costs):
        lines.append(f"  {'reached' if target.reached else 'MISSED '}  {target.text}: {target.got}")
    return lines
