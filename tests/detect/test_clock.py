"""The clock of a request: no moment is lost, none is counted twice."""

from __future__ import annotations

import pytest

from seatrial.detect import clock as module
from seatrial.detect.clock import REQUEST_STAGES, STAGES, Clock


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the clock reads next, seconds."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_each_moment_belongs_to_one_stage(at: list[float]) -> None:
    clock = Clock()
    for seconds, stage in ((0.5, "receive"), (0.25, "queue"), (1.0, "decode"), (0.125, "queue")):
        at[0] += seconds
        clock.lap(stage)
    assert clock.stages_ms == {"receive": 500.0, "queue": 375.0, "decode": 1000.0}
    timing_ms = clock.timing_ms()
    assert timing_ms == {"receive": 500.0, "decode": 1000.0, "queue": 375.0, "total": 1875.0}
    assert list(timing_ms) == ["receive", "decode", "queue", "total"]  # in the order of the path
    at[0] += 1
    assert clock.timing_ms() == timing_ms  # what has not ended is no stage yet


def test_a_clock_counts_from_before_it_was_made(at: list[float]) -> None:
    clock = Clock()
    at[0] += 0.25
    clock.began(99.5, "admission")
    at[0] += 0.5
    clock.lap("receive")
    assert clock.timing_ms() == {"admission": 750.0, "receive": 500.0, "total": 1250.0}
    assert (clock.start, clock.end) == (99.5, 100.75)
    assert clock.laps == [("admission", 100.25), ("receive", 100.75)]


def test_stages_of_the_detector_lie_between_those_of_the_service() -> None:
    assert ("admission", "receive", *STAGES, "encode") == REQUEST_STAGES
