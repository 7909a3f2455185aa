from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.archive.files import (
    RandomReader,
    atomic_write,
    atomic_write_bytes,
    open_regular,
    open_source,
    read_limited,
)
from bundler.archive.reader import ReaderSlice
from bundler.errors import BundleError, ContentError, MalformedError, NotFoundError, WorldError

MIB = 1 << 20


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_whole_with_its_mode(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        atomic_write_bytes(tmp_path / "a", b"plain")
        atomic_write_bytes(tmp_path / "b", b"secret", mode=0o600)
    finally:
        os.umask(previous)
    assert (tmp_path / "a").read_bytes() == b"plain"
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "b").stat().st_mode & 0o7777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def write_and_fail(path: Path, failure: type[BaseException]) -> None:
    with atomic_write(path) as file:
        file.write(b"half")
        raise failure


def write_in_pieces(path: Path, piece: int, size: int) -> None:
    with atomic_write(path) as file:
        for _ in range(size // piece + 1):
            file.write(bytes(piece))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_under_the_name_while_it_is_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        file.flush()
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"half"


def test_content_is_on_the_disk_before_it_takes_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "a", []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{descriptor}").resolve().is_dir(), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    atomic_write_bytes(path, b"x")
    assert flushed == [(False, False), (True, True)]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(failure):
        write_and_fail(path, failure)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_large_and_small_writes_keep_their_order(tmp_path: Path) -> None:
    pieces = [os.urandom(size) for size in (3, MIB, 5, 2 * MIB, 0, 700, MIB + 1)]
    with atomic_write(tmp_path / "a") as file:
        for piece in pieces:
            file.write(piece)
        assert file.tell() == sum(map(len, pieces))
    assert (tmp_path / "a").read_bytes() == b"".join(pieces)


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)
    atomic_write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(WorldError, match="big: no space left") as caught:
        atomic_write_bytes(small_disk / "big", bytes(5 * MIB))
    assert "\n" not in str(caught.value)
    assert caught.value.hint is not None
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("piece", [1000, 3 * MIB])
def test_a_file_size_limit_is_one_clear_line_and_leaves_nothing(tmp_path: Path, piece: int) -> None:
    path = tmp_path / "big"
    with largest_file(2 * MIB), pytest.raises(WorldError, match="big: larger than"):
        write_in_pieces(path, piece, 3 * MIB)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [("absent/a", NotFoundError), ("file/a", NotFoundError), ("folder", WorldError)],
)
def test_what_cannot_be_written_is_told_with_its_path(
    tmp_path: Path, path: str, kind: type[BundleError]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind, match=f"{tmp_path / path}: "):
        atomic_write_bytes(tmp_path / path, b"x")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder"]


def test_kill_9_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from bundler.archive.files import atomic_write\n"
        "with atomic_write(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(bytes(1 << 20))\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "a")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "a").exists()


def make_link(path: Path) -> None:
    path.with_name("target").write_bytes(b"x")
    path.symlink_to("target")


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (make_link, "a symbolic link"),
        (Path.mkdir, "a directory"),
        (os.mkfifo, "a device, pipe or socket"),
        (lambda path: os.mknod(path, 0o140600), "a device, pipe or socket"),
    ],
)
@pytest.mark.parametrize(
    "read", [lambda path: read_limited(path, limit=9), open_regular, RandomReader]
)
def test_only_regular_files_are_read(
    tmp_path: Path, make: Callable[[Path], None], got: str, read: Callable[[Path], object]
) -> None:
    make(tmp_path / "a")
    with pytest.raises(MalformedError, match=f"a: expected a regular file, got {got}"):
        read(tmp_path / "a")


def test_a_device_is_not_read() -> None:
    with pytest.raises(MalformedError, match="expected a regular file"):
        read_limited(Path("/dev/zero"), limit=9)


def test_a_builds_input_may_be_a_link_but_no_directory(tmp_path: Path) -> None:
    make_link(tmp_path / "a")
    with open_source(tmp_path / "a") as file:
        assert file.read() == b"x"
    with pytest.raises(MalformedError, match="got a directory"):
        open_source(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(BundleError, match="circle"):
        open_source(tmp_path / "circle")


def test_a_limit_is_the_most_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_limited(path, limit=5) == b"12345"
    with pytest.raises(MalformedError, match="a: expected at most 4 bytes, got 5"):
        read_limited(path, limit=4)


def test_an_absent_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"{tmp_path}/a: no such file"):
        read_limited(tmp_path / "a", limit=1)
    with pytest.raises(NotFoundError):
        RandomReader(tmp_path / "a")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200),
    cut=st.tuples(st.integers(0, 200), st.integers(0, 200)),
    moves=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250)), max_size=5),
)
def test_a_slice_reads_as_those_bytes_would(
    tmp_path: Path, content: bytes, cut: tuple[int, int], moves: list[tuple[int, int]]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    start, stop = min(*cut, len(content)), min(max(cut), len(content))
    expected = content[start:stop]
    with RandomReader(path) as reader, ReaderSlice(reader, start, stop - start) as piece:
        assert piece.read() == expected
        assert piece.read(1) == b""
        for position, length in moves:
            assert piece.seek(position) == position
            assert piece.read(length) == expected[position : position + length]
        assert piece.seek(0, os.SEEK_END) == len(expected) == piece.tell()
        assert piece.readable()
        assert piece.seekable()


def test_a_slice_of_a_file_that_was_cut_short_raises(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100))
    with RandomReader(path) as reader, ReaderSlice(reader, 50, 50) as piece:
        os.truncate(path, 60)
        with pytest.raises(ContentError, match="a: expected 100 bytes or more, got 60"):
            piece.read()


def test_a_closed_reader_gives_its_descriptor_back_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = open_descriptors()
    reader = RandomReader(path)
    reader.close()
    reader.close()
    assert open_descriptors() == before


def test_a_closed_slice_reads_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")
    with RandomReader(path) as reader:
        piece = ReaderSlice(reader, 0, 1)
        piece.close()
        with pytest.raises(ValueError, match="closed"):
            piece.read(1)
        assert reader.read_at(0, 1) == b"x"


def test_a_failing_disk_is_told_with_path_and_offset() -> None:
    memory = Path("/proc/self/mem")  # a regular file whose first page reads as an I/O error
    with pytest.raises(WorldError, match="/proc/self/mem at offset 0: input/output error"):
        RandomReader(memory).read_at(0, 1)
    with RandomReader(memory) as reader, pytest.raises(WorldError, match="at offset 16"):
        ReaderSlice(reader, 16, 16).read(4)


def test_a_range_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    with RandomReader(path) as reader:
        assert reader.size == 5
        assert reader.read_at(1, 4) == b"2345"
        with pytest.raises(ContentError, match="expected 6 bytes or more, got 5"):
            reader.read_at(1, 5)


def views(*sizes: int) -> list[memoryview]:
    return [memoryview(bytearray(size)) for size in sizes]


def test_buffers_are_filled_one_behind_the_other(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with RandomReader(path) as reader:
        buffers = views(2, 0, 3, 1)
        reader.readv(1, buffers)
        assert list(map(bytes, buffers)) == [b"12", b"", b"345", b"6"]
        reader.readv(10, [])
        with pytest.raises(ContentError, match="expected 11 bytes or more, got 10"):
            reader.readv(5, views(3, 3))


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_buffers_are_filled_though_the_system_gives_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    preadv = os.preadv

    def few(descriptor: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        content = memoryview(bytearray(step))
        count = preadv(descriptor, [content], offset, flags)
        left = bytes(content[:count])
        for buffer in buffers:
            head, left = left[: len(buffer)], left[len(buffer) :]
            buffer[: len(head)] = head
        return count - len(left)

    monkeypatch.setattr(os, "preadv", few)
    with RandomReader(path) as reader:
        buffers = views(2, 0, 3, 4)
        reader.readv(1, buffers)
    assert list(map(bytes, buffers)) == [b"12", b"", b"345", b"6789"]


def test_a_file_below_a_directory_is_opened_through_no_link(tmp_path: Path) -> None:
    real = tmp_path / "root" / "a" / "b" / "file"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"x")
    (tmp_path / "root" / "link").symlink_to("a")
    (tmp_path / "root" / "a" / "b" / "link").symlink_to("file")
    (tmp_path / "root-link").symlink_to("root")
    before = open_descriptors()
    for root in (tmp_path / "root", tmp_path / "root-link"):
        with RandomReader(Path("a/b/file"), root=root) as reader:
            assert (reader.read_at(0, 1), reader.path) == (b"x", root / "a/b/file")
        refused = {
            "link/b/file": "link: expected a directory, got a file or a symbolic link",
            "a/b/file/x": "file: expected a directory, got a file or a symbolic link",
            "a/b/link": "expected a regular file, got a symbolic link",
            "a/b": "expected a regular file, got a directory",
        }
        for path, complaint in refused.items():
            with pytest.raises(MalformedError, match=complaint):
                RandomReader(Path(path), root=root)
        for path in ("nothing", "a/nothing/file"):
            with pytest.raises(NotFoundError, match="nothing"):
                RandomReader(Path(path), root=root)
    with pytest.raises(NotFoundError, match="no-root"):
        RandomReader(Path("a"), root=tmp_path / "no-root")
    assert open_descriptors() == before


@pytest.mark.parametrize("kept", [False, True])
def test_a_file_system_without_modes_will_do_and_a_refusal_of_another_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    real = os.fchmod

    def refuse(descriptor: int, mode: int) -> None:
        if not kept:
            real(descriptor, 0o755)  # as every file of a FAT file system looks
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    if kept:
        with pytest.raises(WorldError, match="operation not permitted"):
            atomic_write_bytes(tmp_path / "a", b"x")
        assert not list(tmp_path.iterdir())
    else:
        atomic_write_bytes(tmp_path / "a", b"x")
        assert (tmp_path / "a").read_bytes() == b"x"
