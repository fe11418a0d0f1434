from __future__ import annotations

import pytest

from seatrial.load.samples import Sample
from seatrial.load.timeline import late_limit_ms, timeline, values
from seatrial.load.usage import MachineTrace
from seatrial.load.window import Recording

S = 10**9
MS = 10**6


def due(at_ms, latency_ms=10.0, late_ms=0.0, error=""):
    start = round((at_ms + late_ms) * MS)
    end = round((at_ms + latency_ms) * MS)
    return Sample(start, end, 0 if error else 200, error, due_ns=round(at_ms * MS))


def cut(samples, window_s=4.0, trace=None, latency_ms=None, stragglers=()):
    recording = Recording(tuple(samples), tuple(stragglers), 0, round(window_s * S), 0, "time")
    return timeline(recording, trace or MachineTrace(), latency_ms)


def test_requests_of_an_open_loop_count_where_they_were_due():
    found = cut([due(100), due(900, latency_ms=2500), due(1500, error="timeout", latency_ms=3000)])
    assert (found.slice_s, len(found.slices)) == (1.0, 4)
    first, second, third, fourth = found.slices
    assert (first.due, first.good, first.failed, first.answered) == (2, 2, 0, 1)
    assert (first.mean_ms, first.p50_ms, first.max_ms) == (1255.0, 1255.0, 2500.0)
    assert (second.due, second.good, second.failed, second.answered) == (1, 0, 1, 0)
    assert (second.mean_ms, second.max_ms) == (None, None)
    # The answer of 2.5 s came in the fourth slice.
    assert (third.answered, fourth.answered) == (0, 1)
    # Under way: 10 + 100 ms of the first second, all of the second one and half of another.
    assert first.in_flight == pytest.approx(0.11)
    assert second.in_flight == pytest.approx(1.5)
    assert fourth.in_flight == pytest.approx(0.4 + 1.0)


def test_requests_of_a_closed_loop_count_where_they_ended():
    samples = [Sample(900 * MS, 1100 * MS, 200), Sample(1200 * MS, 1300 * MS, 503, "http-503")]
    late = Sample(1900 * MS, 2100 * MS, 200)
    first, second = cut(samples, window_s=2.0, stragglers=[late]).slices
    assert (first.due, first.good, first.late_ms) == (1, 0, None)
    assert (second.due, second.good, second.failed) == (2, 1, 1)
    assert second.mean_ms == 200.0
    assert second.in_flight == pytest.approx(0.1 + 0.1 + 0.1)


def test_a_long_window_has_longer_slices_and_its_stump_joins_the_last():
    assert len(cut([due(1)], window_s=5.4).slices) == 5
    assert len(cut([due(1)], window_s=5.6).slices) == 6
    found = cut([due(1)], window_s=1000.0)
    assert (found.slice_s, len(found.slices)) == (9.0, 111)
    assert cut([], window_s=5.0) is None
    assert cut([due(1)], window_s=0.0) is None


def test_a_slice_in_which_requests_were_sent_late_is_void():
    punctual = [due(10 * n) for n in range(100)]
    one_late = [due(1000 + 10 * n, late_ms=6.0 if n == 0 else 4.9) for n in range(100)]
    two_late = [due(2000 + 10 * n, late_ms=6.0 if n < 2 else 0) for n in range(100)]
    found = cut([*punctual, *one_late, *two_late, due(3000, late_ms=7.0)])
    assert [one.void for one in found.slices] == ["", "", "late", "late"]
    assert [one.late_ms for one in found.slices] == pytest.approx([0.0, 6.0, 6.0, 7.0])
    # A tenth of the latency that matters may pass.
    allowed = cut([*two_late, due(3000, late_ms=7.0)], latency_ms=70.0)
    assert (allowed.late_limit_ms, {one.void for one in allowed.slices}) == (7.0, {""})
    assert (late_limit_ms(None), late_limit_ms(20.0), late_limit_ms(200.0)) == (5.0, 5.0, 20.0)


def test_a_slice_in_which_the_machine_was_taken_away_is_void():
    trace = MachineTrace()
    for second, stolen in enumerate((0, 0, 30, 30, 40)):
        trace.add(second * S, (0, 0, 0, 200 * second - stolen, 0, 0, 0, stolen), 2**20 * second)
    found = cut([due(500), due(1500), due(2500)], trace=trace)
    assert [one.void for one in found.slices] == ["", "steal", "", ""]
    assert [one.steal_share for one in found.slices] == pytest.approx([0, 0.15, 0, 0.05])
    assert [one.rss_bytes for one in found.slices] == [2**20 * n for n in (1, 2, 3, 4)]
    assert values(found.slices, "max_ms") == [10.0, 10.0]
