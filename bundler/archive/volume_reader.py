"""One archive out of the volumes that carry it, read where they lie and never joined on disk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bundler.archive.reader import Reader
from bundler.errors import ContentError, printable


@dataclass(frozen=True, slots=True)
class Segment:
    """What one volume carries: the archive's bytes from ``offset`` on, as a reader of their own.

    ``name`` is for people: printable, the file's name alone.
    """

    name: str
    offset: int
    reader: Reader

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.reader.size


class VolumeReader(Reader):
    """Segments, one behind the other; where one is missing, reading there raises.

    Args:
        archive: What to call it in an error.
        segments: By offset; none overlaps another. They are closed with this.
        size: Bytes of the whole archive.
    """

    def __init__(self, archive: str, segments: Sequence[Segment], size: int) -> None:
        self.size = size
        self._archive = printable(archive)
        self._segments = [segment for segment in segments if segment.reader.size]
        self._empty = [segment for segment in segments if not segment.reader.size]
        self._offsets = [segment.offset for segment in self._segments]

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers, each from the volumes that its bytes lie in."""
        left = list(buffers)
        while any(left):
            segment = self._segment(offset)
            now, left = _divide(left, segment.end - offset)
            segment.reader.readv(offset - segment.offset, now)
            offset += sum(map(len, now))

    @contextmanager
    def drop_behind(self, offset: int, length: int) -> Iterator[None]:
        """Do so for each volume that has a piece of the range."""
        with ExitStack() as stack:
            for segment in self._between(offset, length):
                begin = max(offset, segment.offset)
                count = min(offset + length, segment.end) - begin
                stack.enter_context(segment.reader.drop_behind(begin - segment.offset, count))
            yield

    def carriers(self, offset: int, length: int) -> str | None:
        """Name the volumes that carry a range."""
        return ", ".join(segment.name for segment in self._between(offset, length)) or None

    def has(self, offset: int, length: int) -> bool:
        """Say whether every volume that carries a piece of the range is there."""
        there = 0
        for segment in self._between(offset, length):
            there += min(offset + length, segment.end) - max(offset, segment.offset)
        return there == length and offset + length <= self.size

    def close(self) -> None:
        """Close every volume."""
        for segment in (*self._segments, *self._empty):
            segment.reader.close()

    def _segment(self, offset: int) -> Segment:
        number = bisect_right(self._offsets, offset) - 1
        if number < 0 or offset >= self._segments[number].end:
            raise ContentError(
                f"{self._archive}: no volume that can be used holds offset {offset}",
                hint="bring the volume that is missing; --volumes DIR says where else to look",
            )
        return self._segments[number]

    def _between(self, offset: int, length: int) -> Iterator[Segment]:
        first = max(0, bisect_right(self._offsets, offset) - 1)
        for segment in self._segments[first:]:
            if segment.offset >= offset + length:
                return
            if segment.end > offset:
                yield segment


def _divide(buffers: Sequence[memoryview], count: int) -> tuple[list[memoryview], list[memoryview]]:
    """Cut a row of buffers behind its first ``count`` bytes."""
    before: list[memoryview] = []
    for number, buffer in enumerate(buffers):
        if len(buffer) > count:
            before.append(buffer[:count])
            return before, [buffer[count:], *buffers[number + 1 :]]
        before.append(buffer)
        count -= len(buffer)
    return before, []
