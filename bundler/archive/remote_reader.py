"""An archive that lies in a bucket, read by position: few long downloads rather than many reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from bundler.archive.reader import Reader
from bundler.errors import ContentError, printable
from bundler.remote_object import RemoteObject

# Headers and padding are read in steps of some hundred bytes, and more than once.
_PAGE_BYTES = 16 << 10
_PAGES = 512
# What lies between two reads of one download is downloaded too, up to this.
_SKIP_BYTES = 128 << 10


class RemoteReader(Reader):
    """An object as a reader.

    A range that was announced by ``drop_behind`` comes as one download, which the reads of the
    same thread go on with as long as they go forward. Small reads outside of one come from pages
    that are kept; large ones are a download each.
    """

    def __init__(self, source: RemoteObject) -> None:
        self.size = source.size
        self._source = source
        self._own = threading.local()
        self._page = lru_cache(_PAGES)(self._read_page)

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers; raises as ``Reader`` says, and WorldError where the object changed."""
        length = sum(map(len, buffers))
        if offset + length > self.size:
            raise ContentError(
                f"{printable(self._source.name)}: expected {offset + length} bytes or more, "
                f"got {self.size}",
                hint="the object is cut short; copy it again",
            )
        download = next((item for item in self._announced() if item.reaches(offset, length)), None)
        if download is not None:
            download.fill(offset, buffers)
        elif length <= _PAGE_BYTES:
            self._fill_from_pages(offset, buffers)
        else:
            _Download(self._source, offset, offset + length).fill(offset, buffers)

    @contextmanager
    def drop_behind(self, offset: int, length: int) -> Iterator[None]:
        """Announce that this thread reads a range in this block, from its start to its end."""
        end = min(offset + length, self.size)
        if end - offset <= _PAGE_BYTES:
            yield
            return
        announced = self._announced()
        download = _Download(self._source, offset, end)
        announced.append(download)
        try:
            yield
        finally:
            announced.remove(download)

    def pieces(self, offset: int, length: int, *, keep: bool = False) -> Iterator[memoryview]:
        """Read a range 1 MiB at a time; ``keep`` is about memory that a bucket does not use."""
        return super().pieces(offset, length)

    def close(self) -> None:
        """Forget what was kept; a connection is given back as soon as its download ends."""
        self._page.cache_clear()

    def _announced(self) -> list[_Download]:
        found: list[_Download] = self._own.__dict__.setdefault("announced", [])
        return found

    def _fill_from_pages(self, offset: int, buffers: Sequence[memoryview]) -> None:
        for buffer in buffers:
            done = 0
            while done < len(buffer):
                number, within = divmod(offset, _PAGE_BYTES)
                piece = self._page(number)[within : within + len(buffer) - done]
                buffer[done : done + len(piece)] = piece
                done += len(piece)
                offset += len(piece)

    def _read_page(self, number: int) -> bytes:
        begin = number * _PAGE_BYTES
        return b"".join(self._source.read(begin, min(_PAGE_BYTES, self.size - begin)))


class _Download:
    """A range on its way, from its start on; it begins with the first read."""

    def __init__(self, source: RemoteObject, begin: int, end: int) -> None:
        self._source = source
        self._position = begin
        self._end = end
        self._chunks: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def reaches(self, offset: int, length: int) -> bool:
        """Say whether a range is ahead, and near enough to go there by reading."""
        near = self._position <= offset <= self._position + _SKIP_BYTES
        return near and offset + length <= self._end

    def fill(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers from an offset that is not behind; a failed download begins anew."""
        try:
            while self._position < offset:
                self._take(offset - self._position)
            for buffer in buffers:
                done = 0
                while done < len(buffer):
                    piece = self._take(len(buffer) - done)
                    buffer[done : done + len(piece)] = piece
                    done += len(piece)
        except BaseException:
            self._chunks, self._rest = None, memoryview(b"")
            raise

    def _take(self, limit: int) -> memoryview:
        if not self._rest:
            if self._chunks is None:
                self._chunks = self._source.read(self._position, self._end - self._position)
            self._rest = memoryview(next(self._chunks))
        piece, self._rest = self._rest[:limit], self._rest[limit:]
        self._position += len(piece)
        return piece
