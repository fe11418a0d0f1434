"""Tickets of requests of which the body tells more than the headers did."""

from __future__ import annotations

from typing import Any

import pytest

from seatrial.errors import Overloaded
from seatrial.serve.asked import Asked

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
            with pytest.raises(Overloaded, match="take 268534456 bytes already") as refused:
                second.arrived(limit)
            assert refused.value.reason == "bytes"
    finally:
        dispatcher.on_bytes = count
    assert changes == [1000, 1000, 99_000, -1000, limit - 1000, -limit, -99_000]


def test_a_body_that_is_longer_than_guessed_is_foretold_anew(running: Running) -> None:
    dispatcher = running.service.dispatcher
    forecast = dispatcher.forecast
    backlog_s = forecast._backlog_s
    with dispatcher.admit(Asked(1000, 5.0)) as ticket, dispatcher.admit(Asked(1000, 5.0)):
        before = ticket.promise
        ticket.arrived(2000)
        assert ticket.promise is not before
        assert not before.counted
        assert ticket.promise.counted
        same = ticket.promise
        ticket.arrived(1999)
        assert ticket.promise is same
    assert forecast._backlog_s == pytest.approx(backlog_s)
