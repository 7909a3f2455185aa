from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.archive.stored_gzip import BLOCK_BYTES, StoredGzipReader, StoredGzipWriter
from bundler.errors import MalformedError

PIECES = st.lists(st.binary(max_size=300), max_size=8)


def packed(pieces: list[bytes], block_bytes: int = BLOCK_BYTES) -> bytes:
    archive = bytearray()
    writer = StoredGzipWriter(archive.extend, block_bytes)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    return bytes(archive)


def reader(archive: bytes, block_bytes: int) -> StoredGzipReader:
    def readv(offset: int, buffers: Sequence[memoryview]) -> None:
        assert len(buffers) <= 1024
        assert 0 <= offset <= offset + sum(map(len, buffers)) <= len(archive)
        for buffer in buffers:
            buffer[:] = archive[offset : offset + len(buffer)]
            offset += len(buffer)

    return StoredGzipReader(readv, len(archive), block_bytes=block_bytes, name="x.gz")


def read_all(archive: bytes, block_bytes: int) -> bytes:
    opened = reader(archive, block_bytes)
    return opened.read(0, opened.plain_size)


@given(pieces=PIECES, block_bytes=st.integers(1, 200))
def test_any_gzip_gives_the_content_back(pieces: list[bytes], block_bytes: int) -> None:
    content = b"".join(pieces)
    archive = packed(pieces, block_bytes)
    assert gzip.decompress(archive) == content
    assert archive == packed([content], block_bytes)
    blocks = max(1, -(-len(content) // block_bytes))
    assert len(archive) == 18 + len(content) + 5 * blocks


@given(content=st.binary(max_size=1000), block_bytes=st.integers(1, 300), data=st.data())
def test_any_range_is_read_in_place(content: bytes, block_bytes: int, data: st.DataObject) -> None:
    archive = packed([content], block_bytes)
    opened = reader(archive, block_bytes)
    assert opened.plain_size == len(content)
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, len(content) - start))
    assert opened.read(start, length) == content[start : start + length]
    if length:
        assert archive[opened.archive_offset(start)] == content[start]


@given(content=st.binary(max_size=1000), block_bytes=st.integers(1, 300), data=st.data())
def test_pieces_are_in_one_buffer_and_nothing_is_read_twice(
    content: bytes, block_bytes: int, data: st.DataObject
) -> None:
    opened = reader(packed([content], block_bytes), block_bytes)
    opened._piece_bytes = block_bytes * data.draw(st.integers(1, 4))
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, len(content) - start))
    got, readv = b"", opened._readv
    buffers: set[int] = set()
    read: list[int] = []

    def counted(offset: int, views: Sequence[memoryview]) -> None:
        read.extend(range(offset, offset + sum(map(len, views))))
        readv(offset, views)

    opened._readv = counted
    for piece in opened.pieces(start, length):
        assert piece.contiguous
        assert 0 < len(piece) <= opened._piece_bytes
        got += piece
        buffers.add(id(piece.obj))
        assert len(memoryview(piece.obj)) <= length
    assert got == content[start : start + length]
    assert len(buffers) <= 1
    assert len(read) == len(set(read))


@pytest.mark.parametrize("block_bytes", [1, 7, 65_024, 65_535])
def test_a_read_takes_as_many_buffers_as_the_system_does(block_bytes: int) -> None:
    content = bytes(range(256)) * (block_bytes // 4 + 40)
    opened = reader(packed([content], block_bytes), block_bytes)  # it counts them
    assert b"".join(map(bytes, opened.pieces(3, len(content) - 3))) == content[3:]
    assert max(map(len, opened.pieces(0, len(content)))) <= 1 << 20


def test_the_bytes_are_fixed() -> None:
    assert packed([b"abc"]).hex() == "1f8b08000000000000ff" + "010300fcff" + "616263" + (
        zlib.crc32(b"abc").to_bytes(4, "little").hex() + "03000000"
    )
    assert packed([]).hex() == "1f8b08000000000000ff" + "010000ffff" + "00" * 8
    two = packed([bytes(BLOCK_BYTES + 1)])
    assert two[10:15].hex() == "0000fe" + "ff01"
    assert two[15 + BLOCK_BYTES :][:5].hex() == "010100feff"


def test_a_tar_header_never_straddles_two_blocks() -> None:
    assert BLOCK_BYTES == 65_024
    assert BLOCK_BYTES % 512 == 0


def test_no_byte_between_the_content_may_change() -> None:
    content, block_bytes = bytes(range(100)), 30
    archive = packed([content], block_bytes)
    opened = reader(archive, block_bytes)
    places = {opened.archive_offset(at) for at in range(len(content))}
    checksum = range(len(archive) - 8, len(archive) - 4)  # the digests say more
    for at in set(range(len(archive))) - places - set(checksum):
        for flip in (1, 0x80):
            damaged = archive[:at] + bytes([archive[at] ^ flip]) + archive[at + 1 :]
            with pytest.raises(MalformedError, match=r"x\.gz: at offset \d+: expected"):
                read_all(damaged, block_bytes)


def test_only_the_blocks_that_a_read_touches_are_checked() -> None:
    archive = bytearray(packed([bytes(100)], 30))
    archive[10 + 35] ^= 1  # the header of the second block
    opened = reader(bytes(archive), 30)
    assert opened.read(0, 30) == bytes(30)
    assert opened.read(60, 40) == bytes(40)
    with pytest.raises(MalformedError, match="at offset 45: expected the header of a stored block"):
        opened.read(29, 2)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_truncated_archive_is_refused(cut: int) -> None:
    archive = packed([bytes(range(1, 60))], 20)
    with pytest.raises(MalformedError, match=r"x\.gz"):
        read_all(archive[:-cut], 20)


@pytest.mark.parametrize(
    "archive",
    [
        gzip.compress(b"abc" * 100),
        gzip.compress(bytes(100), compresslevel=0),
        packed([bytes(100)], 30) + b"\0",
        packed([bytes(100)], 30) + packed([], 30),
        packed([bytes(100)], 31),
        packed([bytes(90)], 30)[:-8] + b"\1\0\0\xff\xff" + packed([bytes(90)], 30)[-8:],
        b"",
    ],
)
def test_an_archive_that_we_do_not_write_is_refused(archive: bytes) -> None:
    with pytest.raises(MalformedError, match=r"x\.gz"):
        read_all(archive, 30)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 11), (11, 0), (5, -1)])
def test_a_range_beyond_the_content_is_a_mistake_of_the_caller(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="content has 10"):
        reader(packed([bytes(10)], 4), 4).read(offset, length)


@pytest.mark.parametrize("block_bytes", [0, 65536])
def test_a_block_has_1_to_65535_bytes(block_bytes: int) -> None:
    with pytest.raises(ValueError, match="1 to 65535"):
        StoredGzipWriter(len, block_bytes)
