"""The plain bytes of a compressed volume, by position."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from bundler.archive.files import RandomReader
from bundler.archive.reader import Reader
from bundler.archive.zstd_frames import FrameStream
from bundler.archive.zstd_volume import read_index
from bundler.digest import Digest
from bundler.errors import ContentError, printable

_KEPT = 16


class ZstdReader(Reader):
    """Reads a compressed volume; who reads on where a read ended unpacks nothing twice.

    Args:
        path: The volume.

    Raises:
        ContentError: Header or index are not as they are written.
    """

    def __init__(self, path: Path) -> None:
        self._volume = RandomReader(path)
        try:
            self._index = read_index(self._volume)
        except BaseException:
            self._volume.close()
            raise
        self.size = self._index.size
        self._name = printable(str(path))
        # Frames that somebody is in the middle of, oldest first.
        self._open: list[tuple[int, FrameStream]] = []
        self._lock = threading.Lock()

    def is_volume(self, number: int, offset: int, digest: Digest) -> bool:
        """Say whether the header names it so."""
        index = self._index
        return (index.number, index.offset, index.digest) == (number, offset, digest)

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill buffers; raises as ``Reader`` says, and ContentError where a frame is broken."""
        for buffer in buffers:
            left = buffer
            while left:
                count = self._fill(offset, left)
                left, offset = left[count:], offset + count

    def drop_behind(self, offset: int, length: int) -> AbstractContextManager[None]:
        """Do so for all frames that hold some of the range."""
        if not length:
            return self._volume.drop_behind(0, 0)
        first = self._index.frame(self._index.frame_of(offset))
        last = self._index.frame(self._index.frame_of(offset + length - 1))
        return self._volume.drop_behind(first.offset, last.offset + last.length - first.offset)

    def close(self) -> None:
        """Close the volume."""
        self._open.clear()
        self._volume.close()

    def _fill(self, offset: int, buffer: memoryview) -> int:
        if offset >= self.size:
            raise ContentError(f"{self._name}: expected more than {self.size} bytes in its frames")
        number = self._index.frame_of(offset)
        frame = self._index.frame(number)
        within = offset - frame.plain_offset
        count = min(len(buffer), frame.plain_length - within)
        stream = self._take(number, within) or FrameStream(self._volume, frame, self._name)
        stream.skip(within - stream.position)
        stream.readinto(buffer[:count])
        if stream.position < frame.plain_length:
            self._keep(number, stream)
        return count

    def _take(self, number: int, within: int) -> FrameStream | None:
        """Take the stream that is nearest before a position, if any is."""
        with self._lock:
            before = [
                item for item in self._open if item[0] == number and item[1].position <= within
            ]
            if not before:
                return None
            best = max(before, key=lambda item: item[1].position)
            self._open.remove(best)
            return best[1]

    def _keep(self, number: int, stream: FrameStream) -> None:
        with self._lock:
            self._open.append((number, stream))
            del self._open[:-_KEPT]
