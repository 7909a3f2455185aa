"""What tar headers say; what of it may stand in an archive is tested with each reader."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.tar_header import (
    GLOBAL,
    LONG_LINK,
    LONG_NAME,
    PAX,
    Extended,
    Header,
    checksum,
    read_records,
)
from tests.hostile.raw_tar import member

OTHER_VERSION = b"ustar\x00  "


@given(
    name=st.text("ab\u00fc./-", min_size=1, max_size=40),
    size=st.integers(0, 1 << 60),
    mtime=st.integers(0, 1 << 40),
    kind=st.sampled_from([b"0", b"1", b"2", b"5", b"7"]),
)
def test_a_header_of_python_is_read(name: str, size: int, mtime: int, kind: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.type, info.mode, info.linkname = size, mtime, kind, 0o640, "l"
    header = Header(info.tobuf(tarfile.GNU_FORMAT)[-512:])
    assert header.path.decode().rstrip("/") == name.rstrip("/")
    assert (header.size, header.mtime, header.mode) == (size, mtime, 0o640)
    assert (header.kind, header.link) == (kind, b"l")


@pytest.mark.parametrize(
    ("magic", "path"),
    [
        (b"ustar\x0000", b"front/name"),
        (OTHER_VERSION, b"front/name"),
        (bytes(8), b"name"),
    ],
)
def test_a_name_has_a_front_where_the_format_has_one_whatever_its_version(
    magic: bytes, path: bytes
) -> None:
    assert Header(member(b"name", prefix=b"front", magic=magic)).path == path


@pytest.mark.parametrize(
    "front", [b"charts", b"00000000000\0x", b"00000000000\0" + b"1" * 11 + b"x"]
)
def test_a_front_that_go_takes_where_gnu_tar_has_times_is_refused(front: bytes) -> None:
    header = Header(member(b"name", prefix=front, magic=b"ustar  \x00"))
    with pytest.raises(ValueError, match="octal"):
        _ = header.path


def test_times_of_gnu_tar_are_no_front() -> None:
    times = b"00000000001\0" + b"00000000002\0"
    assert Header(member(b"name", prefix=times, magic=b"ustar  \x00")).path == b"name"


@pytest.mark.parametrize("length", [131, 132])
def test_a_front_longer_than_stars_is_refused_in_a_header_of_star(length: int) -> None:
    block = bytearray(member(b"name", prefix=b"f" * length)[:512])
    block[508:] = b"tar\0"
    block[148:156] = b"%06o\0 " % checksum(bytes(block))
    header = Header(bytes(block))
    if length == 131:
        assert header.path == b"f" * 131 + b"/name"
    else:
        with pytest.raises(ValueError, match="longer than star's"):
            _ = header.path


@pytest.mark.parametrize("size", [b"\0" + b"7" * 10 + b"\0", b"7\0" + b"7" * 9 + b"\0", b"0x7\0"])
def test_a_number_that_readers_end_in_different_places_is_refused(size: bytes) -> None:
    header = Header(member(b"name", size=size))
    with pytest.raises(ValueError, match="octal"):
        _ = header.size


@pytest.mark.parametrize(
    ("size", "means"), [(b"    7 \0\0\0\0\0\0", 7), (b"\0" * 12, 0), (b"7" * 12, 0o777777777777)]
)
def test_numbers_are_read_as_they_are_written(size: bytes, means: int) -> None:
    assert Header(member(b"name", size=size)).size == means


@pytest.mark.parametrize("at", [0, 124, 148, 155, 257, 511])
def test_a_flipped_bit_is_noticed(at: int) -> None:
    block = bytearray(member(b"name"))
    block[at] ^= 0x40
    with pytest.raises(ValueError, match=r"checksum|octal"):
        Header(bytes(block))


@given(st.binary(min_size=512, max_size=512))
def test_a_checksum_is_the_sum_of_all_bytes(block: bytes) -> None:
    assert checksum(block) == sum(block[:148]) + 8 * ord(" ") + sum(block[156:])


@pytest.mark.parametrize(
    "body",
    [
        b"8 path=a\n",
        b"10 path=a",
        b"9 path=a ",
        b"011 path=a\n",
        b"+9 path=a\n",
        b"4 =a\n",
        b"5 =a\n",
        b"8 k\0y=a\n",
        b"12 path=a\0b\n",
        b"16 linkpath=a\0b\n",
        b"6 path\n",
        b"999999999 path=a\n",
        b"x",
        b"\0" * 9,
    ],
)
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="expected a PAX record"):
        read_records(body)


def test_records_are_read_with_their_bytes() -> None:
    assert read_records(b"9 path=\xff\n11 k=a\nb=\0\n") == {
        b"path": b"\xff",
        b"k": b"a\nb=\0",
    }


def test_long_names_and_records_come_together() -> None:
    found = Extended()
    assert not found
    found.add(GLOBAL, b"12 comment=\n")
    assert not found
    found.add(LONG_NAME, b"name\0\0")
    found.add(LONG_LINK, b"link")
    found.add(PAX, b"13 path=name\n9 size=5\n")
    assert found
    assert found.records == {b"path": b"name", b"linkpath": b"link", b"size": b"5"}
    assert found.size_of(Header(member(b"a", size=b"00000000007\0"))) == 5


@pytest.mark.parametrize(
    ("first", "second"), [(PAX, PAX), (PAX, GLOBAL), (LONG_NAME, LONG_NAME), (LONG_LINK, GLOBAL)]
)
def test_headers_that_readers_take_in_different_ways_are_refused(
    first: bytes, second: bytes
) -> None:
    found = Extended()
    found.add(first, b"9 size=5\n")
    with pytest.raises(ValueError, match="in different ways"):
        found.add(second, b"9 size=5\n")
