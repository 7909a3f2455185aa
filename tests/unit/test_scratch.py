from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event as EventType
from pathlib import Path

import pytest

from bundler.archive.scratch import scratch_directory
from bundler.errors import WorldError


def test_a_scratch_directory_lives_as_long_as_its_block(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as scratch:
        (scratch / "image.tar").write_bytes(b"x")
    assert not list(tmp_path.iterdir())


def test_it_is_gone_after_an_error_too(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_directory(tmp_path) as scratch:
            (scratch / "image.tar").write_bytes(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def _hold(parent: Path, ready: Connection) -> None:
    with scratch_directory(parent) as scratch:
        (scratch / "image.tar").write_bytes(b"x")
        ready.send(scratch)
        signal.pause()


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    here, there = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path, there))
    other.start()
    held: Path = here.recv()
    foreign = tmp_path / "bundle-scratch-notes"
    foreign.mkdir()
    with scratch_directory(tmp_path):
        assert held.exists()
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert held.exists()
    with scratch_directory(tmp_path):
        assert not held.exists()
    assert list(tmp_path.iterdir()) == [foreign]


def test_what_was_killed_before_it_was_locked_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "bundle-scratch-abcd_123").mkdir()
    with scratch_directory(tmp_path) as scratch:
        assert list(tmp_path.iterdir()) == [scratch.parent]


def _make_many(parent: Path, failed: EventType) -> None:
    try:
        for _ in range(100):
            with scratch_directory(parent) as scratch:
                (scratch / "image.tar").write_bytes(b"x")
    except (OSError, WorldError):
        failed.set()


def test_runs_side_by_side_do_not_take_each_other_for_killed(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    failed = forking.Event()
    others = [forking.Process(target=_make_many, args=(tmp_path, failed)) for _ in range(4)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert not failed.is_set()
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="nowhere"), scratch_directory(tmp_path / "nowhere"):
        pass


@pytest.mark.parametrize("moment", ["before it is opened", "after"])
def test_what_a_link_names_is_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    victim, place = tmp_path / "victim", tmp_path / "scratch"
    left = place / "bundle-scratch-abcd_123"
    for directory in (victim, left):
        (directory / "content").mkdir(parents=True)
        (directory / "lock").touch()
    (victim / "content" / "precious").touch()
    really = os.open

    def swap(path: Path | str, *rest: int, dir_fd: int | None = None) -> int:
        """Put a link where the directory was, as somebody does who may rename it."""
        due = Path(path) in {left, left / "lock"} and not left.is_symlink()
        if due and moment == "before it is opened":
            left.rename(place / "away")
            left.symlink_to(victim)
        found = really(path, *rest, dir_fd=dir_fd)
        if due and moment == "after":
            left.rename(place / "away")
            left.symlink_to(victim)
        return found

    monkeypatch.setattr(os, "open", swap)
    with scratch_directory(place):
        pass
    assert left.is_symlink()
    assert (victim / "content" / "precious").exists()
    assert (victim / "lock").exists()
