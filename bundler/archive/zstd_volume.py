"""A compressed volume: zstd frames that stand alone, and an index of where each one lies.

``cat`` of all volumes is one zstd file: header and index are frames that every zstd steps over.
The index is laid out as zstd's own seekable format has it, so that other programs can use it too.
Nothing in a volume is signed: what is read here has limits, and says only where to look.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bundler.archive.files import RandomReader
from bundler.archive.reader import WINDOW_BYTES
from bundler.digest import Digest
from bundler.errors import ContentError, printable

# What one frame holds at most, so that any byte is reached by unpacking no more than this.
FRAME_BYTES = WINDOW_BYTES
# Source: RFC 8878, section 3.1.2: magic of a frame to be skipped, and the length of its content.
_SKIPPED = struct.Struct("<II")
_HEADER_MAGIC, _INDEX_MAGIC = 0x184D2A50, 0x184D2A5E
# Ours: what it is, number of the volume, where its bytes start in the archive, sha256 of that.
_HEADER = struct.Struct("<16sIQ32s")
_KIND = b"bundle volume 1\n"
# Source: zstd, contrib/seekable_format/zstd_seekable_compression_format.md: an entry has the
# compressed and the plain size of a frame; the footer their number, flags, and a magic number.
_ENTRY = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")
_FOOTER_MAGIC = 0x8F92EAB1
HEADER_BYTES = _SKIPPED.size + _HEADER.size
_MAX_FRAMES = 4_000_000
_HINT = "copy the volume again from its source"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: where it lies in the volume, and which plain bytes of the volume it holds."""

    offset: int
    length: int
    plain_offset: int
    plain_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZstdIndex:
    """What a compressed volume says of itself; none of it is signed.

    Attributes:
        number: Of the volume, from 1.
        offset: Where its plain bytes start in the archive.
        digest: The sha256 of the archive.
        ends, plain_ends: Where each frame ends, in the volume and among its plain bytes.
    """

    number: int
    offset: int
    digest: Digest
    ends: Sequence[int]
    plain_ends: Sequence[int]

    @property
    def size(self) -> int:
        """Plain bytes of the volume."""
        return self.plain_ends[-1]

    def frame_of(self, plain_offset: int) -> int:
        """Say which frame holds a plain byte."""
        return bisect_right(self.plain_ends, plain_offset)

    def frame(self, number: int) -> Frame:
        """Give a frame by its number, from 1: frame 0 is the header."""
        start, plain_start = self.ends[number - 1], self.plain_ends[number - 1]
        return Frame(
            start, self.ends[number] - start, plain_start, self.plain_ends[number] - plain_start
        )


def encode_header(number: int, offset: int, digest: Digest) -> bytes:
    """Write the frame that a volume begins with."""
    content = _HEADER.pack(_KIND, number, offset, digest.raw)
    return _SKIPPED.pack(_HEADER_MAGIC, len(content)) + content


def encode_index(frames: Sequence[tuple[int, int]]) -> bytes:
    """Write the frame that a volume ends with.

    Args:
        frames: Length and plain length of each, without the header.
    """
    entries = b"".join(_ENTRY.pack(*sizes) for sizes in ((HEADER_BYTES, 0), *frames))
    content = entries + _FOOTER.pack(len(frames) + 1, 0, _FOOTER_MAGIC)
    return _SKIPPED.pack(_INDEX_MAGIC, len(content)) + content


def index_bytes(frames: int) -> int:
    """Say how long the index of so many frames is."""
    return _SKIPPED.size + (frames + 1) * _ENTRY.size + _FOOTER.size


@contextmanager
def open_volume(path: Path) -> Iterator[tuple[RandomReader, ZstdIndex]]:
    """Open a compressed volume and read its header and index; it is closed with the block.

    Raises:
        ContentError: They are not as ``encode_header`` and ``encode_index`` write them.
        NotFoundError, MalformedError, WorldError: It cannot be opened as a plain file, or read.
    """
    with RandomReader(path) as reader:
        yield reader, read_index(reader)


def read_index(reader: RandomReader) -> ZstdIndex:
    """Read the header and the index of a volume; raises as ``open_volume`` does."""
    number, offset, digest = _read_header(reader)
    entries = _read_entries(reader)
    ends = list(accumulate(compressed for compressed, _ in entries))
    plain_ends = list(accumulate(plain for _, plain in entries))
    index_length = index_bytes(len(entries) - 1)
    if entries[0] != (HEADER_BYTES, 0) or ends[-1] + index_length != reader.size:
        raise _broken(reader, f"an index of {reader.size - index_length} bytes of frames")
    if not all(plain and compressed for compressed, plain in entries[1:]):
        raise _broken(reader, "frames that are not empty")
    return ZstdIndex(number=number, offset=offset, digest=digest, ends=ends, plain_ends=plain_ends)


def _read_header(reader: RandomReader) -> tuple[int, int, Digest]:
    if reader.size < HEADER_BYTES + index_bytes(1):
        raise _broken(reader, "a header and an index")
    head = reader.read_at(0, HEADER_BYTES)
    kind, number, offset, raw = _HEADER.unpack(head[_SKIPPED.size :])
    if _SKIPPED.unpack(head[: _SKIPPED.size]) != (_HEADER_MAGIC, _HEADER.size) or kind != _KIND:
        raise _broken(reader, "the header of a compressed volume at its start")
    return number, offset, Digest(raw.hex())


def _read_entries(reader: RandomReader) -> list[tuple[int, int]]:
    footer_at = reader.size - _FOOTER.size
    count, flags, magic = _FOOTER.unpack(reader.read_at(footer_at, _FOOTER.size))
    if (flags, magic) != (0, _FOOTER_MAGIC) or not 1 < count <= _MAX_FRAMES:
        raise _broken(reader, "an index at its end")
    length = index_bytes(count - 1)
    if length > reader.size:
        raise _broken(reader, f"an index of {count} frames")
    content = reader.read_at(reader.size - length, length - _FOOTER.size)
    if _SKIPPED.unpack(content[: _SKIPPED.size]) != (_INDEX_MAGIC, length - _SKIPPED.size):
        raise _broken(reader, "an index at its end")
    entries = list(_ENTRY.iter_unpack(content[_SKIPPED.size :]))
    if any(plain > FRAME_BYTES for _, plain in entries):
        raise _broken(reader, f"frames of at most {FRAME_BYTES} plain bytes")
    return entries


def _broken(reader: RandomReader, expected: str) -> ContentError:
    return ContentError(
        f"{printable(str(reader.path))}: expected {expected}, got something else; it is cut short "
        "or damaged",
        hint=_HINT,
    )
