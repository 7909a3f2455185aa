"""Which rehearsals there are on this machine, and who keeps them: one small file for each."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.rehearsal.errors import RehearsalError

_DIRECTORY = Path("/run/bundle-rehearsal")
_STATES = Path("/var/tmp/bundle-rehearsal")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One rehearsal.

    Attributes:
        name: What its owner calls it.
        state: Its directory.
        keeper: Process id of the keeper.
        started: When that process began, in clock ticks since boot: a pid alone may be reused.
    """

    name: str
    state: Path
    keeper: int
    started: int

    def write(self) -> None:
        """Write it down for ``down``, from whichever process that is called."""
        _DIRECTORY.mkdir(exist_ok=True)
        document = {"state": str(self.state), "keeper": self.keeper, "started": self.started}
        temporary = _DIRECTORY / f".{self.name}.{os.getpid()}"
        temporary.write_text(json.dumps(document))
        temporary.rename(_DIRECTORY / f"{self.name}.json")

    def alive(self) -> bool:
        """Say whether its keeper still runs."""
        return start_time(self.keeper) == self.started

    def kill(self) -> None:
        """Kill its keeper, unless that is this very process; all that it keeps goes with it."""
        if self.alive() and self.keeper != os.getpid():
            os.kill(self.keeper, signal.SIGKILL)


def check_name(name: str) -> str:
    """Give the name back.

    Raises:
        RehearsalError: It cannot name a node.
    """
    if not _NAME.fullmatch(name):
        raise RehearsalError(f"name: expected up to 40 of a-z, 0-9 and -, got {name!r}")
    return name


def default_state(name: str) -> Path:
    """Give the state directory of a rehearsal that names none."""
    return _STATES / name


def own(name: str, state: Path) -> Record:
    """Make the record of a rehearsal that this process keeps."""
    return Record(name=name, state=state, keeper=os.getpid(), started=start_time(os.getpid()))


def read(name: str) -> Record | None:
    """Look a rehearsal up; None when nobody wrote down one of that name."""
    try:
        document = json.loads((_DIRECTORY / f"{name}.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    document["state"] = Path(document["state"])
    return Record(name=name, **document)


def every() -> Iterator[Record]:
    """Give all that were written down and not removed."""
    for path in sorted(_DIRECTORY.glob("*.json")):
        if (record := read(path.stem)) is not None:
            yield record


def remove(name: str) -> None:
    """Forget a rehearsal; remove what only it needed of the directories."""
    (_DIRECTORY / f"{name}.json").unlink(missing_ok=True)
    for directory in (_DIRECTORY, _STATES):
        try:
            directory.rmdir()
        except OSError:  # others are in it, or it is not there
            continue


def start_time(pid: int) -> int:
    """Give when a process began, in clock ticks since boot; 0 when there is none, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])
