"""Where the files of an OCI image layout lie: in a directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import RandomReader
from bundler.errors import MalformedError, NotFoundError, printable


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of one file of a layout are."""

    reader: RandomReader
    offset: int
    size: int


class DirectoryFiles:
    """The files of one layout; ``name`` is what an error calls it, printable."""

    def __init__(self, directory: Path) -> None:
        self.name = printable(str(directory))
        self._directory = directory

    @contextmanager
    def open(self, path: str) -> Iterator[Place]:
        """Find a file by its path in the layout.

        Raises:
            MalformedError: There is none, or it is no regular file.
        """
        try:
            reader = RandomReader(self._directory / path)
        except NotFoundError as error:
            raise MalformedError(f"{self.name}: {path} is missing") from error
        with reader:
            yield Place(reader, 0, reader.size)
