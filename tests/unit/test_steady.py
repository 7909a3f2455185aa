"""Files that somebody writes to while they are read, by whatever way."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundler.archive.checkpoint import SourceFile
from bundler.archive.files import open_source
from bundler.archive.steady import has_writer, require_unchanged, settle
from bundler.build.checkpoint import CheckpointSource
from bundler.build.checkpoint_lock import lock_checkpoint
from bundler.errors import ContentError
from bundler.events import ignore
from bundler.spec import CheckpointSpec

_SIZE = 64 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 8192)
    return path


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file:
        content = mmap.mmap(file.fileno(), 0)
    try:
        yield content
    finally:
        content.close()


def written(path: Path) -> bool | None:
    with open_source(path) as file:
        return has_writer(file.fileno())


def test_a_writer_is_found_whether_the_file_is_open_or_mapped(path: Path) -> None:
    assert written(path) is False
    with path.open("rb"):
        assert written(path) is False
    with path.open("r+b"):
        assert written(path)
    with mapped(path):
        assert written(path)
    assert written(path) is False


ASK = """
import sys
from bundler.archive.steady import has_writer
with open(sys.argv[1]) as file:
    print({has_writer(file.fileno()) for _ in range(20000)})
"""


def test_who_opens_a_file_while_it_is_asked_about_does_no_harm(path: Path) -> None:
    loop = f"while kill -0 {os.getpid()}; do : >> $0; done"  # no longer than these tests
    with subprocess.Popen(["bash", "-c", loop, path]) as writer:
        asked = subprocess.run(
            [sys.executable, "-c", ASK, path], capture_output=True, text=True, check=False
        )
        writer.kill()
    assert (asked.returncode, asked.stdout) == (0, "{False, True}\n")


def reset(path: Path) -> None:
    """Write, and set the time of change back, as some tools do."""
    status = path.stat()
    path.write_bytes(b"b" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b""),
        reset,
        lambda path: path.rename(path.with_name("old")).with_name("weights").write_bytes(b"new"),
    ],
)
def test_a_change_is_told(change: Callable[[Path], object], path: Path) -> None:
    with open_source(path) as file:
        before = settle(file.fileno(), path)
        require_unchanged("w", path, before, file.fileno())
        change(path)
        with pytest.raises(ContentError, match=r"w: .*weights changed while it was read"):
            require_unchanged("w", path, before, file.fileno())


def test_a_link_is_no_change(path: Path) -> None:
    with open_source(path) as file:
        before = settle(file.fileno(), path)
        path.with_name("link").hardlink_to(path)
        require_unchanged("w", path, before, file.fileno())


def test_a_store_through_a_map_shows_from_settling_on(path: Path) -> None:
    with mapped(path) as content, open_source(path) as file:
        content[0] = 1  # from here on that page is changed in memory, and the times stay
        before = settle(file.fileno(), path)
        content[0] = 2
        if "tmpfs" in file_system(path):
            pytest.skip("a file system without a disk")
        with pytest.raises(ContentError, match="changed while it was read"):
            require_unchanged("w", path, before, file.fileno())


def file_system(path: Path) -> str:
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return next((line.partition(" - ")[2] for line in lines if line.split()[2] == number), "")


@pytest.mark.parametrize("way", ["write", "map"])
def test_a_lock_of_what_is_written_to_meanwhile_is_refused(path: Path, way: str) -> None:
    if way == "map" and "tmpfs" in file_system(path):
        pytest.skip("a file system without a disk")
    os.truncate(path, _SIZE)
    stop = threading.Event()
    with path.open("r+b", buffering=0) as file, mapped(path) as content:

        def write() -> None:
            while not stop.wait(0.001):
                if way == "map":
                    content[0] ^= 1
                else:
                    os.pwrite(file.fileno(), b"x", 0)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            with pytest.raises(ContentError, match=r"w: .*weights changed while it was read"):
                lock_checkpoint(source(path), None, ignore)
        finally:
            stop.set()
            writer.join()


def source(path: Path) -> CheckpointSource:
    return CheckpointSource(
        spec=CheckpointSpec(name="n", root="r", source=str(path.parent)),
        files=(SourceFile("w", path),),
        content_bytes=path.stat().st_size,
    )
