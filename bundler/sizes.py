"""Numbers, of bytes above all, as people read them."""

from __future__ import annotations

import re

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


_TEXT = re.compile(r"(\d{1,6})(?:\.(\d{1,3}))? ?([KMGT]?)(i?)B?")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Read a number of bytes: ``700MB`` is decimal, ``4GiB`` and ``4Gi`` are binary.

    Raises:
        ValueError: It is no such number, or less than one byte.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None or (found[4] and not found[3]):
        raise ValueError(f"expected a size such as 700MB or 23GiB, got {text[:40]!r}")
    whole, fraction, unit, binary = found.groups()
    factor = (1024 if binary else 1000) ** _POWERS[unit]
    thousandths = int(whole) * 1000 + int((fraction or "").ljust(3, "0"))
    size: int = thousandths * factor // 1000
    if not size:
        raise ValueError(f"expected 1 byte or more, got {text[:40]!r}")
    return size


def size_text(size: int) -> str:
    """Give a number of bytes in the largest unit that keeps it at 1 or more."""
    value, unit = float(size), 0
    while value >= 1024 and unit + 1 < len(_UNITS):
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size} B"


def count_text(number: int, noun: str) -> str:
    """Give a number of things whose plural ends with s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
