"""Waiting before another try: exponential, jittered, bounded, as the server asks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.stores.retry import Patience, Tries, next_wait, seconds_asked

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@dataclass
class Sleeper:
    slept: list[float] = field(default_factory=list)
    time: float = 0.0

    def patience(self, draw: float = 1.0, **limits: float | int) -> Patience:
        return Patience(
            sleep=self.sleep,
            draw=lambda: draw,
            now=lambda: NOW,
            clock=lambda: self.time,
            **limits,  # type: ignore[arg-type]  # a test's shorthand
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def test_waits_grow_twofold_up_to_the_longest() -> None:
    sleeper = Sleeper()
    tries = Tries(sleeper.patience(tries=7, base=0.5, longest=5, budget=1000))
    assert [tries.again() for _ in range(7)] == [True] * 6 + [False]
    assert sleeper.slept == [0.5, 1, 2, 4, 5, 5]


def test_a_wait_is_anywhere_below_its_window() -> None:
    assert next_wait(Sleeper().patience(draw=0.0), 5, 0.0) == 0.0
    assert next_wait(Sleeper().patience(draw=0.25, base=4), 1, 0.0) == 1.0


def test_nothing_is_tried_when_the_budget_is_spent() -> None:
    sleeper = Sleeper()
    tries = Tries(sleeper.patience(tries=100, base=4, longest=4, budget=10))
    assert [tries.again() for _ in range(4)] == [True, True, False, False]
    assert sum(sleeper.slept) == 8


def test_a_server_that_wants_more_time_than_the_budget_has_is_given_up_at_once() -> None:
    sleeper = Sleeper()
    assert not Tries(sleeper.patience(budget=60)).again("61")
    assert sleeper.slept == []


def test_time_in_attempts_that_failed_is_of_the_budget() -> None:
    sleeper = Sleeper()
    tries = Tries(sleeper.patience(draw=0.0, budget=100))
    for seconds, again in ((60, True), (30, True), (20, False)):
        sleeper.time += seconds
        assert tries.again() == again
    assert tries.spent == 110


def test_time_in_which_bytes_flow_is_not() -> None:
    sleeper = Sleeper()
    tries = Tries(sleeper.patience(draw=0.0, budget=100))
    sleeper.time += 1_000_000
    tries.flows()
    sleeper.time += 60
    assert tries.again()
    assert tries.spent == 60


def test_a_server_that_we_never_met_gets_fewer_tries() -> None:
    tries = Tries(Sleeper().patience())
    assert [tries.again(most=3) for _ in range(3)] == [True, True, False]


def test_where_time_alone_counts_there_are_more_tries_and_none_is_used_up() -> None:
    sleeper = Sleeper()
    tries = Tries(sleeper.patience(tries=3, base=1, longest=4, budget=100))
    assert [tries.again(counted=False) for _ in range(20)] == [True] * 20
    assert [tries.again() for _ in range(3)] == [True, True, False]
    assert sum(sleeper.slept) == 1 + 2 + 4 * 20
    assert tries.failed == 23
    while tries.again(counted=False):
        pass
    assert 96 < sum(sleeper.slept) <= 100


def test_progress_gives_all_tries_back() -> None:
    sleeper = Sleeper()
    tries = Tries(sleeper.patience(tries=2, base=1))
    assert tries.again()
    assert not tries.again()
    assert tries.reached(1 << 20, 5 << 20)
    assert tries.again()
    assert sleeper.slept == [1, 1]


def test_a_mebibyte_is_progress_and_so_is_the_rest() -> None:
    tries = Tries(Sleeper().patience())
    size = (3 << 20) + 7
    found = [tries.reached(at, size) for at in (0, 2, (1 << 20) - 1, 1 << 20, 1 << 20)]
    assert found == [False, False, False, True, False]
    assert [tries.reached(at, size) for at in (3 << 20, size - 1, size, size)] == [
        True,
        False,
        True,
        False,
    ]


def test_what_was_reached_before_is_no_progress() -> None:
    tries = Tries(Sleeper().patience())
    assert tries.reached(4 << 20, 9 << 20)
    assert not tries.reached(2 << 20, 9 << 20)
    assert not tries.reached(4 << 20, 9 << 20)
    assert tries.reached(5 << 20, 9 << 20)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 12:00:30 -0000", 30.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 5000, math.inf),
        ("Sat, 99 Nov 2026 12:00:30 GMT", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2026 99999999999:00:00 GMT", None),
        ("Mon, 01 Jan 2026 00:00:00 +9999999999", None),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_asked(header, NOW) == seconds


def test_we_never_come_back_before_we_are_asked_to() -> None:
    sleeper = Sleeper()
    assert Tries(sleeper.patience(draw=0.0)).again("Sat, 21 Nov 2026 12:00:30 GMT")
    assert sleeper.slept == [30.0]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1000)), max_size=50), st.floats(0, 0.999))
def test_all_waits_together_stay_in_the_budget(asked: list[float | None], draw: float) -> None:
    patience = Sleeper().patience(draw=draw, budget=100)
    spent = 0.0
    for number, seconds in enumerate(asked, start=1):
        wait = next_wait(patience, number, spent, seconds)
        if wait is None:
            break
        assert wait >= (seconds or 0.0)
        spent += wait
    assert spent <= patience.budget


@given(st.text(max_size=40))
def test_any_header_is_read_without_failing(text: str) -> None:
    seconds = seconds_asked(text, NOW)
    assert seconds is None or seconds >= 0
