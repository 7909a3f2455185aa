"""Control groups of a rehearsal: one of its own in each hierarchy, of version 1, hybrid or 2."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.rehearsal.errors import RehearsalError

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("cpu", "cpuset", "memory", "pids")
_REMOVE_SECONDS = 20


def create(name: str) -> None:
    """Make the group in every hierarchy, ready for the kubelet to make its own below it.

    Raises:
        RehearsalError: Control groups are not mounted, or lack a controller.
    """
    roots = _hierarchies()
    if roots == [_ROOT]:
        _enable(_ROOT)
    for root in roots:
        group = root / name
        group.mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1 leaves them empty
            if root != _ROOT and (root / setting).exists():
                (group / setting).write_text((root / setting).read_text())
    if roots == [_ROOT]:
        _enable(_ROOT / name)


def processes(name: str) -> set[int]:
    """Give the process ids in the group and below it."""
    found: set[int] = set()
    for group in _groups(name):
        try:
            found.update(int(line) for line in (group / "cgroup.procs").read_text().split())
        except FileNotFoundError:
            continue
    return found


def remove(name: str) -> None:
    """Remove the group, and all below it, from every hierarchy.

    Raises:
        RehearsalError: Something still runs in it.
    """
    deadline = time.monotonic() + _REMOVE_SECONDS
    for group in _groups(name):
        while group.exists():
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError as error:  # busy for some milliseconds after its last process
                if time.monotonic() > deadline:
                    raise RehearsalError(f"{group}: {error.strerror}") from None
                time.sleep(0.02)


def _groups(name: str) -> Iterator[Path]:
    """Give the group in each hierarchy, what is below it first."""
    for root in _hierarchies():
        for directory, _, _ in os.walk(root / name, topdown=False):
            yield Path(directory)


def _hierarchies() -> list[Path]:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    found = {Path(point) for _, point, kind, *_ in mounts if kind in {"cgroup", "cgroup2"}}
    inside = sorted(point for point in found if point.is_relative_to(_ROOT))
    if not inside:
        raise RehearsalError(f"{_ROOT}: no control groups are mounted here; mount cgroup2 there")
    return inside


def _enable(group: Path) -> None:
    """Hand the controllers down from a group of version 2 to those below it."""
    offered = (group / "cgroup.controllers").read_text().split()
    missing = [name for name in _NEEDED if name not in offered]
    if missing:
        raise RehearsalError(f"{group}: expected the controllers {missing}, got {offered}")
    wanted = [name for name in (*_NEEDED, "io", "hugetlb") if name in offered]
    try:
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
    except OSError as error:
        raise RehearsalError(
            f"{group}: cannot hand controllers down ({error.strerror}); "
            "run on a machine's own root control group, not inside a container's"
        ) from None
