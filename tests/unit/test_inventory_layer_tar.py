"""Layers as image builders write them, and as nobody should."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bundler.inventory import effort, unpacking
from bundler.inventory.effort import HEADERS, MEMBERS, NAMES, PACKED, PLAIN, RECORDS, Effort
from bundler.inventory.layer_tar import LayerTar
from bundler.inventory.unpacking import plain_pieces
from bundler.tar_header import DIRECTORY, FILE, HARD_LINK, SYMBOLIC_LINK

LONG = "/".join(["directory"] * 30) + "/last"
END = bytes(1024)


def tar_of(*members: tarfile.TarInfo, style: int = tarfile.PAX_FORMAT, data: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def info(
    name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, link: str = ""
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, link
    return member


def members(plain: bytes) -> list[tuple[str, bytes, int]]:
    return [(one.path, one.kind, one.size) for one in LayerTar([plain]).members()]


def files(plain: bytes) -> dict[str, bytes]:
    tar = LayerTar([plain])
    return {one.path: tar.read(1 << 20) for one in tar.members() if one.kind == FILE}


def refused(plain: bytes) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        members(plain)
    return str(caught.value)


def test_a_name_in_two_fields_is_one() -> None:
    assert members(tar_of(info(LONG[:204]), style=tarfile.USTAR_FORMAT)) == [(LONG[:204], FILE, 0)]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_what_has_no_data_has_none_whatever_its_size_says(kind: bytes) -> None:
    plain = header(b"a", b"7777\0", kind) + tar_of(info("next"))
    assert members(plain) == [("a", kind, 0), ("next", FILE, 0)]


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_of_each_style_are_listed(style: int) -> None:
    plain = tar_of(
        info("./etc", tarfile.DIRTYPE),
        info("./etc/hosts", size=3),
        info(LONG, size=3),
        info("w\u00f6rter", size=3),
        info("lib", tarfile.SYMTYPE, link="usr/" + LONG),
        info("same", tarfile.LNKTYPE, link="./etc/hosts"),
        info("null", tarfile.CHRTYPE),
        style=style,
        data=b"abc",
    )
    assert members(plain) == [
        ("etc", DIRECTORY, 0),
        ("etc/hosts", FILE, 3),
        (LONG, FILE, 3),
        ("w\u00f6rter", FILE, 3),
        ("lib", SYMBOLIC_LINK, 0),
        ("same", HARD_LINK, 0),
        ("null", b"3", 0),
    ]
    assert files(plain) == {"etc/hosts": b"abc", LONG: b"abc", "w\u00f6rter": b"abc"}
    *_, link, _ = LayerTar([plain]).members()
    assert link.link == "etc/hosts"


@pytest.mark.parametrize(
    ("name", "path"),
    [("/etc/passwd", "etc/passwd"), ("../../etc/passwd", "etc/passwd"), ("a//b/./c/..", "a/b")],
)
def test_paths_never_climb_out_of_the_image(name: str, path: str) -> None:
    assert members(tar_of(info(name))) == [(path, FILE, 0)]


def test_data_that_nobody_reads_is_stepped_over_in_any_pieces() -> None:
    plain = tar_of(info("a", size=1300), info("b", size=1300), data=b"x" * 1300)
    for length in (1, 7, 512, 4096):
        cut = (plain[at : at + length] for at in range(0, len(plain), length))
        assert [one.path for one in LayerTar(cut).members()] == ["a", "b"]


def test_only_the_beginning_of_a_file_may_be_read() -> None:
    tar = LayerTar([tar_of(info("a", size=1000), info("b", size=1000), data=b"abcd" * 250)])
    assert [tar.read(3) for _ in tar.members()] == [b"abc", b"abc"]


def test_a_global_header_is_about_no_member() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "x", "path": "evil"}) as tar:
        tar.addfile(info("good"))
    assert members(out.getvalue()) == [("good", FILE, 0)]


def header(name: bytes, size: bytes, kind: bytes, *, rest: bytes = b"") -> bytes:
    block = bytearray(512)
    block[0 : len(name)], block[124 : 124 + len(size)], block[156:157] = name, size, kind
    block[257 : 257 + len(rest)] = rest
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_map_of_a_sparse_file_is_no_member() -> None:
    more = bytearray(512)
    more[504] = 1
    sparse = bytearray(header(b"sparse", b"00000001000\0", b"S"))
    sparse[482] = 1
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    plain = bytes(sparse) + bytes(more) + bytes(512) + b"d" * 512 + tar_of(info("next"))
    first, second = LayerTar([plain]).members()
    assert (first.path, first.sparse, first.size) == ("sparse", True, 512)
    assert (second.path, second.sparse) == ("next", False)


def test_sizes_beyond_octal_digits_are_read() -> None:
    plain = header(b"a", b"\x80" + (5).to_bytes(11, "big"), b"0") + b"hello" + bytes(507) + END
    assert files(plain) == {"a": b"hello"}


def test_a_checksum_over_signed_bytes_is_one_too() -> None:
    block = bytearray(header("\u00fc".encode(), b"0\0", b"0"))
    total = sum(byte - 256 if byte > 0x7F else byte for byte in block[:148] + block[156:])
    block[148:156] = b"%06o\0 " % (total + 8 * ord(" "))
    assert members(bytes(block) + END) == [("\u00fc", FILE, 0)]
    block[148:156] = b"%06o\0 " % (total + 8 * ord(" ") + 1)
    assert refused(bytes(block) + END) == "header checksum is wrong"


def extra(kind: str, body: bytes) -> bytes:
    return header(b"x", b"%011o\0" % len(body), kind.encode()) + body + bytes(-len(body) % 512)


def pax(records: bytes) -> bytes:
    return extra("x", records)


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        (tar_of(info("a", size=9), data=b"123456789")[:515], "ends within a member"),
        (tar_of(info("a"))[:100], "ends within a header"),
        (b"\x7fELF" * 256, "octal digits|checksum"),
        (header(b"a", b"0000000000x\0", b"0"), "expected octal digits"),
        (header(b"a", b"\xff" * 12, b"0"), "a number of 0 or more"),
        (header(b"a", b"\x80" + b"\x7f" * 11, b"0"), "ends within a member"),
        (bytes(512) + header(b"a", b"0\0", b"0"), "one zero block"),
        (pax(b"12 path=abc\n"), "ends behind a header"),
        (pax(b"99 path=abc\n") + header(b"a", b"0\0", b"0"), "a PAX record"),
        (pax(b"0 path=abc\n") + header(b"a", b"0\0", b"0"), "a PAX record"),
        (pax(b"12 size=-10\n") + header(b"a", b"0\0", b"0"), "expected a size"),
        (header(b"a", b"77777777\0", b"x"), "a header of 16777215 bytes"),
        (header(b"a", b"77777777\0", b"L"), "a header of 16777215 bytes"),
        (pax(b"5012 path=" + b"a" * 5001 + b"\n") + header(b"a", b"0\0", b"0"), "a path of more"),
    ],
)
def test_what_breaks_the_format_is_told_never_taken_for_the_end(plain: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        members(plain)


def test_headers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(effort.LIMITS, HEADERS, 3)
    assert len(members(tar_of(*[info("a")] * 3))) == 3
    assert "more than 3 tar headers" in refused(tar_of(*[info("a")] * 4))


def test_lines_of_extended_headers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(effort.LIMITS, RECORDS, 3)
    one = pax(b"6 a=b\n6 c=d\n") + header(b"a", b"0\0", b"0")
    assert len(members(one + END)) == 1
    assert "more than 3 lines of PAX headers" in refused(one * 2 + END)


def test_characters_of_names_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(effort.LIMITS, NAMES, 10)
    assert len(members(tar_of(info("a/b/c"), info("a/b/c")))) == 2
    assert "more than 10 characters of names" in refused(tar_of(*[info("a/b/c")] * 3))


def test_a_file_whose_name_ends_with_a_slash_is_refused() -> None:
    """Go's runtimes write a file where others make a directory, in the place of a database say."""
    told = refused(header(b"var/lib/dpkg/status/", b"0\0", b"0") + END)
    assert told == "a member that readers take in different ways: 'var/lib/dpkg/status/'"


def test_a_directory_of_the_oldest_archives_is_one() -> None:
    assert members(header(b"a/", b"0\0", b"\0") + END) == [("a", DIRECTORY, 0)]


def test_an_extended_header_of_solaris_is_refused() -> None:
    plain = extra("X", b"12 path=abc\n") + header(b"a", b"0\0", b"0")
    assert "in different ways" in refused(plain + END)


@pytest.mark.parametrize(
    ("records", "name"),
    [
        (b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n", "real"),
        (b"22 GNU.sparse.map=0,1\n", "real"),
        (b"22 GNU.sparse.major=2\n22 GNU.sparse.minor=0\n", None),
        (b"", None),
    ],
)
def test_a_name_of_a_sparse_file_counts_where_all_readers_know_it(
    records: bytes, name: str | None
) -> None:
    plain = pax(b"24 GNU.sparse.name=real\n" + records) + header(b"made/up", b"0\0", b"0") + END
    if name is None:
        assert "a sparse file of a version" in refused(plain)
    else:
        (one,) = LayerTar([plain]).members()
        assert (one.path, one.sparse) == (name, True)


def test_a_record_that_is_there_twice_is_refused_but_for_those_of_sparse_files() -> None:
    plain = header(b"a", b"0\0", b"0") + END
    assert "two PAX records" in refused(pax(b"6 a=b\n6 a=b\n") + plain)
    assert len(members(pax(b"23 GNU.sparse.offset=0\n" * 2) + plain)) == 1


def test_a_layer_of_nothing_but_headers_is_answered_soon() -> None:
    some = 50_000
    plain = header(b"e", b"0\0", b"0") * some
    begun = time.process_time()
    assert len(members(plain)) == some
    assert (time.process_time() - begun) * effort.LIMITS[HEADERS] / some < 60


@pytest.mark.parametrize("kinds", ["xx", "xg", "Lg", "Kg", "LL", "KK", "xLx", "LKg"])
def test_headers_that_readers_take_in_different_ways_are_refused(kinds: str) -> None:
    """Go's reader forgets what it has read when a global header comes, and others do not."""
    bodies = {"x": b"12 path=abc\n", "g": b"12 comment=a\n", "L": b"abc\0", "K": b"abc\0"}
    plain = b"".join(extra(kind, bodies[kind]) for kind in kinds)
    told = refused(plain + header(b"a", b"0\0", b"0") + END)
    assert told == "several extended headers, which readers take in different ways"


@pytest.mark.parametrize("kinds", ["gx", "gg", "LK", "gLK", "Lx"])
def test_headers_that_all_take_in_one_way_are_read(kinds: str) -> None:
    bodies = {"x": b"12 path=abc\n", "g": b"12 comment=\n", "L": b"abc\0", "K": b"abc\0"}
    plain = b"".join(extra(kind, bodies[kind]) for kind in kinds)
    (name,) = [path for path, _, _ in members(plain + header(b"a", b"0\0", b"0") + END)]
    assert name == ("a" if kinds == "gg" else "abc")


def test_two_names_of_one_member_are_refused() -> None:
    plain = extra("L", b"other\0") + pax(b"12 path=abc\n") + header(b"a", b"0\0", b"0")
    assert refused(plain + END) == "two names of one member"


def test_a_link_says_where_it_leads() -> None:
    plain = tar_of(info("a/b", tarfile.SYMTYPE, link="../x/./y"))
    assert [one.link for one in LayerTar([plain]).members()] == ["../x/./y"]


def test_a_header_full_of_records_takes_no_time() -> None:
    records = b"".join(b"12 a%05d=b\n" % n for n in range((1 << 20) // 12 - 1))
    begun = time.perf_counter()
    assert members(pax(records) + tar_of(info("a"))) == [("a", FILE, 0)]
    assert time.perf_counter() - begun < 5


names = st.lists(
    st.text("ab\u00fc.-_", min_size=1, max_size=60).filter(lambda n: n.strip(".")),
    min_size=1,
    max_size=6,
).map("/".join)


@given(
    st.dictionaries(names, st.binary(max_size=1500), max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_the_standard_library_writes_is_read_back(
    content: dict[str, bytes], style: int
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for name, data in content.items():
            archive.addfile(info(name, size=len(data)), io.BytesIO(data))
    assert files(out.getvalue()) == content


@given(st.integers(0, 2047), st.binary(min_size=1, max_size=40))
def test_a_changed_tar_is_read_or_refused(at: int, patch: bytes) -> None:
    plain = tar_of(info(LONG, size=3), info("b", size=3), data=b"abc")
    with suppress(ValueError):
        members(plain[:at] + patch + plain[at + len(patch) :])


def unpack(packed: bytes) -> bytes:
    return b"".join(map(bytes, plain_pieces(io.BytesIO(packed), len(packed))))


CONTENT = b"a layer " * 300_000


def test_a_layer_is_unpacked_as_its_first_bytes_say() -> None:
    assert unpack(CONTENT) == CONTENT
    assert unpack(gzip.compress(CONTENT)) == CONTENT
    assert unpack(zstandard.compress(CONTENT)) == CONTENT
    assert unpack(b"") == b""


def test_a_layer_of_many_members_or_frames_is_one() -> None:
    skipped = struct.pack("<II", 0x184D2A5E, 5) + b"notes"
    assert unpack(gzip.compress(CONTENT) + gzip.compress(b"more")) == CONTENT + b"more"
    frames = skipped + zstandard.compress(CONTENT) + skipped + zstandard.compress(b"more")
    assert unpack(frames) == CONTENT + b"more"


@pytest.mark.parametrize(
    ("packed", "told"),
    [
        (gzip.compress(CONTENT)[:-4] + b"1234", "not gzip"),
        (gzip.compress(CONTENT) + b"what is this", "not gzip"),
        (zstandard.compress(CONTENT)[:50] + b"\xff" * 50, "not zstd"),
    ],
)
def test_a_layer_that_is_broken_is_told(packed: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        unpack(packed)


def test_a_layer_that_wants_all_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    packing = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(ValueError, match="not zstd"):
        unpack(packing.compress(CONTENT) + packing.flush())


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_is_stopped(pack: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(pack)
    monkeypatch.setattr(unpacking, "_ANY_PLAIN_BYTES", 4 << 20)
    packed = pack(bytes(64 << 20))
    sizes: list[int] = []
    with pytest.raises(ValueError, match="unpack to more than"):
        sizes.extend(map(len, plain_pieces(io.BytesIO(packed), len(packed))))
    assert max(sizes) <= 1 << 20
    assert sum(sizes) < 16 << 20


def test_members_that_hold_nothing_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(effort.LIMITS, MEMBERS, 100)
    with pytest.raises(ValueError, match="more than 100 members"):
        unpack(gzip.compress(b"") * 101)


def test_a_layer_of_many_tiny_members_is_answered_soon() -> None:
    some = 50_000
    begun = time.process_time()
    assert unpack(gzip.compress(b"", 1) * some) == b""
    assert (time.process_time() - begun) * effort.LIMITS[MEMBERS] / some < 60


def test_layers_are_unpacked_in_step_with_all_that_is_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What one layer leaves of its share is the next one's; what all may have anyway is once."""
    monkeypatch.setattr(unpacking, "_ANY_PLAIN_BYTES", 4 << 20)
    packed, spent = gzip.compress(bytes(3 << 20)), Effort()
    assert sum(map(len, plain_pieces(io.BytesIO(packed), len(packed), spent))) == 3 << 20
    assert spent.spent == {PACKED: len(packed), PLAIN: 3 << 20, MEMBERS: 1}
    with pytest.raises(ValueError, match="unpack to more than"):
        list(plain_pieces(io.BytesIO(packed), len(packed), spent))
    enough = Effort({PACKED: 1 << 20, PLAIN: 3 << 20})
    assert sum(map(len, plain_pieces(io.BytesIO(packed), len(packed), enough))) == 3 << 20


def test_what_is_behind_the_end_of_a_layer_is_not_read() -> None:
    def pieces() -> Iterator[bytes]:
        yield tar_of(info("a"))
        raise AssertionError("read on")

    assert [one.path for one in LayerTar(pieces()).members()] == ["a"]


@given(st.binary(max_size=200), st.integers(0, 60))
def test_changed_gzip_is_unpacked_or_refused(patch: bytes, at: int) -> None:
    packed = zlib.compress(b"some layer " * 50, wbits=31)
    with suppress(ValueError):
        unpack(packed[:at] + patch + packed[at + len(patch) :])
