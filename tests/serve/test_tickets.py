"""Tickets of requests of which the body tells more than the headers did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from seatrial.deployment import Thresholds
from seatrial.detect.decode_cost import DecodeCost
from seatrial.engines.places import Place
from seatrial.errors import DeadlineExceeded, Overloaded
from seatrial.serve.admission import Dispatcher
from seatrial.serve.asked import Asked
from seatrial.serve.forecast import Forecast

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def test_a_body_of_which_the_length_was_guessed_counts_as_long_as_it_is(running: Running) -> None:
    dispatcher = running.service.dispatcher
    limit = dispatcher.limits.bytes_in_flight
    changes: list[int] = []
    count, dispatcher.on_bytes = dispatcher.on_bytes, changes.append
    try:
        with dispatcher.admit(Asked(1000)) as first, dispatcher.admit(Asked(1000)) as second:
            first.arrived(100_000)
            assert (first.held_bytes, first.promise.kind) == (100_000, 17)
            first.arrived(99_000)
            with pytest.raises(Overloaded, match="takes 268534456 bytes already") as refused:
                second.arrived(limit)
            assert refused.value.reason == "bytes"
    finally:
        dispatcher.on_bytes = count
    assert changes == [1000, 1000, 99_000, -1000, limit - 1000, -limit, -99_000]


@pytest.mark.parametrize("most_bytes", [None, 900_000])
def test_a_batch_request_that_gives_bytes_back_is_not_refused_for_those_of_others(
    open_dispatcher: Callable[..., Dispatcher], most_bytes: int | None
) -> None:
    """It may have half of the bytes where it comes; live requests that came behind it have more."""
    dispatcher = open_dispatcher(bytes_in_flight=1_000_000, body_bytes=400_000)
    asked = Asked(None, batch=True, most_bytes=most_bytes)
    with (
        dispatcher.admit(asked) as batch,
        dispatcher.admit(Asked(390_000)),
        dispatcher.admit(Asked(200_000)),
    ):
        batch.measured(asked, 400_000)  # as long as it was thought
        batch.measured(asked, 187_923)
        assert dispatcher._held_bytes == 187_923 + 590_000
        with pytest.raises(Overloaded):
            batch.arrived(187_924)


def test_a_body_that_is_longer_than_guessed_is_foretold_anew(running: Running) -> None:
    dispatcher = running.service.dispatcher
    forecast = dispatcher.forecast
    backlog_s = sum(forecast._backlog_s)
    with dispatcher.admit(Asked(1000, 5.0)) as ticket, dispatcher.admit(Asked(1000, 5.0)):
        before = ticket.promise
        ticket.arrived(2000)
        assert ticket.promise is not before
        assert not before.counted
        assert ticket.promise.counted
        same = ticket.promise
        ticket.arrived(1999)
        assert ticket.promise is same
    assert sum(forecast._backlog_s) == pytest.approx(backlog_s)


def test_an_image_is_weighed_and_takes_memory_until_it_is_kept_no_more(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher(deadline_s=3000)
    memory = dispatcher.memory
    with dispatcher.admit() as ticket, dispatcher.admit():
        ticket.weigh(DecodeCost(cpu_s=0.25, peak_bytes=5000))
        assert (ticket.bound_s, memory.held_bytes) == (0.25, 5000)
        assert set(ticket.clock.stages_ms) == {"decode", "queue"}
        ticket.keep(300)
        assert memory.held_bytes == 300
        ticket.keep(0)
        assert memory.held_bytes == 0


def test_an_image_that_the_forecast_makes_late_is_refused_where_others_wait(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher(deadline_s=10)
    dispatcher.forecast = Forecast(1, 20.0)  # one lane, 20 s each
    cost = DecodeCost(cpu_s=0.001, peak_bytes=5000)
    with dispatcher.admit() as ticket:
        ticket.ready()
        ticket.weigh(cost)  # alone: a forecast that is wrong would stay so
        with Place(dispatcher.detector.lanes), pytest.raises(Overloaded) as refused:
            ticket.weigh(cost)
    assert refused.value.reason == "deadline"


async def never() -> Any:
    await asyncio.Event().wait()


def test_a_deadline_of_its_own_counts_from_the_headers(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    dispatcher = open_dispatcher(deadline_s=1)
    ran: list[object] = []

    async def late() -> None:
        with dispatcher.admit(Asked(deadline_s=3000)) as ticket:
            assert 2999 < ticket.remaining_s() <= 3000
            ticket._deadline = 0.0  # the body took its time
            await dispatcher.run(ticket, photo, Thresholds(), ran.append, never)

    with pytest.raises(DeadlineExceeded, match="not answered within 3000 s"):
        asyncio.run(late())
    dispatcher.close()
    assert ran == []
    assert dispatcher.detector.lanes.present == 0


def test_a_deadline_that_the_body_names_counts_from_the_headers(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher()
    with dispatcher.admit() as ticket:
        ticket._arrived -= 10.0  # the body took its time
        ticket.ask(Asked(deadline_s=50.0))
        assert 39 < ticket.remaining_s() <= 40
        assert ticket.deadline_s == 50
        with pytest.raises(DeadlineExceeded, match="within 5 s"):
            ticket.ask(Asked(deadline_s=5.0))


def test_the_deadline_of_the_deployment_counts_from_the_end_of_the_body(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    """A slow line is no fault of the service; the body has a limit of its own."""
    dispatcher = open_dispatcher(deadline_s=3000, body_s=20)
    with dispatcher.admit() as ticket:
        assert ticket.body_s == 20
        assert 3019 < ticket.remaining_s() <= 3020
        ticket._deadline = 0.0
        ticket.ready()
        assert 2999 < ticket.remaining_s() <= 3000
        assert "within 3000 s" in ticket.too_late().message


@pytest.mark.parametrize("named_s", [3000.0, None])
def test_a_ticket_of_another_service_goes_on_with_the_deadline_that_was_named(
    open_dispatcher: Callable[..., Dispatcher], named_s: float | None
) -> None:
    """An error names the deadline as the request did, not what is left of it."""
    first, second = open_dispatcher(deadline_s=2000), open_dispatcher(deadline_s=4000)
    with first.admit(Asked(1000, named_s)) as before:
        before._deadline -= 1000.0  # the body took its time
        before.ready()
        with second.admit_from(before, 1000) as after:
            after.ready()
            assert f"within {named_s or 4000:g} s" in after.too_late().message
            assert after.remaining_s() == pytest.approx(2000 if named_s else 4000, abs=60)


def test_a_body_may_not_take_longer_than_its_request(
    open_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = open_dispatcher(body_s=20)
    for asked_s, body_s in ((3.0, 3.0), (30.0, 20.0), (None, 20.0)):
        with dispatcher.admit(Asked(deadline_s=asked_s)) as ticket:
            assert ticket.body_s == body_s
