"""Ages of what lies at a destination: as a person writes one, and as one is shown. Pure."""

from __future__ import annotations

import re

_TEXT = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age(text: str) -> int:
    """Read an age such as ``7d``, ``12h`` or ``30m`` into seconds.

    Raises:
        ValueError: It is written in another way.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected an age such as 7d, 12h or 30m, got {text[:40]!r}")
    return int(found[1]) * _SECONDS[found[2]]


def age_text(seconds: int) -> str:
    """Give an age in the largest unit of days, hours, minutes and seconds that it has two of."""
    for unit in ("d", "h", "m"):
        if seconds >= 2 * _SECONDS[unit]:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{max(seconds, 0)}s"
