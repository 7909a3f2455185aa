"""The plain bytes of a layer, a piece at a time: it may be gzip, zstd or neither."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

from bundler.archive.zstd_frames import unpacked
from bundler.inventory.effort import MEMBERS, PACKED, PLAIN, Effort

# Source: RFC 1952, section 2.3.1; RFC 8878, sections 3.1.1 and 3.1.2 (what may be skipped).
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + n, 0x2A, 0x4D, 0x18)) for n in range(16)))
_GZIP_BITS = 31
_READ_BYTES, _PIECE_BYTES = 32 << 10, 1 << 20
# What layers that are no bombs unpack to: a GiB whatever they are, and more only of much.
_ANY_PLAIN_BYTES, _MAX_RATIO = 1 << 30, 40


def plain_pieces(
    source: BinaryIO, size: int, effort: Effort | None = None
) -> Iterator[bytes | memoryview]:
    """Unpack a layer, as runtimes do: its first bytes tell how, not its media type.

    Memory stays small whatever the layer says; each piece is good until the next is asked for.

    Args:
        source: The layer; it can be sought.
        size: Its bytes.
        effort: What may be spent on it; the layers below count too.

    Raises:
        ValueError: It is broken, or unpacks to so much that it can only be a bomb.
    """
    effort = effort or Effort()
    effort.spend(PACKED, size)
    most = _ANY_PLAIN_BYTES + _MAX_RATIO * effort.spent[PACKED]
    left = max(0, most - effort.spent.get(PLAIN, 0))
    for piece in _pieces(source, effort):
        effort.spend(PLAIN, len(piece))
        if effort.spent[PLAIN] > most:
            raise ValueError(f"{size} bytes that unpack to more than {left}")
        yield piece


def _pieces(source: BinaryIO, effort: Effort) -> Iterator[bytes | memoryview]:
    head = source.read(4)
    source.seek(0)
    if head.startswith(_GZIP_MAGIC):
        return _gunzipped(source, effort)
    if head in _ZSTD_MAGICS:
        return unpacked(source)
    return iter(lambda: source.read(_PIECE_BYTES), b"")


def _gunzipped(source: BinaryIO, effort: Effort) -> Iterator[bytes]:
    unpacking, packed = zlib.decompressobj(_GZIP_BITS), b""
    while packed or (packed := source.read(_READ_BYTES)):
        try:
            piece = unpacking.decompress(packed, _PIECE_BYTES)
        except zlib.error as error:
            raise ValueError(f"not gzip: {error}") from error
        packed = unpacking.unconsumed_tail
        if piece:
            yield piece
        if unpacking.eof:
            packed, unpacking = unpacking.unused_data, zlib.decompressobj(_GZIP_BITS)
            effort.spend(MEMBERS)
