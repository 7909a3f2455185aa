from __future__ import annotations

import io
import tarfile
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bundler.archive import tar
from bundler.archive.tar import BLOCK, END, Member, header, padding, walk, with_directories
from bundler.errors import MalformedError
from tests.hostile.raw_tar import patched
from tests.tars import MTIME, tar_of

NAMES = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/\\"), min_size=1, max_size=60
).filter(lambda name: name not in {".", ".."} and unicodedata.normalize("NFC", name) == name)
PATHS = st.lists(NAMES, min_size=1, max_size=6).map("/".join)


def members(content: bytes) -> list[Member]:
    return list(walk(lambda at, size: content[at : at + size], len(content), name="x.tar"))


def refused(content: bytes) -> str:
    with pytest.raises(MalformedError) as caught:
        members(content)
    assert str(caught.value).startswith("x.tar: at offset ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@given(files=st.dictionaries(PATHS, st.binary(max_size=1100), max_size=6))
def test_what_is_written_is_read_by_us_and_by_python(files: dict[str, bytes]) -> None:
    try:
        content = tar_of(files)
    except ValueError:
        assume(False)
    found = members(content)
    assert [m.path for m in found] == [path for path, _ in with_directories(files)]
    assert {
        m.path: content[m.offset : m.offset + m.size] for m in found if not m.directory
    } == files
    with tarfile.open(fileobj=io.BytesIO(content)) as theirs:
        assert [m.name for m in theirs] == [m.path for m in found]
        for info, member in zip(theirs, found, strict=True):
            assert (info.isdir(), info.size) == (member.directory, member.size)
            assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")
            assert (info.mtime, info.mode) == (MTIME, 0o755 if info.isdir() else 0o644)


@pytest.mark.parametrize(
    ("path", "blocks"),
    [
        ("a", 1),
        ("n" * 100, 1),
        ("n" * 101, 3),
        ("p" * 155 + "/" + "n" * 100, 1),
        ("p" * 156 + "/" + "n" * 100, 3),
        ("p" * 155 + "/" + "n" * 101, 3),
        ("p/" + "q" * 50 + "/" + "n" * 90, 1),
        ("naïve.json", 3),
        ("d/" * 127 + "n", 1),
        ("d/" * 200 + "n", 3),
    ],
)
@pytest.mark.parametrize("directory", [False, True])
def test_pax_is_used_only_where_ustar_cannot_hold_the_name(
    path: str, blocks: int, directory: bool
) -> None:
    if directory and path in {"n" * 100, "p" * 155 + "/" + "n" * 100}:
        blocks = 3  # the slash at its end is one byte too many
    block = header(path, mtime=MTIME, directory=directory)
    assert len(block) == blocks * BLOCK
    info = tarfile.TarInfo.frombuf(block[-BLOCK:], "utf-8", "strict")
    assert info.isdir() == directory
    with tarfile.open(fileobj=io.BytesIO(block + END)) as theirs:
        assert theirs.getnames() == [path]


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 40])
def test_pax_is_used_only_where_ustar_cannot_hold_the_size(size: int) -> None:
    block = header("a", size=size, mtime=MTIME)
    assert len(block) == (BLOCK if size < 8**11 else 3 * BLOCK)
    with tarfile.open(fileobj=io.BytesIO(block + END)) as theirs:
        info = theirs.next()
    assert info is not None
    assert info.size == size


@pytest.mark.parametrize(("size", "mtime"), [(-1, 0), (0, -1), (0, 8**11)])
def test_numbers_out_of_range_are_refused(size: int, mtime: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        header("a", size=size, mtime=mtime)


@pytest.mark.parametrize(
    "paths",
    [
        ["/a"],
        ["../a"],
        ["a/../b"],
        ["a//b"],
        ["a/"],
        ["./a"],
        [""],
        ["a\\b"],
        ["a\nb"],
        ["e\u0301"],
        ["\ud800"],
        ["a", "a"],
        ["a", "A"],
        ["a/x", "A/y"],
        ["a", "a/b"],
        ["n" * 513],
    ],
)
def test_paths_that_are_not_plain_or_not_unique_are_not_written(paths: list[str]) -> None:
    with pytest.raises(ValueError, match="path"):
        with_directories(paths)


def test_a_directory_stands_before_what_it_holds() -> None:
    assert with_directories(["d/x", "d-e", "d/a/y"]) == [
        ("d", True),
        ("d-e", False),
        ("d/a", True),
        ("d/a/y", False),
        ("d/x", False),
    ]


def test_an_executable_is_told_from_a_plain_file() -> None:
    content = tar_of({"a": b"1", "b": b"2"}, executable=["b"])
    assert [member.executable for member in members(content)] == [False, True]


def test_a_file_beyond_8_gib_is_stepped_over() -> None:
    size = 5 * 8**11 + 3
    blocks = {0: header("a", size=size, mtime=MTIME)}
    end = len(blocks[0]) + size
    blocks[end] = padding(size)
    blocks[end + len(padding(size))] = header("b", mtime=MTIME) + END

    def read_at(offset: int, length: int) -> bytes:
        start = max(at for at in blocks if at <= offset)
        return blocks[start][offset - start :][:length]

    total = max(blocks) + BLOCK + len(END)
    assert [(m.path, m.size) for m in walk(read_at, total, name="x.tar")] == [("a", size), ("b", 0)]


PLAIN = header("a", mtime=MTIME)


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (patched(PLAIN, 156, b"1"), "a hard link"),
        (patched(PLAIN, 156, b"2"), "a symbolic link"),
        (patched(PLAIN, 156, b"3"), "a character device"),
        (patched(PLAIN, 156, b"4"), "a block device"),
        (patched(PLAIN, 156, b"6"), "a pipe"),
        (patched(PLAIN, 156, b"7"), "a contiguous file"),
        (patched(PLAIN, 156, b"L"), "a GNU long name"),
        (patched(PLAIN, 156, b"K"), "a GNU long link name"),
        (patched(PLAIN, 156, b"S"), "a GNU sparse file"),
        (patched(PLAIN, 156, b"g"), "a global PAX header"),
        (patched(PLAIN, 156, b"\0"), "a file of the old tar format"),
        (patched(PLAIN, 156, b"Z"), "a member of type"),
        (patched(PLAIN, 157, b"/etc/passwd"), "not the one that this format writes"),
        (patched(PLAIN, 100, b"0000600"), "not the one that this format writes"),
        (patched(PLAIN, 100, b"0004755"), "not the one that this format writes"),
        (patched(PLAIN, 108, b"0001750"), "not the one that this format writes"),
        (patched(PLAIN, 116, b"0001750"), "not the one that this format writes"),
        (patched(PLAIN, 265, b"root"), "not the one that this format writes"),
        (patched(PLAIN, 297, b"root"), "not the one that this format writes"),
        (patched(PLAIN, 500, b"x"), "not the one that this format writes"),
        (patched(PLAIN, 0, b"a\0evil"), "not the one that this format writes"),
        (patched(PLAIN, 257, b"ustar  \0"), "expected a ustar header"),
        (patched(PLAIN, 124, b"\x80" + bytes(11)), "not the one that this format writes"),
        (patched(PLAIN, 124, b"\xff" * 12), "a number of 0 or more"),
        (patched(PLAIN, 124, b"-0000000001\0"), "expected octal digits"),
        (patched(PLAIN, 124, b"          0\0"), "not the one that this format writes"),
        (patched(PLAIN, 136, b"0000000008\0"), "expected octal digits"),
        (patched(PLAIN, 0, b"/etc/passwd"), "path is empty"),
        (patched(PLAIN, 0, b"../evil"), "absolute, climbs or is not normal"),
        (patched(PLAIN, 0, b"a/../../evil"), "absolute, climbs or is not normal"),
        (patched(PLAIN, 0, b"./a"), "absolute, climbs or is not normal"),
        (patched(PLAIN, 0, b"a\nb"), "control character"),
        (patched(PLAIN, 0, b"\x1b]0;x"), "control character"),
        (patched(PLAIN, 0, b"C:\\a"), "backslash"),
        (patched(PLAIN, 0, b"\xff\xfe"), "not the one that this format writes"),
        (patched(PLAIN, 0, b"\0"), "path is empty"),
        (patched(PLAIN, 0, b"d/a"), "its directory does not stand before it"),
        (patched(PLAIN, 156, b"5"), "not the one that this format writes"),
        (patched(header("d", mtime=MTIME, directory=True), 124, b"00000001000"), "has 512 bytes"),
        (PLAIN[:148] + b"000000\0 " + PLAIN[156:], "checksum is wrong"),
    ],
)
def test_a_member_of_another_kind_or_spelling_is_refused(block: bytes, complaint: str) -> None:
    assert complaint in refused(block + END)


def pax(body: bytes, *, of: str = "a", size: int = 0) -> bytes:
    first = patched(header("é", mtime=MTIME)[:BLOCK], 124, b"%011o" % len(body))
    return first + body + padding(len(body)) + header(of, size=size, mtime=MTIME) + END


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (pax(b"8 path=a\n"), "expected a PAX record"),
        (pax(b"9 path=a\n"), "not the one that this format writes"),
        (pax(b"20 mtime=1793491200\n"), "expected a PAX path or size"),
        (pax(b"31 GNU.sparse.realsize=1000000\n"), "expected a PAX path or size"),
        (pax(b"13 path=../a\n"), "absolute, climbs"),
        (pax(b"17 path=/etc/pwd\n"), "path is empty"),
        (pax(b"9 size=5\n"), "not the one that this format writes"),
        (pax(b"11 size=-5\n"), "expected a size"),
        (pax(b"999999 path=a\n"), "expected a PAX record"),
        (pax(b"0 path=a\n"), "expected a PAX record"),
        (pax(b"garbage"), "expected a PAX record"),
        (pax(b"\0" * 20), "expected a PAX record"),
        (pax(b""), "not the one that this format writes"),
        (pax(b"9 path=\xff\n"), "not the one that this format writes"),
        (pax(b"1" * 5000), "PAX header of 5000 bytes"),
        (header("é", mtime=MTIME)[:1024] + header("é", mtime=MTIME) + END, "not the one"),
        (header("é", mtime=MTIME)[:1024] + END, ""),
    ],
)
def test_a_pax_header_of_another_kind_or_spelling_is_refused(
    content: bytes, complaint: str
) -> None:
    assert complaint in refused(content)


A, B = header("a", size=3, mtime=MTIME) + b"123" + padding(3), header("b", mtime=MTIME)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "ends at 0, without its two zero blocks"),
        (A, "without its two zero blocks"),
        (A + bytes(BLOCK), "without its two zero blocks"),
        (A + bytes(BLOCK) + B, "one zero block, expected two"),
        (A + END + bytes(BLOCK), "512 bytes behind the end"),
        (A + END + b"\0", "1 bytes behind the end"),
        (A + END + B + END, "1536 bytes behind the end"),
        (A[:-1], "without its two zero blocks"),
        (A[:BLOCK] + b"12", "its 3 bytes run past the archive's end"),
        (A[:100], "without its two zero blocks"),
        (A[:-1] + b"x" + END, "padding is not zero"),
        (B + A + END, "not in its place"),
        (B + B + END, "stands there twice"),
        (header("A", mtime=MTIME) + A + END, "differs in case alone"),
        (A + header("a", mtime=MTIME, directory=True) + END, "stands there twice"),
        (A + header("a/b", mtime=MTIME) + END, "directory does not stand before it"),
        (A + header("b", mtime=MTIME + 1) + END, "one time for all"),
        (A + patched(B, 148, b"")[:-1] + b"\1" + END, "checksum is wrong"),
    ],
)
def test_an_archive_that_is_cut_reordered_or_longer_is_refused(
    content: bytes, complaint: str
) -> None:
    assert complaint in refused(content)


# Every header here has a checksum; the body of a PAX header would have none.
FILES = {"d/a": b"12345", "d/b": b"", "e": b"x" * 700}


def test_every_byte_that_is_no_files_is_held_to_the_format() -> None:
    content = tar_of(FILES)
    data = {at for m in members(content) for at in range(m.offset, m.offset + m.size)}
    for at in set(range(len(content))) - data:
        refused(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])


def test_a_members_place_and_name_are_in_the_message() -> None:
    content = A + patched(header("evil", mtime=MTIME), 156, b"2") + END
    assert refused(content).startswith("x.tar: at offset 1024: expected a file or a directory")
    assert "'evil'" in refused(content)


def test_members_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBERS", 1)
    assert "more than 1 members" in refused(tar_of({"a": b"", "b": b""}))


def gnu(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.GNU_FORMAT)


def python(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize("write", [gnu, python])
@pytest.mark.parametrize("name", ["a", "n" * 300])
def test_other_writers_archives_are_refused(
    write: Callable[[tarfile.TarInfo], bytes], name: str
) -> None:
    info = tarfile.TarInfo(name)
    info.uid, info.mtime = 1000, MTIME
    refused(write(info) + END)


@given(st.binary(max_size=2000))
def test_noise_is_refused(content: bytes) -> None:
    refused(content)


@given(position=st.integers(0, 4000), noise=st.binary(min_size=1, max_size=40))
def test_a_damaged_archive_is_read_as_written_or_refused(position: int, noise: bytes) -> None:
    content = tar_of(FILES)
    damaged = content[:position] + noise + content[position + len(noise) :]
    try:
        found = members(damaged)
    except MalformedError:
        return
    assert found == members(content)
