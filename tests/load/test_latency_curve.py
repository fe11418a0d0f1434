from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from seatrial.load.latency_curve import WHOLE_TAIL, latency_curve


def test_a_short_sample_is_kept_whole_and_sorted():
    curve = latency_curve([3.0, 1.0, 2.0], 1, [0.5, 2.5, 1.5])
    assert (curve.count, curve.failed, curve.ranks) == (4, 1, (1, 2, 3))
    assert curve.latency_ms == (1.0, 2.0, 3.0)
    assert curve.service_ms == (0.5, 1.5, 2.5)


def test_nothing_comes_of_no_good_answer():
    assert latency_curve([], 7) is None


def test_the_sixty_slowest_are_kept_as_the_documents_say():
    assert WHOLE_TAIL == 60
    for count in (59, 60, 61, 62):
        assert latency_curve([1.0] * count).ranks == tuple(range(1, count + 1))
    curve = latency_curve([1.0] * 10_000)
    assert curve.ranks[-60:] == tuple(range(9941, 10_001))
    assert 150 < len(curve.ranks) <= 190


@given(st.integers(1, 30_000), st.integers(0, 5))
def test_the_tail_is_whole_and_the_rest_is_thinned(count, failed):
    curve = latency_curve([float(n) for n in range(1, count + 1)], failed)
    assert curve.latency_ms == tuple(map(float, curve.ranks))
    assert (curve.ranks[0], curve.ranks[-1]) == (1, count)
    kept = min(count, WHOLE_TAIL)
    assert curve.ranks[-kept:] == tuple(range(count - kept + 1, count + 1))
    assert len(curve.ranks) <= 200
    assert list(curve.ranks) == sorted(set(curve.ranks))
    # No step is more than a tenth of the requests that are slower.
    slower = [count - rank for rank in curve.ranks]
    assert all(a - b <= 1 + 0.1 * b for a, b in itertools.pairwise(slower))
