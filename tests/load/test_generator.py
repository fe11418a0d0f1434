from __future__ import annotations

from seatrial.load.generator import check_generator
from seatrial.load.samples import Sample
from seatrial.load.timeline import timeline
from seatrial.load.usage import MachineTrace
from seatrial.load.window import Recording

S, MS = 10**9, 10**6


def check(late_ms, window_s=10.0, trace=None):
    """The check of requests that are due at equal distances, each sent so late."""
    step_ns = round(window_s * S / len(late_ms))
    samples = tuple(
        Sample(n * step_ns + round(late * MS), n * step_ns + S, 200, due_ns=n * step_ns)
        for n, late in enumerate(late_ms)
    )
    recording = Recording(samples, (), 0, round(window_s * S), 0, "time")
    return check_generator(recording, timeline(recording, trace or MachineTrace(), None))


def test_a_punctual_generator_is_valid():
    found = check([0.1] * 990 + [2.0] * 10)
    assert (found.offered_per_s, found.sent_per_s) == (100.0, 100.0)
    assert (found.late_p50_ms, found.late_p99_ms, found.late_max_ms) == (0.1, 0.1, 2.0)
    assert (found.late_share, found.void_slices, found.void) == (0.0, 0, ())


def test_late_sends_make_a_window_void():
    found = check([20.0 if n % 50 == 0 else 0.1 for n in range(1000)])
    assert found.late_p99_ms == 20.0
    assert found.late_share == 0.02
    assert found.void[0] == "2.0% of the requests were sent more than 5 ms late"
    # One stall is one slice, and does not void ten seconds.
    once = check([20.0 if n == 500 else 0.1 for n in range(1000)])
    assert (once.late_max_ms, once.void) == (20.0, ())
    # Few sends are late, and in too many slices.
    spread = check([20.0 if n in (5, 15, 25) else 0.1 for n in range(3000)], window_s=30.0)
    assert (spread.late_share, spread.void_slices, spread.void) == (0.001, 1, ())


def test_late_sends_in_many_slices_make_a_window_void():
    late = [6.0 if n % 200 < 3 else 0.1 for n in range(1000)]
    found = check(late)
    assert found.late_share == 0.015
    assert found.void_slices == 5
    assert "requests were sent late in 5 of 10 slices" in found.void


def test_stolen_time_makes_a_window_void():
    trace = MachineTrace()
    for second in range(11):
        trace.add(second * S, (0, 0, 0, 80 * second, 0, 0, 0, 20 * second), 0)
    found = check([0.1] * 100, trace=trace)
    assert found.void == ("the hypervisor took more than 10% of the cores in 10 of 10 slices",)


def test_a_window_of_void_slices_is_void():
    """However few they are: a search ends hopeless trials within a second."""
    trace = MachineTrace()
    trace.add(0, (0, 0, 0, 0, 0, 0, 0, 0), 0)
    trace.add(2 * S, (0, 0, 0, 80, 0, 0, 0, 120), 0)
    found = check([0.1] * 100, window_s=1.4, trace=trace)
    assert found.void == ("the hypervisor took more than 10% of the cores in 1 of 1 slices",)


def test_what_is_due_at_the_end_is_sent_in_time():
    assert check([0.9] * 100, window_s=0.05).sent_per_s == 2000.0
    assert check([4.9] * 100, window_s=0.05).sent_per_s == 2000.0
    assert check([9.0] * 100, window_s=0.05).sent_per_s == 82 / 0.05


def test_what_was_not_sent_in_time_is_missing_in_the_rate():
    found = check([0.1] * 50 + [9000.0] * 50)
    assert found.offered_per_s == 10.0
    assert found.sent_per_s == 5.0  # 9 s after the fifth second is no time of the window
    assert found.void


def test_a_closed_loop_has_no_generator_to_judge():
    recording = Recording((Sample(0, MS, 200),), (), 0, S, 0, "time")
    assert check_generator(recording, timeline(recording, MachineTrace(), None)) is None
    nothing = Recording((), (), 0, S, 0, "time")
    assert check_generator(nothing, None) is None
