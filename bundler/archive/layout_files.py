"""Where the files of an OCI image layout lie: in a directory, or in an archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundler.archive.files import RandomReader
from bundler.archive.tar import Member, ReadAt
from bundler.errors import NotFoundError, printable


class LayoutFiles(Protocol):
    """The files of one layout."""

    @property
    def name(self) -> str:
        """What an error calls the layout, printable."""

    def size(self, path: str) -> int | None:
        """Give the bytes of a file; None where there is none.

        Raises:
            MalformedError: It is no regular file.
        """

    def read(self, path: str, length: int) -> bytes:
        """Read the first bytes of a file that is there, exactly as many as asked for."""


class DirectoryFiles:
    """The files of a layout in a directory; the last name of a path is never followed as a link."""

    def __init__(self, directory: Path) -> None:
        self.name = printable(str(directory))
        self._directory = directory

    def size(self, path: str) -> int | None:
        """Give the bytes of a file; None where there is none."""
        try:
            with RandomReader(self._directory / path) as reader:
                return reader.size
        except NotFoundError:
            return None

    def read(self, path: str, length: int) -> bytes:
        """Read the first bytes of a file."""
        with RandomReader(self._directory / path) as reader:
            return reader.read_at(0, length)


@dataclass(frozen=True, slots=True)
class ArchiveFiles:
    """The files of a layout in a tar.

    Attributes:
        name: What an error calls the archive.
        read_at: Gives exactly as many bytes of the archive as asked for, from an offset.
        members: By path.
    """

    name: str
    read_at: ReadAt
    members: Mapping[str, Member]

    def size(self, path: str) -> int | None:
        """Give the bytes of a file; None where there is none."""
        member = self.members.get(path)
        return None if member is None else member.size

    def read(self, path: str, length: int) -> bytes:
        """Read the first bytes of a file."""
        return self.read_at(self.members[path].offset, length)
