"""Takes a rehearsal down, whatever became of it: running, half started, or killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from tests.rehearsal import cgroups, namespaces, records
from tests.rehearsal.errors import RehearsalError

MARKER = ".bundle-rehearsal"
_SECONDS = 30
_PAUSE = 0.02


def node_name(name: str) -> str:
    """Give the name of the node, which is also that of namespace and control groups."""
    return f"rehearsal-{name}"


def destroy(name: str) -> None:
    """Leave no process, mount, namespace, control group or file of a rehearsal.

    Raises:
        RehearsalError: Something would not go.
    """
    record = records.read(name)
    if record is not None:
        record.kill()
    node = node_name(name)
    _kill_processes(node)
    cgroups.remove(node)
    namespaces.remove_network(node)
    remove_state(record.state if record else records.default_state(name))
    records.remove(name)


def _kill_processes(node: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while left := namespaces.processes(node) | cgroups.processes(node):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise RehearsalError(f"{node}: processes do not end: {sorted(left)}")
        time.sleep(_PAUSE)


def create_state(state: Path) -> None:
    """Make a private state directory, marked as one.

    Raises:
        RehearsalError: There is something else of that name.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()
    try:
        state.mkdir(mode=0o700)
    except FileExistsError:
        raise RehearsalError(f"{state}: expected nothing or an empty directory there") from None
    (state / MARKER).touch()


def remove_state(state: Path) -> None:
    """Remove a directory that ``create_state`` made, and no other."""
    if (state / MARKER).is_file() and not state.is_symlink():
        shutil.rmtree(state)
