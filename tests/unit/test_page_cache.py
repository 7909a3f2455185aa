"""Large writes go past the page cache, whatever sizes and file systems they meet."""

from __future__ import annotations

import os
from mmap import mmap
from pathlib import Path

import pytest

from bundler.archive.files import atomic_write
from bundler.archive.page_cache import Direct, dropping
from bundler.archive.pipeline import HashingWriter
from bundler.digest import Digest
from bundler.parts import MIB
from tests.unit.test_hashing import is_cached, make_cold


@pytest.mark.parametrize("tail", [0, 1, 512, 4096, 5000, MIB + 1])
def test_what_is_written_is_right_and_not_left_in_memory(tail: int, tmp_path: Path) -> None:
    content = os.urandom(9 * MIB) + bytes(tail)
    path = tmp_path / "out"
    with atomic_write(path) as out, HashingWriter(out) as writer:
        writer.write(content[:700])
        writer.drain()  # must not end the direct writes: their positions are multiples of a page
        writer.write(content[700:])
        assert writer.finish() == Digest.of(content)
    fresh = is_cached(path, 4 * MIB)
    assert path.read_bytes() == content
    make_cold(path)  # skips where that cannot be
    assert not fresh


def test_a_file_system_that_cannot_gets_the_same_bytes(small_disk: Path) -> None:
    content = os.urandom(3 * MIB + 5)
    with atomic_write(small_disk / "out") as out, HashingWriter(out) as writer:
        writer.write(content)
        writer.finish()
    assert (small_disk / "out").read_bytes() == content


def test_what_is_not_aligned_is_left_to_others(tmp_path: Path) -> None:
    page, unaligned = mmap(-1, 8192), memoryview(mmap(-1, 8192))[1:4097]
    with (tmp_path / "out").open("wb", buffering=0) as file:
        direct = Direct(file.fileno())
        assert direct.write(memoryview(page)[:5], 0) is None
        assert direct.write(page, 5) is None
        assert direct.write(b"", 0) is None
        if direct.write(page, 0) is None:
            pytest.skip("a file system that writes directly is missing")
        assert file.seek(8192) == 8192
        assert direct.write(b"12345", 8192) is None
        assert file.write(b"12345") == 5  # what no direct write could do: the flag is gone
        assert direct.write(unaligned, 0) is None
        assert direct.write(page, 0) is None  # this file is written in other ways from then on
    assert (tmp_path / "out").stat().st_size == 8197


def test_what_was_read_leaves_while_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(64 * MIB))
    make_cold(path)
    with path.open("rb", buffering=0) as file:
        with dropping(file.fileno(), 0, 64 * MIB) as passed:
            for done in range(8, 65, 8):
                file.read(8 * MIB)
                passed(done * MIB)
                assert not is_cached(path, (done - 4) * MIB)
        assert not is_cached(path, 63 * MIB)
