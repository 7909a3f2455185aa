"""Rules that several types of a manifest hold themselves to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from bundler.digest import Digest
from bundler.reference import folded


def require_unique(what: str, names: Iterable[str]) -> None:
    """Refuse names of which two are one on a file system that folds case.

    Raises:
        ValueError: There are two; the message names one of them.
    """
    for name, count in Counter(map(folded, names)).items():
        if count > 1:
            raise ValueError(f"{what} {name!r} stands there {count} times")


def require_sorted(what: str, names: list[str] | list[Digest]) -> None:
    """Refuse names that are not sorted by their bytes, or of which two are the same.

    Raises:
        ValueError: They are not, or there are two.
    """
    keys = [str(name).encode() for name in names]
    if any(first >= second for first, second in pairwise(keys)):
        raise ValueError(f"{what}: not sorted, or one stands there twice")


def not_negative(name: str, *numbers: int) -> None:
    """Refuse a number below 0.

    Raises:
        ValueError: There is one.
    """
    if min(numbers) < 0:
        raise ValueError(f"{name}: expected 0 or more, got {min(numbers)}")
