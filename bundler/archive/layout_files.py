"""Where the files of an OCI image layout lie: in a directory, or in an archive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundler.archive.files import RandomReader
from bundler.archive.tar import Member
from bundler.errors import MalformedError, NotFoundError, printable


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of one file of a layout are."""

    reader: RandomReader
    offset: int
    size: int


class LayoutFiles(Protocol):
    """The files of one layout; ``name`` is what an error calls it, printable."""

    name: str

    def open(self, path: str) -> AbstractContextManager[Place]:
        """Find a file by its path in the layout.

        Raises:
            MalformedError: There is none, or it is no regular file.
        """


class DirectoryFiles:
    """A layout that is a directory."""

    def __init__(self, directory: Path) -> None:
        self.name = printable(str(directory))
        self._directory = directory

    @contextmanager
    def open(self, path: str) -> Iterator[Place]:
        """Find a file."""
        try:
            reader = RandomReader(self._directory / path)
        except NotFoundError as error:
            raise MalformedError(f"{self.name}: {path} is missing") from error
        with reader:
            yield Place(reader, 0, reader.size)


class ArchiveFiles:
    """A layout in an archive that is open for reading."""

    def __init__(self, reader: RandomReader, members: Mapping[str, Member]) -> None:
        self.name = printable(str(reader.path))
        self._reader = reader
        self._members = members

    @contextmanager
    def open(self, path: str) -> Iterator[Place]:
        """Find a file."""
        member = self._members.get(path)
        if member is None or member.directory:
            raise MalformedError(f"{self.name}: {path} is missing")
        yield Place(self._reader, member.offset, member.size)
