"""How far a run is, on a terminal and in a log."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import dataclass

import pytest
from rich.console import Console

from bundler.cli.json_events import JsonEvents
from bundler.cli.plainly import PlainLines, progress_line
from bundler.cli.progress import Tally, clock_text
from bundler.cli.render import Watcher
from bundler.events import Advanced, Event, Finished, Planned, Started

GIB = 1 << 30


@dataclass
class Clock:
    """Time that goes on when a test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def tally_of(clock: Clock, *events: Event) -> Tally:
    tally = Tally(clock)
    for event in events:
        tally.take(event)
    return tally


def test_a_run_is_told_with_its_rate_and_the_time_that_is_left() -> None:
    clock = Clock()
    tally = tally_of(clock, Planned(10 * GIB), Started("upload", "a", GIB), Advanced("a", 0))
    for _ in range(10):
        clock.now += 1
        tally.take(Advanced("a", GIB // 20))
    assert tally.share() == (10 * (GIB // 20), 10 * GIB)
    assert tally.text() == "512.0 MiB of 10.0 GiB (4 %), 51.2 MiB/s, 0:03:10 left"


def test_the_rate_is_that_of_late_and_zero_where_nothing_comes() -> None:
    clock = Clock()
    tally = tally_of(clock, Started("fetch", "a", 100 * GIB), Advanced("a", 50 * GIB))
    clock.now = 20
    tally.take(Advanced("a", GIB))
    clock.now = 3600
    assert tally.rate() is not None
    clock.now = 3631
    assert tally.rate() == 0
    assert tally.text() == "51.0 GiB of 100.0 GiB (51 %), 0 B/s"


def test_what_was_planned_is_less_than_what_began_then_that_is_all() -> None:
    begun = Started("write", "a", 7), Started("write", "b", 5)
    assert tally_of(Clock(), Planned(5), Planned(5), *begun).share() == (0, 12)
    assert tally_of(Clock(), Planned(50), *begun).share() == (0, 50)


def test_what_an_item_was_spared_counts_as_done() -> None:
    events = Started("verify", "a", 10), Advanced("a", 4), Finished("a"), Started("push", "b", 2)
    assert tally_of(Clock(), *events, Advanced("b", 2), Advanced("b", -2)).share() == (10, 12)


def test_a_log_is_told_of_the_run_from_time_to_time(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainLines(every=0.05) as tell:
        tell(Planned(4 * GIB))
        tell(Started("fetch", "model.safetensors", 2 * GIB))
        tell(Advanced("model.safetensors", GIB))
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert lines[0].startswith("1.0 GiB of 4.0 GiB (25 %)")
    assert lines[0].endswith("; fetch model.safetensors")


def test_a_log_is_told_of_work_without_a_size_and_of_nothing_where_nothing_goes_on() -> None:
    clock = Clock()
    tally = tally_of(clock, Started("wait for", "pods of demo"))
    clock.now = 61
    assert progress_line(tally) == "wait for pods of demo: 0:01:01 so far"
    tally.take(Finished("pods of demo"))
    assert progress_line(tally) == ""


def screen(*events: Event, width: int = 80) -> list[str]:
    """Give the rows that a terminal shows."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    watch = Watcher(console)
    for event in events:
        watch.tally.take(event)
    console.print(watch.screen(), end="")
    return out.getvalue().splitlines()


def test_a_terminal_shows_all_of_a_run_in_one_row_and_some_of_what_goes_on() -> None:
    names = [f"laguna_m/{'deep/' * 12}model-{n:05}-of-00300.safetensors" for n in range(1, 301)]
    events: list[Event] = [Planned(300 * 5 * GIB)]
    for number, name in enumerate(names):
        events.append(Started("upload", name, 5 * GIB))
        if number < 32:
            events.append(Advanced(name, 2 * GIB))
    first, *rows = screen(*events)
    assert "64.0 GiB of 1.5 TiB (4 %)" in first
    assert len(rows) == 7
    assert rows[-1] == "and 26 more"
    for row, number in zip(rows[:-1], range(1, 7), strict=True):
        assert len(row) <= 80
        assert row.startswith("upload laguna_m/d...")
        assert f"-{number:05}-of-00300.safetensors" in row
        assert row.endswith(" 2.0 GiB of 5.0 GiB  40 %")


@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_row_wraps(width: int) -> None:
    huge = 1023 * GIB
    rows = screen(
        Started("upload", "a" * 200, huge),
        Advanced("a" * 200, huge - 1),
        Started("install", "chart demo"),
        width=width,
    )
    assert len(rows) == 3
    assert all(len(row) <= width for row in rows)


def test_what_is_complete_and_waits_to_be_closed_gives_way_to_what_moves() -> None:
    sent = Started("upload", "sent", 5), Advanced("sent", 5)
    moving = Started("upload", "moving", 5), Advanced("moving", 2)
    assert [row.split()[1] for row in screen(*sent, *moving)[1:]] == ["moving"]
    assert [row.split()[1] for row in screen(*sent)[1:]] == ["sent"]


def test_machines_are_told_what_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    JsonEvents()(Planned(5))
    told = json.loads(capsys.readouterr().err)
    assert (told["event"], told["total"]) == ("planned", 5)


def test_a_time_is_hours_minutes_and_seconds() -> None:
    assert [clock_text(n) for n in (0, 59.6, 3601, 360_000)] == [
        "0:00:00",
        "0:01:00",
        "1:00:01",
        "100:00:00",
    ]


def test_no_thread_is_left_when_a_run_ends() -> None:
    before = threading.enumerate()
    with PlainLines():
        assert len(threading.enumerate()) == len(before) + 1
    assert threading.enumerate() == before
