"""The body of a request to S3: one part, read where it lies while it is sent."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, cast

from bundler.stores.base import Advance, Pieces
from bundler.stores.retry import Tries


class Body:
    """A part as a stream of known length; it tells of each byte given, and takes it back.

    Whoever reads gets the next piece whole, whatever size was asked for: the HTTP library asks for
    16 KiB at a time, and hands on what it is given. It rewinds to the start and nowhere else.

    Attributes:
        tries: The attempts at sending it; time in which bytes flow is not held against them.
    """

    def __init__(self, pieces: Pieces, length: int, advance: Advance, tries: Tries) -> None:
        self.tries = tries
        self._pieces = pieces
        self._length = length
        self._advance = advance
        self._left: Iterator[bytes | memoryview] = pieces()
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes | memoryview:
        """Give the next piece; nothing at the end."""
        self.tries.flows()
        piece = next(self._left, b"")
        self._position += len(piece)
        self._advance(len(piece))
        return piece

    def tell(self) -> int:
        """Say how far it is read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go back to the start; what was read counts as not sent."""
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation(f"seek to {offset}: expected the start")
        if self._position:
            self._advance(-self._position)
            self._left, self._position = self._pieces(), 0
        return 0

    def as_stream(self) -> IO[bytes]:
        """Give it the type under which the client library takes it."""
        return cast("IO[bytes]", self)
