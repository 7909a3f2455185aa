"""Reading an archive by position, whatever carries its bytes: a file, or volumes."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

READ_BYTES = 1 << 20
# What a read leaves in memory at most, where it was not before.
WINDOW_BYTES = 64 << 20


class Reader(ABC):
    """Bytes read by position, from any number of threads; close it, or use it in a ``with``.

    Attributes:
        size: How many bytes there are.
    """

    size: int

    @abstractmethod
    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill up to 1024 buffers, one behind the other.

        Raises:
            ContentError: The bytes end before, or are not there; names the file.
            WorldError: The disk fails; names the file and the offset in it.
        """

    @abstractmethod
    def drop_behind(self, offset: int, length: int) -> AbstractContextManager[None]:
        """Read a range in this block without leaving it in memory, unless it was there before."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is open."""

    def carriers(self, offset: int, length: int) -> str | None:
        """Name the volumes that carry a range; None where one file carries all."""
        return None

    def has(self, offset: int, length: int) -> bool:
        """Say whether a range can be read as far as names and sizes tell."""
        return offset + length <= self.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Read exactly ``length`` bytes; raises as ``readv`` does."""
        buffer = bytearray(length)
        self.readv(offset, [memoryview(buffer)])
        return bytes(buffer)

    def pieces(self, offset: int, length: int, *, keep: bool = False) -> Iterator[memoryview]:
        """Read a range 1 MiB at a time, into one buffer: each piece is good until the next one.

        What was not in memory before is not left there, unless ``keep``. Raises as ``readv`` does.
        """
        buffer = memoryview(bytearray(min(length, READ_BYTES)))
        for window in range(0, length, WINDOW_BYTES):
            end = min(window + WINDOW_BYTES, length)
            with nullcontext() if keep else self.drop_behind(offset + window, end - window):
                for done in range(window, end, READ_BYTES):
                    view = buffer[: end - done]
                    self.readv(offset + done, [view])
                    yield view

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ReaderSlice(io.RawIOBase):
    """A range of a reader as a stream that can be read and sought, for one thread at a time.

    The reader is not closed with it. Reading raises as ``Reader.readv`` does.
    """

    _reader: Reader | None = None

    def __init__(self, reader: Reader, offset: int, length: int) -> None:
        super().__init__()
        self._reader = reader
        self._offset = offset
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Give the position, counted from the start of the slice."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, counted from the start of the slice."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError(f"position {start + offset}: expected 0 or more")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer from the position on; 0 only at the end of the slice."""
        left = max(0, self._length - self._position)
        view = memoryview(buffer).cast("B")[:left]
        if self._reader is None:
            raise ValueError("read of a closed slice")
        if view:
            self._reader.readv(self._offset + self._position, [view])
            self._position += len(view)
        return len(view)

    def close(self) -> None:
        """Let go of the reader."""
        self._reader = None
        super().close()
