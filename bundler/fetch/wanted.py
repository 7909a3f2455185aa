"""What a directory is to hold, and what of it is still to come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bundler.digest import Digest
from bundler.errors import MalformedError, printable
from bundler.parts import Span, part_size, spans

Part = tuple[Span, Digest | None]


@dataclass(frozen=True, slots=True)
class File:
    """One file to be.

    Attributes:
        path: Below the directory.
        key: What its source calls it.
        size: Bytes.
        parts: The digest of each part; None where nothing is known to verify it by.
        checksum: What S3 says of all parts together, where it said nothing of each; an equal one
            proves the file, another may come from parts of another size, and proves nothing.
        executable: Whether it may be run; None where that does not matter.
    """

    path: str
    key: str
    size: int
    parts: Sequence[Digest | None]
    checksum: str | None = None
    executable: bool | None = None

    @property
    def partial(self) -> str:
        """Where it lies until all of it is right."""
        path = PurePosixPath(self.path)
        return str(path.with_name(f".{path.name}.partial"))

    @property
    def cut(self) -> tuple[Part, ...]:
        """Where its parts lie, and their digests; what has one digest is one part."""
        length = max(1, self.size) if len(self.parts) == 1 else part_size(self.size)
        return tuple(zip(spans(self.size, length), self.parts, strict=True))

    @property
    def mode(self) -> int:
        """The permissions that it gets, whatever the umask is."""
        return 0o755 if self.executable else 0o644

    @property
    def provable(self) -> bool:
        """Whether bytes that lie there can be told from others without reading the source."""
        return None not in self.parts or self.checksum is not None


@dataclass(frozen=True, slots=True)
class Gap:
    """A file that is not there as it should be.

    Attributes:
        file: The file.
        parts: What is to be brought; what is not among them is right, in the partial file. Empty
            where the file lacks nothing but its name or its length.
    """

    file: File
    parts: tuple[Part, ...]

    @property
    def missing(self) -> int:
        """Bytes to bring."""
        return sum(span.length for span, _ in self.parts)


def missing_bytes(gaps: Sequence[Gap]) -> int:
    """Give the bytes that are to be brought in all."""
    return sum(gap.missing for gap in gaps)


def check_names(files: Sequence[File]) -> None:
    """Refuse files that are in each other's way.

    Raises:
        MalformedError: One's name is another's directory or partial file.
    """
    taken = {file.path for file in files}
    for file in files:
        above = {str(parent) for parent in PurePosixPath(file.path).parents}
        for name in (above | {file.partial}) & taken:
            raise MalformedError(
                f"{printable(file.path)}: {printable(name)} cannot be a file as well"
            )
