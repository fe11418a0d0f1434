"""No image is decoded past the deadline of its request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Thresholds
from seatrial.detect import decode as decode_module
from seatrial.detect.decode_cost import DecodeCost
from seatrial.detect.opening import open_detector
from seatrial.errors import DeadlineExceeded, InvalidImage, Overloaded
from seatrial.serve.admission import Dispatcher
from seatrial.serve.asked import Asked
from seatrial.serve.forecast import Forecast, Took
from seatrial.serve.tickets import Admitted

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def dispatcher(tiny_artifact: Artifact) -> Iterator[Dispatcher]:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    made = Dispatcher(open_detector(tiny_artifact, deployment), Limits(deadline_s=1.0))
    yield made
    made.close()


async def never() -> Any:
    await asyncio.Event().wait()


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[str]]:
    """JPEGs take at most so many seconds, by their headers; the list tells what was decoded."""
    decoded: list[str] = []

    def make(cpu_s: float) -> list[str]:
        pixels = decode_module._jpeg_pixels
        real = decode_module.read_jpeg

        def read(data: Any) -> Any:
            jpeg = real(data)
            cost = DecodeCost(cpu_s, jpeg.cost.peak_bytes)
            return msgspec.structs.replace(jpeg, cost=cost)

        def noted(*args: Any, **options: Any) -> Any:
            decoded.append("decoded")
            return pixels(*args, **options)

        monkeypatch.setattr(decode_module, "read_jpeg", read)
        monkeypatch.setattr(decode_module, "_jpeg_pixels", noted)
        return decoded

    return make


def detect(dispatcher: Dispatcher, photo: bytes, asked: Asked) -> Any:
    async def request() -> Any:
        with dispatcher.admit(asked) as ticket:
            return await dispatcher.run(ticket, photo, Thresholds(), lambda found: found, never)

    return asyncio.run(request())


def test_what_takes_longer_than_any_request_has_is_no_image_for_this_service(
    dispatcher: Dispatcher, costly: Callable[[float], list[str]], photo: bytes
) -> None:
    decoded = costly(1.2)  # within the limit of the pixels, 1.25 s, and over the deadline
    with pytest.raises(InvalidImage, match="up to 1200 ms to decode, and a request has 1000 ms"):
        detect(dispatcher, photo, Asked())
    assert decoded == []
    assert dispatcher.memory.held_bytes == 0
    detect(dispatcher, photo, Asked(deadline_s=30.0))
    assert decoded == ["decoded"]


def test_what_takes_longer_than_the_time_that_is_left_is_refused_undecoded(
    dispatcher: Dispatcher, costly: Callable[[float], list[str]], photo: bytes
) -> None:
    """Its own deadline is short, or it has waited: another time there may be room."""
    decoded = costly(0.8)
    with pytest.raises(Overloaded, match=r"answered after another 0\.8 s") as refusal:
        detect(dispatcher, photo, Asked(deadline_s=0.5))
    assert refusal.value.reason == "deadline"
    assert decoded == []
    assert dispatcher.memory.held_bytes == 0


def test_what_would_be_decoded_and_not_answered_in_time_is_refused_in_company(
    dispatcher: Dispatcher,
) -> None:
    forecast = dispatcher.forecast
    forecast._rest_s = 25.0  # seconds of the engine
    with dispatcher.admit(Asked(deadline_s=20.0)) as ticket:
        ticket.weigh(DecodeCost(0.1, 1))  # alone: how else would a wrong forecast be mended
        with (
            dispatcher.admit(Asked(deadline_s=3000.0, batch=True)),
            pytest.raises(Overloaded, match="answered after another 25 s"),
        ):
            ticket.weigh(DecodeCost(0.1, 1))


@pytest.mark.parametrize(
    ("answered", "batch", "together", "refused"),
    [
        (True, False, False, True),
        (False, False, False, False),
        (True, True, False, False),
        (True, False, True, False),
    ],
    ids=["beside others", "no others", "of a batch", "of one request"],
)
def test_large_images_are_decoded_one_after_the_other_beside_others(
    dispatcher: Dispatcher, answered: bool, batch: bool, together: bool, refused: bool
) -> None:
    large = DecodeCost(0.8, 1)
    if answered:
        dispatcher.forecast.ended(dispatcher.forecast.promise(1000), 0.01)
    asked = Asked(deadline_s=60.0, batch=batch)
    with dispatcher.admit() as first, dispatcher.admit(asked) as second:
        first.ready()
        second.ready()
        second.one_of_several = together
        first.weigh(large)
        second.weigh(DecodeCost(0.01, 1))
        with pytest.raises(Overloaded, match="s beside others") if refused else nullcontext():
            second.weigh(large)
    with dispatcher.admit() as third:
        third.ready()
        third.weigh(large)


def test_what_was_decoded_too_late_is_told_to_the_forecast(
    dispatcher: Dispatcher,
    costly: Callable[[float], list[str]],
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = costly(0.9)
    before = dispatcher.forecast.pace

    def check(ticket: Admitted) -> None:
        if decoded:
            raise ticket.too_late()

    monkeypatch.setattr(Admitted, "check", check)
    with pytest.raises(DeadlineExceeded):
        detect(dispatcher, photo, Asked(deadline_s=3000.0))
    assert dispatcher.forecast.pace < 0.5 * before  # it took less than its header says


def test_where_decoding_takes_longer_than_its_bound_the_bound_is_longer(
    dispatcher: Dispatcher,
) -> None:
    forecast = dispatcher.forecast
    for _ in range(200):  # a neighbour has the core for three quarters of the time
        with dispatcher.admit(Asked(deadline_s=3000.0)) as ticket:
            ticket.took = Took(0.5, 0.5, 0.4, 0.1)
    assert forecast.pace == pytest.approx(4.0, rel=0.01)
    with dispatcher.admit() as ticket:
        ticket.ready()
        with pytest.raises(InvalidImage, match="up to 1200 ms"):
            ticket.weigh(DecodeCost(0.3, 1))


def test_the_header_changes_what_is_foretold(dispatcher: Dispatcher) -> None:
    """The bytes of a file tell little of its pixels."""
    forecast = dispatcher.forecast = Forecast(1, 0.04)
    with dispatcher.admit(Asked(body_bytes=2000, deadline_s=3000.0)) as ticket:
        assert ticket.promise.work_s == 0.04
        ticket.weigh(DecodeCost(0.8, 1))
        assert ticket.promise.work_s == pytest.approx(0.44)  # half of the bound, at first
        assert sum(forecast._backlog_s) == pytest.approx(0.44)
        assert ticket.promise.finish_s == pytest.approx(0.44)
    assert sum(forecast._backlog_s) == pytest.approx(0.0, abs=1e-9)
