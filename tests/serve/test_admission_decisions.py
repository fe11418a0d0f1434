"""What is let in and what is refused: decisions that need no server and no body."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Thresholds
from seatrial.detect.detector import Ticket
from seatrial.detect.opening import open_detector
from seatrial.errors import Overloaded
from seatrial.serve.admission import Dispatcher
from seatrial.serve.asked import Asked
from seatrial.serve.forecast import Forecast

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.mark.parametrize(
    ("lane_s", "max_batch", "limit_s", "deadline_s"),
    [(0.02, 1, None, 1.0), (0.1, 1, None, 1.0), (0.3, 1, None, 3.0), (0.3, 1, 0.5, 0.5),
     (0.3, 3, None, 3.0), (0.3, 4, None, 3.6), (0.31, 4, None, 3.8), (0.3, 4, 0.5, 0.5)],
)  # fmt: skip
def test_the_deadline_follows_from_the_time_of_one_image_or_of_full_runs(
    tiny_artifact: Artifact,
    lane_s: float,
    max_batch: int,
    limit_s: float | None,
    deadline_s: float,
) -> None:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    detector = open_detector(tiny_artifact, deployment)
    detector.lane_s, detector.lanes.max_batch = lane_s, max_batch
    dispatcher = Dispatcher(detector, Limits(deadline_s=limit_s))
    assert dispatcher.deadline_s == pytest.approx(deadline_s)
    dispatcher.close()


def test_what_would_be_too_late_is_refused_with_its_wait(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher(deadline_s=3000)
    dispatcher.forecast = Forecast(1, 10.0)  # one lane, 10 s each
    hurried = Asked(deadline_s=15.0)
    with dispatcher.admit(hurried), pytest.raises(Overloaded) as refusal:
        dispatcher.admit(hurried)
    assert refusal.value.reason == "deadline"
    assert refusal.value.wait_s == pytest.approx(20.0, rel=0.01)
    assert "answered within 30 s, and this one has 15 s" in refusal.value.message
    with dispatcher.admit(hurried):  # nobody is there any more
        # Of a short queue, a quarter more than what was foretold is enough to be let in.
        with pytest.raises(Overloaded, match="within 30 s, and this one has 24 s"):
            dispatcher.admit(Asked(deadline_s=24.0))
        dispatcher.admit(Asked(deadline_s=26.0))


def test_bodies_in_flight_are_bounded(open_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = open_dispatcher(bytes_in_flight=1000, body_bytes=600, deadline_s=3000)
    with dispatcher.admit(Asked(body_bytes=600)):
        with dispatcher.admit(Asked(body_bytes=400)):
            with pytest.raises(Overloaded, match="take 1000 bytes already") as refusal:
                dispatcher.admit(Asked(body_bytes=1))
            assert refusal.value.reason == "bytes"
        for unknown in (None, 10**9):  # as long as a body may be
            with pytest.raises(Overloaded, match="takes 600 bytes already"):
                dispatcher.admit(Asked(body_bytes=unknown))
        dispatcher.admit(Asked(body_bytes=400))
    with dispatcher.admit(Asked(body_bytes=600)):  # what ended, counts no more
        pass
    small = open_dispatcher(bytes_in_flight=100, body_bytes=600)
    with small.admit(Asked(body_bytes=600)) as alone:  # or it would be refused for ever
        alone.arrived(600)


def test_the_limit_is_exact(open_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = open_dispatcher(queue=2, deadline_s=3000)
    with dispatcher.admit() as first, dispatcher.admit() as second:
        assert isinstance(first, Ticket)
        assert first is not second
        with pytest.raises(Overloaded, match="2 requests wait or run already"):
            dispatcher.admit()
    dispatcher.admit()


def test_what_would_be_answered_at_its_deadline_is_let_in(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher(deadline_s=3000)
    with dispatcher.admit():
        promise = dispatcher.forecast.promise(0)
        late_s = dispatcher.forecast.late_s(promise)
        dispatcher.check_deadline(promise, late_s)
        with pytest.raises(Overloaded):
            dispatcher.check_deadline(promise, math.nextafter(late_s, 0))


def test_a_refusal_says_in_what_time_nearly_all_are_answered(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    """Of a short queue that is later than what decides: more are let in than are sure."""
    dispatcher = open_dispatcher(deadline_s=3000)
    forecast = dispatcher.forecast
    with dispatcher.admit():
        promise = forecast.promise(0)
        forecast._spread_s[False] = 2 * promise.finish_s
        assert promise.short
        assert forecast.late_s(promise) == pytest.approx(1.25 * promise.finish_s)
        said = f"19 of 20 such requests are answered within {3 * promise.finish_s:.2g} s, and"
        with pytest.raises(Overloaded, match=said):
            dispatcher.check_deadline(promise, 1.2 * promise.finish_s)


def test_bytes_are_counted_from_admission_to_the_end(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher, changes = open_dispatcher(), list[int]()
    dispatcher.on_bytes = changes.append
    with dispatcher.admit(Asked(body_bytes=600)):
        assert changes == [600]
    assert changes == [600, -600]


def test_what_is_detected_is_told_with_its_image_and_its_thresholds(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    """A canary compares by it."""
    dispatcher, told, options = open_dispatcher(), list[Any](), Thresholds(confidence=0.4)
    dispatcher.on_detected = lambda *what: told.append(what)
    with dispatcher.admit() as ticket:
        found = dispatcher.detect(ticket, photo, options)
    ((data, used, answered),) = told
    assert (data, used) == (photo, options)
    assert answered is found
