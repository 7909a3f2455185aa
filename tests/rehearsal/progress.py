"""What a person sees of the slow steps: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Protocol, TextIO

_WIDTH = 40
_LINES = 10  # in all, where there is no terminal


class Progress(Protocol):
    """Is told what goes on."""

    def line(self, text: str) -> None:
        """Take one sentence."""

    def advance(self, done: int, total: int) -> None:
        """Take how much of the current step is done, in units of any kind."""


class Silent:
    """Says nothing."""

    def line(self, text: str) -> None:
        """Drop it."""

    def advance(self, done: int, total: int) -> None:
        """Drop it."""


@dataclass(slots=True)
class Bar:
    """Draws a bar on a terminal."""

    stream: TextIO

    def line(self, text: str) -> None:
        """Write the sentence."""
        print(text, file=self.stream, flush=True)

    def advance(self, done: int, total: int) -> None:
        """Draw the bar anew; the last one stays."""
        filled = _WIDTH * done // total
        bar = "#" * filled + "-" * (_WIDTH - filled)
        end = "\n" if done >= total else ""
        print(f"\r  [{bar}] {done}/{total}", end=end, file=self.stream, flush=True)


@dataclass(slots=True)
class Lines:
    """Writes a line at every tenth part."""

    stream: TextIO
    _tenth: int = field(default=0, init=False)

    def line(self, text: str) -> None:
        """Write the sentence."""
        print(text, file=self.stream, flush=True)

    def advance(self, done: int, total: int) -> None:
        """Write a line if a tenth more is done."""
        tenth = _LINES * done // total
        if tenth > self._tenth:
            self.line(f"  {done}/{total}")
        self._tenth = tenth


def to_stderr() -> Progress:
    """Give a bar if standard error is a terminal, lines otherwise."""
    return Bar(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)
