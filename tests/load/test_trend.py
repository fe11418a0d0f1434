from __future__ import annotations

import random

import pytest
from scipy.stats import theilslopes

from seatrial.load.timeline import Slice, Timeline
from seatrial.load.trend import FEWEST_SLICES, theil_sen, trend


def cut(latencies, memory=None, void=(), slice_s=60.0):
    """A timeline with these medians and sizes."""
    sizes = [None] * len(latencies) if memory is None else memory
    slices = tuple(
        Slice(
            due=5, answered=5, good=5, failed=0, mean_ms=ms, p50_ms=ms, max_ms=ms, in_flight=1.0,
            late_ms=0.1, steal_share=0.0, rss_bytes=size, void="late" if n in void else "",
        )
        for n, (ms, size) in enumerate(zip(latencies, sizes, strict=True))
    )  # fmt: skip
    return Timeline(slice_s, 5.0, slices)


@pytest.mark.parametrize("step", [0.0, 0.5], ids=["smooth", "with ties"])
@pytest.mark.parametrize("count", [20, 21, 77, 120])
def test_the_slope_and_its_interval_are_those_of_scipy(count, step):
    draw = random.Random(count)
    values = [draw.gauss(50.0, 3.0) + 0.02 * n for n in range(count)]
    if step:
        values = [round(value / step) * step for value in values]
    x = [n / 60 for n in range(count)]
    reference = theilslopes(values, x, alpha=0.95)
    assert theil_sen(x, values) == pytest.approx(
        (reference.slope, reference.low_slope, reference.high_slope)
    )


def test_the_slope_is_in_units_an_hour():
    found = trend(cut([40.0 + n for n in range(30)], [10**6 + 500 * n for n in range(30)]))
    assert found.latency_ms.per_hour == pytest.approx(60.0)
    assert found.memory_bytes.per_hour == pytest.approx(30_000.0)
    assert found.latency_ms.median == 54.5
    assert found.latency_ms.over_h == pytest.approx(29 / 60)
    assert found.latency_ms.slices == 30


def test_the_interval_holds_the_true_slope():
    held = 0
    for seed in range(200):
        draw = random.Random(seed)
        _, low, high = theil_sen(range(40), [0.1 * n + draw.gauss(0.0, 2.0) for n in range(40)])
        held += low <= 0.1 <= high
    assert 181 <= held <= 199  # 95 % of 200, and what may be by chance


def test_void_slices_and_those_without_answers_do_not_count():
    latencies = [40.0] * 20 + [9000.0] * 3 + [None]
    found = trend(cut(latencies, void=(20, 21, 22)))
    assert (found.latency_ms.slices, found.latency_ms.high_per_hour) == (20, 0.0)
    assert found.memory_bytes is None


def test_the_ends_of_an_interval_are_around_the_slope():
    draw = random.Random(1)
    found = trend(cut([40.0 + n + draw.gauss(0.0, 3.0) for n in range(30)])).latency_ms
    assert 50.0 < found.low_per_hour < found.per_hour < found.high_per_hour < 70.0
    alone = theil_sen([0.0, 1.0], [1.0, 3.0])
    assert alone == (2.0, 2.0, 2.0)


def test_few_slices_have_no_trend():
    assert trend(cut([40.0] * (FEWEST_SLICES - 1))) is None
    assert trend(cut([40.0] * FEWEST_SLICES)) is not None
    assert trend(None) is None
