"""Fetch when the connection, the bucket, the disk or the process itself fails."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.errors import ContentError, DeniedError, WorldError
from bundler.fetch import fetch_checkpoint
from bundler.parts import SMALLEST_PART
from tests.conftest import missing
from tests.integration.fetching import (
    LARGE,
    LARGE_BYTES,
    LARGE_FILES,
    WEIGHTS,
    Published,
    Recording,
    Stuck,
    first_part_is_in,
    held,
    part_asked,
    refused,
    wait_for,
    weight_bytes_asked,
)
from tests.integration.s3_proxy import Answer, Call, Pass, Proxy, refusal

MIB = 1 << 20


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system that holds the checkpoint and 64 MiB more, as a directory."""
    if os.geteuid() != 0:
        missing("root, to mount a small disk,")
    place = tmp_path / "disk"
    place.mkdir()
    size = f"size={LARGE_BYTES + 64 * MIB}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fetch(published: Published, url: str, destination: Path) -> None:
    fetch_checkpoint(published.store(url), published.source, destination, checkpoint=LARGE)


class Once:
    """A fault that changes the first answer about a part of the weights."""

    def __init__(self, part: int, **changes: object) -> None:
        self._part = part
        self._changes = changes
        self.left = 1

    def __call__(self, call: Call, ask: Pass) -> Answer | None:
        answer = ask()
        if part_asked(call) != self._part or not self.left:
            return answer
        self.left -= 1
        return replace(answer, **self._changes)  # type: ignore[arg-type]  # any field, by name


@pytest.mark.parametrize(
    "change",
    [{"cut": 5 * MIB + 1}, {"body": b"\x02" * (3 * MIB)}, {"cut": 0}],
    ids=["reset", "ends-early-by-its-own-word", "nothing-came"],
)
def test_a_broken_answer_is_gone_on_with_from_its_last_byte(
    published: Published, between: Proxy, destination: Path, change: dict[str, object]
) -> None:
    fault = Once(2, **change)
    between.fault = fault
    fetch(published, between.url, destination)
    assert not fault.left
    assert held(destination) == LARGE_FILES
    assert weight_bytes_asked(between.calls) <= len(LARGE_FILES[WEIGHTS]) + SMALLEST_PART


def test_wrong_bytes_leave_no_file_and_the_next_run_brings_it(
    published: Published, between: Proxy, destination: Path
) -> None:
    between.fault = Once(3, body=b"\x07" * SMALLEST_PART)
    with pytest.raises(ContentError, match=f"{WEIGHTS}: part 3 of 4 at offset") as caught:
        fetch(published, between.url, destination)
    refused(caught.value)
    assert sorted(held(destination)) == ["config.json"]
    fetch(published, between.url, destination)
    assert held(destination) == LARGE_FILES


def test_a_server_that_ignores_ranges_is_refused(
    published: Published, between: Proxy, destination: Path
) -> None:
    def whole(call: Call, ask: Pass) -> Answer:
        answer = ask()
        headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-range"}
        return replace(answer, status=200, headers=headers) if part_asked(call) else answer

    between.fault = whole
    with pytest.raises(WorldError, match="got the whole object"):
        fetch(published, between.url, destination)
    assert WEIGHTS not in held(destination)


def test_a_refusal_in_the_middle_keeps_what_is_proven(
    published: Published, between: Proxy, destination: Path
) -> None:
    partial = destination / f".{WEIGHTS}.partial"

    def deny(call: Call, ask: Pass) -> Answer:
        if part_asked(call) in {None, 1}:
            return ask()
        wait_for(lambda: first_part_is_in(partial))
        time.sleep(0.3)
        return refusal(403, "ExpiredToken")

    between.fault = deny
    with pytest.raises(DeniedError):
        fetch(published, between.url, destination)
    assert WEIGHTS not in held(destination)
    assert first_part_is_in(partial)
    between.calls.clear()
    between.fault = lambda call, ask: ask()
    fetch(published, between.url, destination)
    assert held(destination) == LARGE_FILES
    assert weight_bytes_asked(between.calls) == len(LARGE_FILES[WEIGHTS]) - SMALLEST_PART


def test_after_kill_9_only_what_is_not_there_comes_again(
    published: Published, between: Proxy, destination: Path
) -> None:
    stuck = Stuck()
    between.fault = stuck
    killed = published.start(between.url, destination)
    wait_for(lambda: first_part_is_in(destination / f".{WEIGHTS}.partial"))
    killed.kill()
    killed.communicate()
    stuck.let_go()
    assert WEIGHTS not in held(destination)
    between.calls.clear()
    again = published.start(between.url, destination)
    out, told = again.communicate(timeout=60)
    assert again.returncode == 0, told
    assert held(destination) == LARGE_FILES
    rest = len(LARGE_FILES[WEIGHTS]) - SMALLEST_PART
    assert weight_bytes_asked(between.calls) == rest
    assert json.loads(out) == {
        "verified": True,
        "files": 2,
        "bytes": LARGE_BYTES,
        "keptBytes": LARGE_BYTES - rest,
        "cachedBytes": 0,
        "receivedBytes": rest,
        "fromCacheBy": None,
    }


def test_a_pod_that_is_stopped_ends_at_once_and_leaves_no_final_name(
    published: Published, between: Proxy, destination: Path
) -> None:
    def slow(call: Call, ask: Pass) -> Answer:
        answer = ask()
        time.sleep(0.5 if part_asked(call) else 0)
        return answer

    between.fault = slow
    running = published.start(between.url, destination)
    wait_for((destination / f".{WEIGHTS}.partial").exists)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=10)
    assert running.returncode == 128 + signal.SIGTERM
    assert WEIGHTS not in held(destination)


def test_room_is_taken_before_the_first_byte_and_counts_in_the_next_run(
    published: Published, between: Proxy, small_disk: Path
) -> None:
    destination = small_disk / "checkpoint"
    store = published.store(between.url)
    broken = Recording(store, fail_after=0)
    with pytest.raises(WorldError, match="the connection broke"):
        fetch_checkpoint(broken, published.source, destination, checkpoint=LARGE)
    taken = (destination / f".{WEIGHTS}.partial").stat()
    assert taken.st_blocks * 512 >= taken.st_size == len(LARGE_FILES[WEIGHTS])
    assert os.statvfs(small_disk).f_bavail * 4096 < LARGE_BYTES
    fetch_checkpoint(store, published.source, destination, checkpoint=LARGE)
    assert held(destination) == LARGE_FILES


def test_too_small_a_disk_is_said_with_what_is_needed_and_there(
    published: Published, between: Proxy, small_disk: Path
) -> None:
    (small_disk / "others").write_bytes(bytes(100 * MIB))
    with pytest.raises(WorldError, match=r"192\.0 MiB still to come, 156\.\d MiB free") as caught:
        fetch(published, between.url, small_disk / "checkpoint")
    assert "volume" in refused(caught.value)
    assert held(small_disk / "checkpoint") == {}
    assert weight_bytes_asked(between.calls) == 0


def test_a_disk_that_fills_up_before_its_room_is_taken_holds_nothing_in_vain(
    published: Published, between: Proxy, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = small_disk / "checkpoint"
    allocate = os.posix_fallocate

    def after_somebody_else(descriptor: int, offset: int, length: int) -> None:
        if length > MIB:
            (small_disk / "others").write_bytes(bytes(100 * MIB))
        allocate(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", after_somebody_else)
    with pytest.raises(WorldError, match="no space left") as caught:
        fetch(published, between.url, destination)
    refused(caught.value)
    assert held(destination) == {}


def test_a_full_disk_in_the_middle_keeps_what_is_proven_under_another_name(
    published: Published, between: Proxy, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "as on a file system that cannot")

    destination, others = small_disk / "checkpoint", small_disk / "others"
    partial = destination / f".{WEIGHTS}.partial"

    def fill(call: Call, ask: Pass) -> Answer:
        if part_asked(call) not in {None, 1}:
            wait_for(lambda: first_part_is_in(partial))
            if not others.exists():
                others.write_bytes(bytes(150 * MIB))
        return ask()

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    between.fault = fill
    with pytest.raises(WorldError, match=r"at offset .*: no space left") as caught:
        fetch(published, between.url, destination)
    refused(caught.value)
    assert WEIGHTS not in held(destination)
    others.unlink()
    between.calls.clear()
    between.fault = lambda call, ask: ask()
    fetch(published, between.url, destination)
    assert held(destination) == LARGE_FILES
    assert weight_bytes_asked(between.calls) <= len(LARGE_FILES[WEIGHTS]) - SMALLEST_PART
