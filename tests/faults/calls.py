"""What strace wrote of a run: which calls there were that matter, to aim at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_CALL = re.compile(r"(\d+) +(\w+)\(")
_SOCKET = "socket:["
# Descriptors as paths, and no data: it may hold paths, too.
SHOWN = ("-y", "-s", "0")


@dataclass(frozen=True, slots=True)
class Aim:
    """The ``number``-th call of a name that one thread of a process makes, from 1."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}/{self.number}"


def aims(text: str, names: Collection[str], place: Path, *, sockets: bool) -> list[Aim]:
    """List the calls about files of a place, and about sockets if asked, in the order of a run.

    strace counts each thread by itself: so does this, and calls of several threads with the same
    number are one aim, at the first of them. Programs that the process starts are left out.
    """
    programs = {found[1] for found in re.finditer(r"^(\d+) +execve\(", text, re.MULTILINE)}
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[Aim, None] = {}
    for thread, name, line in _calls(text):
        if thread in programs or name not in names:
            continue
        counts[thread, name] += 1
        if str(place) in line or (sockets and _SOCKET in line):
            found[Aim(name, counts[thread, name])] = None
    return list(found)


def _calls(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        if call := _CALL.match(line):
            yield call[1], call[2], line


def was_met(text: str, place: Path) -> bool:
    """Say whether what strace did was done to a file of the place."""
    lines = [line for line in text.splitlines() if "(INJECTED)" in line]
    return any(str(place) in line for line in lines)
