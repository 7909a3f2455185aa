"""What it takes to look into images, counted: no image can make a build long, or fill its memory.

Counts are of an image's content alone, never of time: the same images give the same SBOMs.
"""

from __future__ import annotations

from collections.abc import Mapping

from bundler.inventory.package import MAX_PACKAGES

PACKED, PLAIN, MEMBERS = "bytes of layers", "bytes unpacked", "members of gzip"
HEADERS, RECORDS, NAMES = "tar headers", "lines of PAX headers", "characters of names"
DATABASES, LINES, PACKAGES = "bytes of databases", "lines of databases", "packages read"
LISTED = "packages listed"
# Of all layers of an image: some times what images of whole systems have, and in work (a tar header
# takes some microseconds) some ten seconds each; bytes are unpacked only in step with those packed.
LIMITS = {
    PACKED: 1 << 40,
    PLAIN: 512 << 30,
    MEMBERS: 2_000_000,
    HEADERS: 2_000_000,
    RECORDS: 8_000_000,
    NAMES: 256 << 20,
    DATABASES: 1 << 30,
    LINES: 8_000_000,
    PACKAGES: 400_000,
    LISTED: MAX_PACKAGES,
}
# How many times as much all images of a build may take.
BUILD_FACTOR = 16


class Effort:
    """What was spent on the layers of an image so far.

    Attributes:
        spent: How much, by the names of this module.

    Args:
        spent: On the layers below.
    """

    def __init__(self, spent: Mapping[str, int] | None = None) -> None:
        self.spent = dict(spent or {})

    def spend(self, what: str, count: int = 1) -> None:
        """Count some more of it.

        Raises:
            ValueError: That is too much.
        """
        spent = self.spent[what] = self.spent.get(what, 0) + count
        if spent > LIMITS[what]:
            raise ValueError(f"more than {LIMITS[what]} {what} in the layers of an image")


def too_much(spent: Mapping[str, int], factor: int = 1) -> str | None:
    """Say what is above the limits of an image, or above ``factor`` times them; None if nothing.

    The layers of one platform go up to the limits themselves; that is not above them.
    """
    over = (what for what, limit in LIMITS.items() if spent.get(what, 0) > factor * limit)
    return next((f"more than {factor * LIMITS[what]} {what}" for what in over), None)
