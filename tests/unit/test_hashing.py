from __future__ import annotations

import ctypes
import hashlib
import io
import mmap
import os
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.archive.files import RandomReader
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.pipeline import HashingWriter
from bundler.digest import Digest
from bundler.errors import ContentError, WorldError
from bundler.parts import MIB
from tests.unit.threads import no_thread_left


def is_cached(path: Path, offset: int) -> bool:
    """Ask the system without disturbing what it answers: a read would fetch the page."""
    page = offset // mmap.PAGESIZE
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        start = (ctypes.c_char * len(view)).from_buffer(view)
        found = (ctypes.c_ubyte * (page + 1))()
        failed = ctypes.CDLL(None).mincore(start, ctypes.c_size_t(offset + 1), found)
        del start
    assert not failed
    return bool(found[page] & 1)


def make_cold(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if is_cached(path, path.stat().st_size - 1):
        pytest.skip("this file system keeps its pages")


@given(content=st.binary(max_size=300), cut=st.tuples(st.integers(0, 300), st.integers(0, 300)))
def test_a_range_is_hashed(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: tuple[int, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(content)
    start, stop = min(*cut, len(content)), min(max(cut), len(content))
    with RandomReader(path) as reader:
        assert digest_of(reader, start, stop - start) == Digest.of(content[start:stop])
        with pytest.raises(ContentError, match="hashed: expected"):
            digest_of(reader, start, len(content) - start + 1)


def test_a_range_of_many_reads_is_hashed(tmp_path: Path) -> None:
    content = os.urandom(3 * MIB + 5)
    (tmp_path / "a").write_bytes(content)
    with RandomReader(tmp_path / "a") as reader:
        assert digest_of(reader, 1, len(content) - 1) == Digest.of(content[1:])


def test_what_was_not_in_memory_is_not_left_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(4 * MIB))
    make_cold(path)
    with RandomReader(path) as reader:
        digest_of(reader, 0, 4 * MIB)
    assert not is_cached(path, 4 * MIB - 1)
    path.read_bytes()
    with RandomReader(path) as reader:
        digest_of(reader, 0, 4 * MIB)
    assert is_cached(path, 4 * MIB - 1)


def test_a_neighbour_that_was_looked_at_keeps_nothing_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(8 * MIB))
    make_cold(path)
    with RandomReader(path) as reader:
        # A header behind the range, in the page of its last byte.
        reader.read_at(4 * MIB + 10, 10)
        digest_of(reader, 0, 4 * MIB + 10)
    assert not is_cached(path, 2 * MIB)


def test_where_two_ranges_meet_nothing_is_left_in_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "a", 24 * MIB
    path.write_bytes(os.urandom(size))
    make_cold(path)
    edges = [512, 8 * MIB + 512, 16 * MIB + 512, size]
    with RandomReader(path) as reader:
        for begin, end in pairwise(edges):
            digest_of(reader, begin, end - begin)
    assert not any(is_cached(path, place) for place in range(4096, size, 4096))


def test_a_range_is_dropped_while_it_is_read(tmp_path: Path) -> None:
    path, size = tmp_path / "a", 64 * MIB
    path.write_bytes(os.urandom(size))
    make_cold(path)
    with RandomReader(path) as reader:
        for number, _ in enumerate(reader.pieces(0, size)):
            assert number < 8 or not is_cached(path, (number - 6) * MIB)


def test_results_come_in_the_order_of_the_jobs() -> None:
    gate = threading.Event()

    def work(job: int) -> int:
        if job == 0:
            gate.wait(10)
        if job == 1:
            gate.set()
        return job * job

    if len(os.sched_getaffinity(0)) < 2:
        gate.set()
    assert list(in_threads(work, range(200))) == [n * n for n in range(200)]


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = []

    def jobs() -> Iterator[int]:
        for n in range(100_000):
            taken.append(n)
            yield n

    results = in_threads(lambda n: n, jobs())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) < 100 * len(os.sched_getaffinity(0))
    results.close()  # type: ignore[attr-defined]


def test_an_error_of_a_job_ends_the_others() -> None:
    done = []

    def work(job: int) -> int:
        if job == 5:
            raise WorldError("job 5: failed")
        if job > 5:
            time.sleep(0.05)
        done.append(job)
        return job

    with no_thread_left(), pytest.raises(WorldError, match="job 5"):
        list(in_threads(work, range(100_000)))
    assert len(done) < 5 + 6 * len(os.sched_getaffinity(0))


@given(
    st.lists(
        st.tuples(st.integers(0, 3 * MIB), st.sampled_from([(), (0,), (0, 1), (2, 1)])), max_size=6
    )
)
def test_a_stream_is_written_and_hashed_in_every_way(
    pieces: list[tuple[int, tuple[int, ...]]],
) -> None:
    out = io.BytesIO()
    hashes, expected = [hashlib.sha256() for _ in range(3)], [hashlib.sha256() for _ in range(3)]
    content = b""
    with no_thread_left(), HashingWriter(out) as writer:
        for number, (size, chosen) in enumerate(pieces):
            piece = bytes([number]) * size
            content += piece
            writer.write(piece, *(hashes[n] for n in chosen))
            for n in chosen:
                expected[n].update(piece)
            assert writer.offset == len(content)
        assert writer.finish() == Digest.of(content)
    assert out.getvalue() == content
    assert [one.digest() for one in hashes] == [one.digest() for one in expected]


class Full(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        raise WorldError("disk: full")


def test_an_error_of_the_disk_reaches_who_fills_the_stream() -> None:
    def fill() -> None:
        with HashingWriter(Full()) as writer:  # type: ignore[arg-type]
            for _ in range(1000):
                writer.write(bytes(MIB))
            pytest.fail("a full disk went unnoticed")

    with no_thread_left(), pytest.raises(WorldError, match="disk: full"):
        fill()
