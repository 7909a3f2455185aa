"""What operations tell whoever watches: typed facts, never text for a screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planned:
    """So many bytes are ahead, in items of which most have not begun yet; several add up.

    Whoever watches takes the sum for all of the run, or that of the items' totals if it is larger.
    """

    total: int


@dataclass(frozen=True, slots=True)
class Started:
    """Work on one item began. ``total`` is in bytes, None where it is not known."""

    verb: str
    item: str
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Advanced:
    """``step`` more bytes of an item are done; negative when a retry goes back."""

    item: str
    step: int


@dataclass(frozen=True, slots=True)
class Finished:
    """An item is done.

    Attributes:
        item: Which.
        skipped: It was there already, and nothing was sent.
        wrong: It was looked at to its end, and is not what was signed; who looked says where.
    """

    item: str
    skipped: bool = False
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that people should know, and that stops nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """How the objects that we wait for stand now: a line each."""

    lines: tuple[str, ...]


Event = Planned | Started | Advanced | Finished | Noted | Waiting
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing: the default of every operation."""


@contextmanager
def telling(emit: Emit, verb: str, item: str, total: int | None = None) -> Iterator[None]:
    """Tell of a block that it began, and, where nothing is raised in it, that it is done."""
    emit(Started(verb, item, total))
    yield
    emit(Finished(item))
