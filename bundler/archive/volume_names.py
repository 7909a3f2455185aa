"""How the volumes of an archive are called: ``cat`` in the order of a shell's glob joins them."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_VOLUMES = 999
_NAME = re.compile(r"(?P<archive>.+)\.(?P<number>\d{3})-of-(?P<count>\d{3})(?P<zstd>\.zst)?")


@dataclass(frozen=True, slots=True, order=True)
class Split:
    """One way of cutting an archive: into how many volumes, and whether they are compressed."""

    archive: str
    count: int
    compressed: bool

    def volume(self, number: int) -> VolumeName:
        """Name one of its volumes, counted from 1."""
        return VolumeName(self.archive, self.count, self.compressed, number)


@dataclass(frozen=True, slots=True, order=True)
class VolumeName:
    """Volume ``number`` (from 1) of the ``count`` that an archive was cut into."""

    archive: str
    count: int
    compressed: bool
    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MAX_VOLUMES:
            raise ValueError(f"volume {self.number} of {self.count}: expected 1 to {MAX_VOLUMES}")

    def split(self) -> Split:
        """Give the split that it is of."""
        return Split(self.archive, self.count, self.compressed)

    def __str__(self) -> str:
        suffix = ".zst" if self.compressed else ""
        return f"{self.archive}.{self.number:03d}-of-{self.count:03d}{suffix}"


def archive_name(name: str) -> str:
    """Give the file name of the archive that a file is, or is a volume of, by its name."""
    volume = parse_volume_name(name)
    return name if volume is None else volume.archive


def parse_volume_name(name: str) -> VolumeName | None:
    """Read a file name; None where no volume is called so."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        return VolumeName(
            found["archive"], int(found["count"]), bool(found["zstd"]), int(found["number"])
        )
    except ValueError:
        return None
