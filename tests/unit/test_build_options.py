"""What ``bundle build`` and ``bundle lock`` make of their options, and tell machines."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from bundler.archive.hashing import probe_hashing
from bundler.build.estimate import Estimate
from bundler.cli.cache_options import open_cache
from bundler.cli.json_events import JsonEvents, open_watcher
from bundler.cli.render import Watcher
from bundler.events import Advanced, Finished, Noted, Started, ignore


def test_progress_is_summed_up_and_nothing_of_it_is_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell = JsonEvents()
    tell(Started("write", "m.tar", 450_000))
    for _ in range(450_000):
        tell(Advanced("m.tar", 1))
    tell(Finished("m.tar"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [lines[0]["event"], lines[-1]["event"]] == ["started", "finished"]
    assert 1 <= len(lines) - 2 <= lines[-1]["seconds"] + 1
    assert sum(line["step"] for line in lines[1:-1]) == 450_000


def test_events_are_an_object_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with open_watcher(True) as emit:
        emit(Started("write", "a.tar", 5))
        emit(Advanced("a.tar", 5))
        emit(Noted("two\nlines \x1b[2J"))
        emit(Finished("a.tar", skipped=True))
    told = capsys.readouterr()
    assert told.out == ""
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert [line.pop("seconds") >= 0 for line in lines] == [True] * 4
    assert [line.pop("event") for line in lines] == ["started", "noted", "advanced", "finished"]
    assert lines[0] == {"verb": "write", "item": "a.tar", "total": 5}
    assert lines[1] == {"text": "two\nlines \x1b[2J"}
    assert lines[2] == {"item": "a.tar", "step": 5}
    assert (lines[3]["item"], lines[3]["skipped"]) == ("a.tar", True)
    assert "\x1b" not in told.err


def test_people_get_the_watcher() -> None:
    assert isinstance(open_watcher(False), Watcher)
    assert not isinstance(open_watcher(True), JsonEvents)  # a context manager around one


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("/somewhere", "/somewhere/bundle"), ("", ".cache/bundle"), ("relative", ".cache/bundle")],
)
def test_the_cache_lies_where_users_keep_caches(
    variable: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    cache = open_cache(None, no_cache=False, emit=ignore)
    assert cache is not None
    assert cache.directory == tmp_path / expected / "checkpoints"


def test_a_cache_may_be_named_or_left_out(tmp_path: Path) -> None:
    cache = open_cache(tmp_path, no_cache=False, emit=ignore)
    assert cache is not None
    assert cache.directory == tmp_path / "checkpoints"
    assert list(tmp_path.iterdir()) == []
    assert open_cache(None, no_cache=True, emit=ignore) is None
    with pytest.raises(click.UsageError, match="got both"):
        open_cache(tmp_path, no_cache=True, emit=ignore)


def test_an_estimate_is_told_with_the_least_time() -> None:
    estimate = Estimate(read=3 << 30, hashed=9 << 30, room=4 << 30)
    told = estimate.describe(bytes_per_second=float(1 << 30))
    assert told == "3.0 GiB to read, 4.0 GiB of disk to work in, at least 9 s of hashing"
    assert "hashing" not in estimate.describe(bytes_per_second=float(9 << 30))
    assert probe_hashing() > 1 << 20
