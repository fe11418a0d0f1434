from __future__ import annotations

import pytest

from bench_reports import build_open_point
from seatrial.bench.open_loop_analysis import follows, is_overwhelmed, rate_knee


@pytest.fixture(scope="module")
def fine():
    return build_open_point(10.0), build_open_point(20.0)


@pytest.fixture(scope="module")
def behind():
    return build_open_point(40.0, grows_ms=8000.0)


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        (build_open_point(20.0), True),
        (build_open_point(20.0, failed=40), True),
        (build_open_point(20.0, failed=41), False),
        (build_open_point(20.0, grows_ms=5000.0), False),
        (build_open_point(20.0, latency_ms=60.0, limit_ms=50.0), False),
    ],
    ids=["all good", "5 % failed", "more failed", "queue grows", "late"],
)
def test_goodput_follows_while_it_keeps_its_share_and_no_queue_grows(point, kept):
    assert follows(point, 0.95) is kept


def test_the_knee_is_the_highest_rate_that_is_followed(fine, behind):
    assert rate_knee([behind, *fine], 0.95) == (2, 0)
    assert rate_knee([*fine], 0.95) == (1, None)
    assert rate_knee([behind, behind], 0.95) == (None, 0)
    assert rate_knee([*fine[:1]], 0.95) == (None, None)


def test_a_void_rate_is_neither_followed_nor_missed(fine, behind):
    late = build_open_point(30.0, late_ms=40.0)
    assert rate_knee([*fine, late, behind], 0.95) == (1, 3)
    assert rate_knee([fine[0], late], 0.95) == (None, None)


def test_a_queue_that_grows_all_the_time_overwhelms():
    assert not is_overwhelmed(build_open_point(20.0))
    assert not is_overwhelmed(build_open_point(20.0, failed=8))  # of 800
    assert is_overwhelmed(build_open_point(20.0, failed=9))
    assert is_overwhelmed(build_open_point(20.0, grows_ms=5000.0))
    assert not is_overwhelmed(build_open_point(20.0, grows_ms=30.0))  # by chance
    # Too short to tell.
    assert not is_overwhelmed(build_open_point(20.0, grows_ms=5000.0, seconds=4.0))


def test_a_rate_that_follows_above_one_that_does_not_is_no_knee():
    good, bad = build_open_point(10.0), build_open_point(20.0, failed=400)
    assert rate_knee([good, bad, build_open_point(40.0)], 0.95) == (0, 1)
    assert rate_knee([bad, build_open_point(40.0)], 0.95) == (None, 0)
