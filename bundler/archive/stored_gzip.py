"""gzip that stores rather than compresses, so that every byte of the content has a known place.

Any gzip reads it, and its bytes depend on no zlib version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from bundler.archive.files import READ_BYTES
from bundler.errors import MalformedError, printable

# 127 blocks of a tar: a tar header, whose place is a multiple of 512, never straddles two blocks.
BLOCK_BYTES = 127 * 512
# Source: RFC 1952, section 2.3: deflate, no flags, no time, no extra flags, unknown system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
# Source: RFC 1951, section 3.2.4: final bit and type 00 in a byte, length, its complement.
_BLOCK = struct.Struct("<BHH")
# Source: RFC 1952, section 2.3.1: crc32 and length of the content, modulo 2**32.
_TRAILER = struct.Struct("<II")
_SIZE_MASK = 0xFFFFFFFF
# Header and content of each are two buffers of one read, which takes 1024 at most.
_MAX_BLOCKS_AT_ONCE = 500
ReadV = Callable[[int, Sequence[memoryview]], None]


class StoredGzipWriter:
    """Wraps content in stored blocks.

    Args:
        write: Takes the archive's bytes, a few large pieces at a time.
        block_bytes: Content in each block but the last; 1 to 65535.
    """

    def __init__(self, write: Callable[[bytes], object], block_bytes: int = BLOCK_BYTES) -> None:
        if not 1 <= block_bytes <= 0xFFFF:
            raise ValueError(f"block of {block_bytes} bytes: expected 1 to 65535")
        self._write = write
        self._block_bytes = block_bytes
        self._pending = bytearray()
        self._checksum = 0
        self._size = 0
        self._write(_HEADER)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add content."""
        view = memoryview(data).cast("B")
        self._checksum = zlib.crc32(view, self._checksum)
        self._size += len(view)
        pieces: list[bytes | memoryview] = []
        # The last block is marked as such, so a full one waits until there is more.
        while len(self._pending) + len(view) > self._block_bytes:
            room = self._block_bytes - len(self._pending)
            pieces += self._block_header(self._block_bytes, final=False), bytes(self._pending)
            pieces.append(view[:room])
            self._pending.clear()
            view = view[room:]
        self._pending += view
        if pieces:
            self._write(b"".join(pieces))

    def close(self) -> None:
        """Write the last block, which is empty only if the content is, and the trailer."""
        first = self._block_header(len(self._pending), final=True)
        trailer = _TRAILER.pack(self._checksum, self._size & _SIZE_MASK)
        self._write(first + bytes(self._pending) + trailer)
        self._pending.clear()

    def _block_header(self, length: int, *, final: bool) -> bytes:
        return _BLOCK.pack(final, length, length ^ 0xFFFF)


class StoredGzipReader:
    """Reads content by position, and takes nothing that ``StoredGzipWriter`` does not write.

    Every block header that a read touches is checked; the checksum at the end is not, since the
    content's digests say more.

    Attributes:
        plain_size: Bytes of content.

    Args:
        readv: Fills up to 1024 buffers, one behind the other, from an offset of the archive.
        size: Bytes of the archive.
        block_bytes: Content in each block but the last.
        name: What to call the archive in an error.

    Raises:
        MalformedError: It is not such an archive.
    """

    def __init__(self, readv: ReadV, size: int, *, block_bytes: int, name: str) -> None:
        self._readv = readv
        self._size = size
        self._block_bytes = block_bytes
        self._piece_bytes = block_bytes * min(
            max(1, READ_BYTES // block_bytes), _MAX_BLOCKS_AT_ONCE
        )
        self._name = name
        stored = size - len(_HEADER) - _TRAILER.size
        self._blocks = max(1, -(-stored // (block_bytes + _BLOCK.size)))
        self.plain_size = stored - self._blocks * _BLOCK.size
        last = self.plain_size - (self._blocks - 1) * block_bytes
        if last < 0 or (last == 0 and self._blocks > 1):
            self._refuse(0, f"{size} bytes cannot be stored blocks of {block_bytes}")
        header, trailer = bytearray(len(_HEADER)), bytearray(_TRAILER.size)
        readv(0, [memoryview(header)])
        if header != _HEADER:
            self._refuse(0, "expected a gzip header with no time and no name")
        readv(size - len(trailer), [memoryview(trailer)])
        _, length = _TRAILER.unpack(trailer)
        if length != self.plain_size & _SIZE_MASK:
            self._refuse(size - 4, f"expected the length {self.plain_size}, got {length}")

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly ``length`` bytes of content from ``offset``; raises as ``pieces`` does."""
        return b"".join(map(bytes, self.pieces(offset, length)))

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """Read a range of the content, about 1 MiB at a time and nothing twice.

        Yields:
            The bytes in order, all in one buffer: each piece is good until the next is asked for.

        Raises:
            MalformedError: A block header on the way is not as it must be; names its offset.
            ValueError: The range leaves the content.
        """
        if offset < 0 or length < 0 or offset + length > self.plain_size:
            raise ValueError(f"{length} bytes from {offset}: content has {self.plain_size}")
        buffer = memoryview(bytearray(min(length, self._piece_bytes)))
        done = 0
        while done < length:
            # Each piece but the first begins with a block, so that one read has its header too.
            room = self._piece_bytes - (offset + done) % self._block_bytes
            view = buffer[: min(room, length - done)]
            self._fill(offset + done, view)
            yield view
            done += len(view)

    def _fill(self, offset: int, content: memoryview) -> None:
        """Read content in place: what lies between goes elsewhere in the same read."""
        first, within = divmod(offset, self._block_bytes)
        last = (offset + len(content) - 1) // self._block_bytes
        headers = memoryview(bytearray((last - first + 1) * _BLOCK.size))
        buffers: list[memoryview] = []
        for n in range(last - first + 1):
            begin = n * self._block_bytes - within
            buffers.append(headers[n * _BLOCK.size : (n + 1) * _BLOCK.size])
            buffers.append(content[max(0, begin) : begin + self._block_bytes])
        start = self._place(first)
        if within:
            self._readv(start, [buffers.pop(0)])
            start += _BLOCK.size + within
        self._readv(start, buffers)
        for n in range(last - first + 1):
            self._check_block(first + n, headers[n * _BLOCK.size : (n + 1) * _BLOCK.size])

    def archive_offset(self, offset: int) -> int:
        """Say where a byte of the content lies in the archive."""
        number, within = divmod(offset, self._block_bytes)
        return self._place(number) + _BLOCK.size + within

    def archive_range(self, offset: int, length: int) -> tuple[int, int]:
        """Say between which offsets of the archive lies all that a read of a range touches."""
        return self._place(offset // self._block_bytes), self.archive_offset(offset + length)

    def _place(self, number: int) -> int:
        return len(_HEADER) + number * (self._block_bytes + _BLOCK.size)

    def _check_block(self, number: int, found: memoryview) -> None:
        final = number == self._blocks - 1
        left = self.plain_size - number * self._block_bytes
        length = left if final else self._block_bytes
        if found != _BLOCK.pack(final, length, length ^ 0xFFFF):
            self._refuse(
                self._place(number),
                f"expected the header of a stored block of {length} bytes, got {found.hex()}",
            )

    def _refuse(self, offset: int, problem: str) -> NoReturn:
        raise MalformedError(f"{printable(self._name)}: at offset {offset}: {problem}")
