from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.publish.upload_climb import MOST_LANES, Climb, Pace

MB = 1_000_000.0


def climbed(rate: Callable[[int], float], windows: int = 200) -> list[int]:
    """Search on a simulated link, and give the lanes of each measurement."""
    climb, seen = Climb(), []
    for _ in range(windows):
        seen.append(climb.lanes)
        climb = climb.measured(rate(climb.lanes))
    return seen


def usual(lanes: list[int]) -> int:
    """Give what a search used most, once it had some time."""
    late = lanes[len(lanes) // 2 :]
    return max(set(late), key=late.count)


def test_a_link_where_each_lane_has_its_own_share_gets_many() -> None:
    lanes = climbed(lambda lanes: lanes * 10 * MB)
    assert usual(lanes) == MOST_LANES
    assert lanes.index(MOST_LANES) <= 8


@pytest.mark.parametrize("needed", [6, 12, 20])
def test_a_link_that_is_full_with_some_lanes_gets_about_so_many(needed: int) -> None:
    assert (
        needed * 0.7 <= usual(climbed(lambda lanes: min(lanes, needed) * 10 * MB)) <= needed * 1.5
    )


def test_a_link_that_one_lane_fills_gets_one() -> None:
    assert usual(climbed(lambda lanes: 5 * MB)) == 1


def test_a_server_that_gets_slower_with_every_lane_gets_few() -> None:
    assert usual(climbed(lambda lanes: 100 * MB / lanes)) == 1


def test_a_server_that_breaks_down_beyond_a_number_is_kept_below_it() -> None:
    lanes = climbed(lambda lanes: lanes * 10 * MB if lanes <= 9 else 20 * MB)
    assert usual(lanes) in range(5, 10)
    assert sum(count > 9 for count in lanes) < len(lanes) / 8


def test_it_rests_where_it_is_best() -> None:
    lanes = climbed(lambda lanes: min(lanes, 8) * 10 * MB)[100:]
    changes = sum(before != after for before, after in pairwise(lanes))
    assert changes <= len(lanes) / 3


def test_a_link_that_changes_is_followed() -> None:
    climb = Climb()
    for _ in range(100):
        climb = climb.measured(5 * MB)
    assert climb.held == 1
    for _ in range(200):
        climb = climb.measured(climb.lanes * 10 * MB)
    assert climb.held == MOST_LANES


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1e12), max_size=100))
def test_whatever_is_measured_the_lanes_stay_in_their_bounds(rates: list[float]) -> None:
    climb = Climb()
    for rate in rates:
        climb = climb.measured(rate)
        assert 1 <= climb.lanes <= MOST_LANES


def test_a_measurement_begins_when_the_lanes_are_those_that_were_asked_for() -> None:
    times = iter(range(100))
    pace = Pace(lambda: float(next(times)))
    asked = pace.lanes(0)
    assert [pace.lanes(asked - 1) for _ in range(20)] == [asked] * 20
    assert [pace.lanes(asked) for _ in range(2)] == [asked] * 2
    pace.add(1000)
    assert pace.lanes(asked) > asked


@pytest.mark.parametrize("seed", range(8))
def test_a_link_whose_rate_varies_does_not_lead_astray(seed: int) -> None:
    noise = random.Random(seed)
    lanes = climbed(lambda lanes: min(lanes, 8) * 10 * MB * noise.uniform(0.85, 1.15))
    late = lanes[len(lanes) // 2 :]
    lost = sum(1 - min(count, 8) / 8 for count in late) / len(late)
    assert lost < 0.15
