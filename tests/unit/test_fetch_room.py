"""Where fetched bytes stay in memory, and how room on a disk is taken and counted."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.archive.held_directory import HeldDirectory
from bundler.digest import Digest
from bundler.errors import WorldError
from bundler.fetch.locks import alone
from bundler.fetch.memory import Keeping, stays_in_memory
from bundler.fetch.room import check_room, reserve
from bundler.fetch.wanted import File, Gap

SIZE = 3 << 20


@pytest.fixture
def place(tmp_path: Path) -> Iterator[HeldDirectory]:
    with alone(tmp_path) as held:
        yield held


def gap(path: str = "weights", size: int = SIZE) -> Gap:
    file = File(path, path, size, (Digest.of(b""),))
    return Gap(file, file.cut)


@pytest.mark.parametrize(("size", "stays"), [(512 << 20, True), ((512 << 20) + 1, False)])
def test_what_fits_into_half_of_the_free_memory_stays(
    tmp_path: Path, size: int, stays: bool
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9999999 kB\nMemAvailable:    1048576 kB\nBuffers: 1 kB\n")
    assert stays_in_memory(size, meminfo=meminfo) is stays


@pytest.mark.parametrize(
    ("text", "stays"), [("max\n", True), ("1000\n", True), ("999\n", False), (None, True)]
)
def test_beyond_the_limit_of_a_container_nothing_stays(
    tmp_path: Path, text: str | None, stays: bool
) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemAvailable:    1048576 kB\n")
    if text is not None:
        limit.write_text(text)
    assert stays_in_memory(1000, meminfo=meminfo, limit=limit) is stays


@pytest.mark.parametrize("text", [None, "MemTotal: 9999999 kB\n"])
def test_where_nothing_says_what_is_free_nothing_stays(tmp_path: Path, text: str | None) -> None:
    meminfo = tmp_path / "meminfo"
    if text is not None:
        meminfo.write_text(text)
    assert not stays_in_memory(0, meminfo=meminfo)


def test_memory_that_is_dear_is_given_up_and_no_other() -> None:
    cheap, dear, unused = (Keeping(wanted=wanted) for wanted in (True, True, False))
    for _ in range(65):
        cheap.wrote(1 << 20, 0.0001)
        dear.wrote(1 << 20, 0.001)
        unused.wrote(1 << 20, 0.0001)
    cheap.wrote(1 << 20, 10)  # later ones were interrupted by something else
    assert (cheap.wanted, dear.wanted, unused.wanted) == (True, False, False)


def test_room_is_taken_at_once(tmp_path: Path, place: HeldDirectory) -> None:
    reserve([gap()], place)
    status = (tmp_path / ".weights.partial").stat()
    assert status.st_size == SIZE
    assert status.st_blocks * 512 >= SIZE


def test_a_file_system_that_cannot_is_not_written_to_in_every_block(
    tmp_path: Path, place: HeldDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def as_the_c_library_does(descriptor: int, offset: int, length: int) -> None:
        asked.append(length)
        for at in range(offset, offset + length, 4096):
            os.pwrite(descriptor, b"\0", at)

    monkeypatch.setattr(os, "posix_fallocate", as_the_c_library_does)
    reserve([gap()], place)
    assert asked == [1 << 20]
    assert (tmp_path / ".weights.partial").stat().st_size == SIZE


def test_what_was_taken_is_not_needed_again(
    tmp_path: Path, place: HeldDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve([gap()], place)
    nothing_free = os.statvfs_result((4096, 4096, 1, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: nothing_free)
    check_room([(place, [gap()])])
    with pytest.raises(WorldError, match=r"3\.0 MiB still to come, 0 B free"):
        check_room([(place, [gap(), gap("other")])])


def test_two_directories_of_one_disk_are_counted_together(
    tmp_path: Path, place: HeldDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    enough_for_one = os.statvfs_result((4096, 4096, 999, 999, SIZE // 4096, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: enough_for_one)
    check_room([(place, [gap()])])
    wanted = r"and .*cache: 6\.0 MiB still to come, 3\.0 MiB free"
    with alone(tmp_path / "cache") as cache, pytest.raises(WorldError, match=wanted):
        check_room([(place, [gap()]), (cache, [gap()])])


def test_where_room_runs_out_what_holds_nothing_is_given_back(
    tmp_path: Path, place: HeldDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = os.posix_fallocate

    def full(descriptor: int, offset: int, length: int) -> None:
        if (tmp_path / ".b.partial").exists():
            raise OSError(errno.ENOSPC, "full")
        allocate(descriptor, offset, length)

    (tmp_path / ".kept.partial").write_bytes(b"proven" * 1000)
    kept = Gap(gap("kept").file, ())
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(WorldError, match="no space left"):
        reserve([kept, gap("a"), gap("b")], place)
    assert [path.name for path in tmp_path.iterdir()] == [".kept.partial"]
