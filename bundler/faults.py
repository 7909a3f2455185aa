"""One place where an archive is not what was signed."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.errors import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What differs, and where.

    Attributes:
        archive: File name of the archive.
        path: The file in it, below its top directory; None where no single file is to blame.
        part: Which part of that file, or slice of the archive, from 1; None for the whole.
        offset: Where the differing range starts, in bytes: in the archive, or in the file where it
            was extracted; None for a whole file.
        expected: What was signed: a digest, a size, a name.
        got: What is there.
        volume: File name of the volume, or of those, that hold the range; None where the archive
            is one file.
    """

    archive: str
    path: str | None = None
    part: int | None = None
    offset: int | None = None
    expected: str
    got: str
    volume: str | None = None

    def __str__(self) -> str:
        place = [self.archive if self.path is None else f"{self.archive}: {self.path}"]
        if self.part is not None:
            place.append(f"part {self.part}" if self.path is not None else f"slice {self.part}")
        if self.offset is not None:
            # A digest is of the whole part: which byte of it differs, nobody knows.
            place.append(f"{'at' if self.part is None else 'from'} offset {self.offset}")
        if self.volume is not None:
            place.append(f"in {self.volume}")
        where = ", ".join(place)
        return f"{printable(where)}: expected {printable(self.expected)}, got {printable(self.got)}"
