"""Estimates of capacity from few trials."""

from __future__ import annotations

import pytest

from seatrial.load.rate_estimate import BEYOND, estimated_hz
from seatrial.load.rate_search import RateTrial


def trial(rate_hz: float, bad: int, offered: int = 100, *, void: bool = False) -> RateTrial:
    return RateTrial(rate_hz, 10.0, offered, bad, void)


def test_nothing_is_known_without_trials() -> None:
    assert estimated_hz([], 0.05) == 0.0
    assert estimated_hz([trial(10.0, 0, void=True), trial(10.0, 0, 0)], 0.05) == 0.0


def test_capacity_lies_beyond_what_held_and_before_what_failed() -> None:
    assert estimated_hz([trial(10.0, 0), trial(20.0, 0)], 0.05) == 20.0 * BEYOND
    assert estimated_hz([trial(10.0, 50), trial(20.0, 99)], 0.05) == 10.0 / BEYOND


def test_between_two_rates_the_logarithm_of_the_share_says_where() -> None:
    # 0.01 at 10/s and 0.25 at 40/s: 0.05 is half of the way.
    found = estimated_hz([trial(40.0, 25), trial(10.0, 1)], 0.05)
    assert found == pytest.approx(20.0)
    near = estimated_hz([trial(10.0, 4), trial(40.0, 90)], 0.05)
    far = estimated_hz([trial(10.0, 0), trial(40.0, 6)], 0.05)
    assert 10.0 < near < 20.0 < far < 40.0


def test_an_unlucky_window_at_a_low_rate_decides_nothing() -> None:
    alone = estimated_hz([trial(20.0, 0, 400), trial(40.0, 50)], 0.05)
    assert estimated_hz([trial(10.0, 6), trial(20.0, 0, 400), trial(40.0, 50)], 0.05) < alone
    assert estimated_hz([trial(10.0, 6), trial(20.0, 0, 400), trial(40.0, 50)], 0.05) > 20.0


def test_windows_of_one_rate_count_together() -> None:
    both = estimated_hz([trial(20.0, 9), trial(20.0, 0), trial(40.0, 50)], 0.05)
    assert 20.0 < both < 40.0
