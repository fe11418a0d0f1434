"""How many connections fit, and which one goes where there is one too many."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from seatrial.deployment import Limits
from seatrial.serve import open_connections
from seatrial.serve.arrivals import HEAD_ROOM_BYTES, ROOM_BYTES
from seatrial.serve.connection_limit import PROBE_PLACES
from seatrial.serve.metrics import request_metrics
from seatrial.serve.open_connections import Connections, Headers, RefuseNone, Wait


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **given: Any) -> None:
        asyncio.run(test(*args, **given))

    return run


class Recorded:
    """A connection that writes down how it ended."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.ended: str | None = None
        self.waiting: Wait | None = None
        self.unread_bytes = 0
        self.active = False
        self.for_probes = connections.opened(self)

    def expire(self, wait: Wait) -> None:
        self.ended = wait.value
        self.connections.closed(self)

    def end(self) -> None:
        self.ended = "limit"
        self.connections.closed(self)


def connections(most: int, **limits: float) -> Connections:
    return Connections(Limits(**limits), most, request_metrics())  # type: ignore[arg-type]


@on_a_loop
async def test_the_one_that_waited_longest_goes_for_a_new_one() -> None:
    of = connections(3)
    first, second, third = (Recorded(of) for _ in range(3))
    of.works(first)
    fourth = Recorded(of)
    assert [c.ended for c in (first, second, third, fourth)] == [None, "limit", None, None]


@pytest.mark.parametrize("wait", [Wait.IDLE, Wait.ANSWER])
@on_a_loop
async def test_those_that_are_fewer_are_left_alone(wait: Wait) -> None:
    """Silent clients do not take the places of a balancer's connections, nor these of those."""
    of = connections(4)
    other = Recorded(of)
    of.waits(other, wait)
    silent = [Recorded(of) for _ in range(10)]
    assert other.ended is None
    assert [c.ended for c in silent] == ["limit"] * 7 + [None] * 3
    several = connections(4)
    kept = [Recorded(several) for _ in range(4)]
    for one in kept:
        several.waits(one, wait)
    Recorded(several)
    assert [c.ended for c in kept] == ["limit", None, None, None]


@on_a_loop
async def test_answers_that_nobody_takes_are_bounded_together() -> None:
    """Each is as large as it is, and there may be thousands of connections."""
    of = connections(50, bytes_in_flight=100)
    first, second, third, fourth = (Recorded(of) for _ in range(4))

    def leaves(one: Recorded, size: int) -> None:
        one.unread_bytes = size
        of.waits(one, Wait.ANSWER)

    for one in (first, second):
        leaves(one, 40)
    leaves(second, 60)
    second.unread_bytes = 10  # it has read since
    leaves(third, 50)
    assert [c.ended for c in (first, second, third)] == [None, None, None]
    leaves(fourth, 90)  # 190 together
    assert [c.ended for c in (first, second, third, fourth)] == ["limit", "limit", "limit", None]
    leaves(fourth, 1000)  # one answer alone may be longer
    assert fourth.ended is None
    of.works(fourth)
    fifth = Recorded(of)
    leaves(fifth, 100)
    assert fifth.ended is None


@on_a_loop
async def test_those_that_were_refused_go_first() -> None:
    of = connections(3)
    refused, *silent = (Recorded(of) for _ in range(3))
    of.waits(refused, Wait.END)
    Recorded(of)
    assert (refused.ended, *(c.ended for c in silent)) == ("limit", None, None)


@on_a_loop
async def test_where_all_work_probes_have_places_of_their_own() -> None:
    of = connections(2)
    for _ in range(2):
        of.works(Recorded(of))
    assert not of.full
    for _ in range(PROBE_PLACES):
        probe = Recorded(of)
        of.works(probe)
        assert of.full
        assert probe.ended is None
    assert Recorded(of).ended == "limit"
    of.closed(probe)
    assert Recorded(of).ended is None


@on_a_loop
async def test_where_a_request_gives_way_a_new_connection_is_as_others() -> None:
    """Without that it is for probes alone, and beyond their places nobody is let in."""

    class GivesWay(RefuseNone):
        gives = True

        def give_place(self) -> bool:
            return self.gives

    refuse = GivesWay()
    of = Connections(Limits(), 2, request_metrics(), refuse=refuse)
    for _ in range(2 + PROBE_PLACES):
        working = Recorded(of)
        of.works(working)
        assert not working.for_probes
    last = Recorded(of)
    assert (last.ended, last.for_probes) == ("limit", True)
    of.closed(working)
    refuse.gives = False
    probe = Recorded(of)
    assert (probe.ended, probe.for_probes) == (None, True)


@on_a_loop
async def test_connections_to_a_server_beside_count_for_the_limit() -> None:
    beside = [0]
    of = Connections(
        Limits(header_s=60.0), 4, request_metrics(), beside=lambda: beside[0]
    )  # ticks every second
    first, second, third = (Recorded(of) for _ in range(3))
    beside[0] = 1
    assert not of.full
    fourth = Recorded(of)
    assert [c.ended for c in (first, second, third, fourth)] == ["limit", None, None, None]
    beside[0] = 3  # they came later: places are made at the next tick
    while not third.ended:
        await asyncio.sleep(0.005)
    assert (second.ended, third.ended, fourth.ended) == ("limit", "limit", None)
    assert not of.full


@on_a_loop
async def test_each_wait_has_its_time() -> None:
    of = connections(9, header_s=0.02, idle_s=60)
    head, idle = Recorded(of), Recorded(of)
    of.waits(idle, Wait.IDLE)
    while head.ended is None:
        await asyncio.sleep(0.005)
    assert (head.ended, idle.ended) == ("head", None)


@on_a_loop
async def test_one_that_cannot_be_ended_keeps_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Recorded):
        def expire(self, wait: Wait) -> None:
            raise ZeroDivisionError

    of = connections(9, header_s=0.02, idle_s=60)
    Fails(of)
    other = Recorded(of)
    async with asyncio.timeout(60):
        while other.ended is None:
            await asyncio.sleep(0.005)
    assert "ZeroDivisionError" in caplog.text


@on_a_loop
async def test_after_a_refusal_others_are_expected_for_a_while() -> None:
    """Until then little of each request is read: see `seatrial.serve.arrivals.Room`."""

    class RefuseAll(RefuseNone):
        def __call__(self, path: bytes, headers: Headers) -> Any:
            return 503, b""

    of = Connections(Limits(header_s=0.02), 9, request_metrics(), refuse=RefuseAll())
    Recorded(of)
    assert not of.refuses
    assert len(of.room.for_heads) == ROOM_BYTES
    of.refuse(b"/detect", [])
    assert of.refuses
    assert len(of.room.for_heads) == HEAD_ROOM_BYTES
    of._refused_s -= open_connections.REFUSES_S
    for _ in range(4000):
        if not of.refuses:
            break
        await asyncio.sleep(0.005)
    assert not of.refuses
    assert len(of.room.for_heads) == ROOM_BYTES


@on_a_loop
async def test_connections_that_wait_wake_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look is when the first of them has waited too long."""
    looks = 0
    expire = Connections._expire

    def look(self: Connections) -> None:
        nonlocal looks
        looks += 1
        expire(self)

    monkeypatch.setattr(Connections, "_expire", look)
    of = connections(9, header_s=0.4, idle_s=60)
    idle = [Recorded(of) for _ in range(3)]
    for one in idle:
        of.waits(one, Wait.IDLE)
    head = Recorded(of)
    while head.ended is None:
        await asyncio.sleep(0.005)
    assert looks <= 2  # the first was for the heads that came
    refused = idle.pop()
    of.waits(refused, Wait.END)  # for a shorter time than the others
    while refused.ended is None:
        await asyncio.sleep(0.005)
    assert looks <= 3
    assert [one.ended for one in idle] == [None] * 2


@on_a_loop
async def test_a_slow_reader_that_goes_on_is_not_counted_as_closed(
    metric: Callable[..., float],
) -> None:
    class Slow(Recorded):
        times = 0

        def expire(self, wait: Wait) -> None:
            self.times += 1
            if self.times < 3:  # it has read something
                self.connections.waits(self, wait)
            else:
                super().expire(wait)

    before = metric("seatrial_connections_closed_total", reason="answer")
    of = connections(9, header_s=60, idle_s=0.02)
    slow = Slow(of)
    of.waits(slow, Wait.ANSWER)
    async with asyncio.timeout(60):
        while slow.ended is None:
            await asyncio.sleep(0.005)
    assert metric("seatrial_connections_closed_total", reason="answer") == before + 1


@on_a_loop
async def test_who_was_refused_is_not_counted_again_when_its_place_is_needed(
    metric: Callable[..., float],
) -> None:
    before = metric("seatrial_connections_closed_total", reason="limit")
    of = connections(1)
    refused = Recorded(of)
    of.waits(refused, Wait.END)
    other = Recorded(of)
    assert (refused.ended, other.ended) == ("limit", None)
    assert metric("seatrial_connections_closed_total", reason="limit") == before
    Recorded(of)
    assert other.ended == "limit"
    assert metric("seatrial_connections_closed_total", reason="limit") == before + 1
