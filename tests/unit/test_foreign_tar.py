from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.foreign_tar import ForeignMember, list_members
from tests.hostile.raw_tar import DIRECTORY, END, LINK, member, patched, pax

NAMES = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=80
)
FILES = st.dictionaries(NAMES.filter(lambda name: name not in {".", ".."}), st.binary(max_size=900))
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def listed(content: bytes) -> list[ForeignMember]:
    return list(list_members(io.BytesIO(content)))


def contents(content: bytes) -> dict[str, bytes]:
    return {
        one.path: content[one.offset : one.offset + one.size] for one in listed(content) if one.file
    }


def written(files: dict[str, bytes], kind: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@given(files=FILES, kind=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_python_writes_is_read(files: dict[str, bytes], kind: int) -> None:
    assert contents(written(files, kind)) == files


@pytest.mark.parametrize("kind", FORMATS)
def test_long_names_links_and_directories_are_read(kind: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        for name, type_ in (
            ("p" * 150 + "/" + "n" * 90, tarfile.REGTYPE),
            ("d", tarfile.DIRTYPE),
            ("l", tarfile.SYMTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, "x" * 90
            archive.addfile(info)
    found = [(one.path.rstrip("/"), one.file, one.directory) for one in listed(out.getvalue())]
    assert found == [
        ("p" * 150 + "/" + "n" * 90, True, False),
        ("d", False, True),
        ("l", False, False),
    ]


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, need: Callable[[str], str], form: str) -> None:
    files = {"a": b"1", "d/b": b"x" * 5000, "e" * (90 if form in {"v7", "ustar"} else 180): b""}
    for name, content in files.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    where = ("-C", str(tmp_path / "in"), "-cf", str(tmp_path / "x"), ".")
    subprocess.run([need("tar"), f"--format={form}", *where], check=True)
    found = contents((tmp_path / "x").read_bytes())
    assert {name.removeprefix("./"): data for name, data in found.items()} == files


def test_sizes_beyond_8_gib_are_read() -> None:
    """GNU writes them in base 256, others in a PAX header; here there are no such bytes."""
    for header in (
        member(b"a", size=b"\x80" + (1 << 40).to_bytes(11, "big")),
        pax((b"size", b"%d" % (1 << 40))) + member(b"a"),
    ):
        with pytest.raises(ValueError, match="runs past the archive's end"):
            listed(header + END)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cut short"),
        (member(b"a"), "cut short"),
        (member(b"a") + bytes(512), "cut short"),
        (member(b"a", data=b"x" * 600)[:-512] + END[:0], "runs past|cut short"),
        (member(b"a", prefix=b"b", magic=b"ustar  \0") + END, "octal"),
        (member(b"a", prefix=b"00000000001\0", magic=b"ustar  \0") + END, "with a front"),
        (member(b"a", prefix=b"b", magic=bytes(8)) + END, "with a front"),
        (patched(member(b"a"), 136, b"noon") + END, "octal"),
        (patched(member(b"a"), 108, b"root") + END, "octal"),
        (member(b"a") + END + b"\0" * 9000 + b"x", "behind the archive's end"),
        (member(b"a") + END + member(b"b"), "behind the archive's end"),
        (member(b"a") + pax((b"path", b"b")) + END, "ends behind an extended header"),
        (pax((b"path", b"a")) + pax((b"path", b"b")) + member(b"c") + END, "in different ways"),
        (pax((b"path", b"a")) + pax((b"mtime", b"1")) + member(b"c") + END, "in different ways"),
        (pax((b"path", b"a")) + pax(kind=b"g") + member(b"c") + END, "in different ways"),
        (member(b"x", b"L", b"a\0") + pax(kind=b"g") + member(b"c") + END, "in different ways"),
        (
            member(b"x", b"L", b"a\0") + member(b"x", b"L", b"b\0") + member(b"c") + END,
            "in different ways",
        ),
        (pax((b"path", b"a")) + member(b"x", b"L", b"b\0") + member(b"c") + END, "two names"),
        (pax((b"path", b"a"), (b"path", b"b")) + member(b"c") + END, "two PAX records"),
        (member(b"x", b"x", b"99 path=b\n") + member(b"c") + END, "a PAX record"),
        (member(b"x", b"x", b"011 path=b\n") + member(b"c") + END, "a PAX record"),
        (member(b"l", LINK, b"data") + END, "type b'2' with 4 bytes"),
        (member(b"d", DIRECTORY, b"data") + END, "type b'5' with 4 bytes"),
        (member(b"d/", b"\0", b"data") + END, "with 4 bytes"),
        (member(b"m", b"M", b"") + END, "type b'M'"),
        (member(b"d/") + END, "ends with a slash"),
        (member(b"d/", b"7") + END, "ends with a slash"),
        (member(b"") + END, "path is empty"),
        (pax((b"path", b"")) + member(b"c") + END, "path is empty"),
        (pax((b"path", b"a\0b")) + member(b"c") + END, "a PAX record"),
        (pax((b"k\0", b"a")) + member(b"c") + END, "a PAX record"),
        (pax((b"size", b"-1")) + member(b"c") + END, "expected a size"),
        (pax((b"GNU.sparse.name", b"a")) + member(b"c") + END, "a sparse file"),
        (pax((b"path", b"a"), kind=b"g") + member(b"c") + END, "names or sizes"),
        (member(b"a", magic=b"ustarX00") + END, "magic"),
        (b"\x1f\x8b" + bytes(600), "checksum is wrong"),
    ],
)
def test_what_readers_take_in_two_ways_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        listed(content)


@given(files=FILES, at=st.integers(0, 3000), noise=st.binary(min_size=1, max_size=30))
def test_what_is_read_of_damage_is_what_python_reads(
    files: dict[str, bytes], at: int, noise: bytes
) -> None:
    """Never silently less: either the same members, or a refusal."""
    good = written(files, tarfile.PAX_FORMAT)
    damaged = good[:at] + noise + good[at + len(noise) :]
    try:
        found = listed(damaged)
    except ValueError:
        return
    with tarfile.open(fileobj=io.BytesIO(damaged)) as theirs:
        assert [(one.path, one.size) for one in found if one.file] == [
            (one.name, one.size) for one in theirs if one.isreg() and not one.name.endswith("/")
        ]
