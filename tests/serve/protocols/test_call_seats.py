"""Places of calls that last, by a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from seatrial.errors import Overloaded
from seatrial.serve.protocols.call_seats import Seat, Seats

pytestmark = pytest.mark.usefixtures("time_limit")
IDLE_S, UNUSED_S = 1.0, 0.25


class Calls:
    """Calls that have places until they are told to end."""

    def __init__(self, most: int, *, shared: bool = False) -> None:
        self.now_s = 0.0
        self.shared = shared
        self.seats = Seats(
            most, "calls", "call less",
            idle_s=lambda: IDLE_S, unused_s=lambda: UNUSED_S, clock=lambda: self.now_s,
        )  # fmt: skip
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, peer: str = "a") -> Seat:
        """One more call, which has its place.

        Raises:
            Overloaded: It has none.
        """
        found: list[Seat] = []

        async def stay() -> None:
            async with self.seats.take(peer, shared=self.shared) as seat:
                found.append(seat)
                await asyncio.Event().wait()

        task = asyncio.create_task(stay())
        await asyncio.sleep(0)
        if not found:
            await task
        self.tasks.append(task)
        return found[0]

    async def ended(self) -> list[int]:
        """Indices of the calls that were told to end."""
        for _ in range(10):
            await asyncio.sleep(0)
        return [index for index, one in enumerate(self.tasks) if one.done()]


def run(test: Callable[[Calls], Coroutine[Any, Any, None]], calls: Calls) -> None:
    async def ran() -> None:
        try:
            await test(calls)
        finally:
            for one in calls.tasks:
                one.cancel()
            await asyncio.gather(*calls.tasks, return_exceptions=True)

    asyncio.run(ran())


def test_who_was_not_used_for_longest_gives_way() -> None:
    async def test(calls: Calls) -> None:
        seats = [await calls.begin() for _ in range(3)]
        calls.now_s = 1.0
        for one in (seats[2], seats[0]):
            calls.seats.use(one)
        await calls.begin()  # for the second, which did nothing yet
        assert await calls.ended() == [1]
        with pytest.raises(Overloaded, match=r"nothing was done here for 1\.0 s, and other calls"):
            await calls.tasks[1]
        with pytest.raises(Overloaded, match="3 calls are open already"):
            await calls.begin()
        calls.now_s = 2.5
        seats[2].busy = lambda: True
        await calls.begin()  # the first, since the third has work
        assert await calls.ended() == [0, 1]

    run(test, Calls(3))


def test_none_gives_way_that_has_work() -> None:
    async def test(calls: Calls) -> None:
        seat = await calls.begin()
        seat.busy = lambda: True
        calls.now_s = 1e6
        with pytest.raises(Overloaded, match="1 calls are open already"):
            await calls.begin()
        assert await calls.ended() == []

    run(test, Calls(1))


def test_a_connection_with_many_places_gives_one_up_at_once() -> None:
    async def test(calls: Calls) -> None:
        await calls.begin("b")
        for _ in range(3):
            await calls.begin("a")
        await calls.begin("b")
        assert await calls.ended() == [1]
        with pytest.raises(Overloaded):  # as many each
            await calls.begin("b")
        with pytest.raises(Overloaded):
            await calls.begin("a")
        calls.now_s = 1.0
        await calls.begin("c")  # the oldest of those with most
        assert await calls.ended() == [0, 1]

    run(test, Calls(4, shared=True))


@pytest.mark.parametrize("peer", ["a", "b"])
def test_a_connection_with_one_place_more_keeps_it(peer: str) -> None:
    """Or two connections would end the calls of each other in turn."""

    async def test(calls: Calls) -> None:
        for one in "aab":
            await calls.begin(one)
        with pytest.raises(Overloaded, match="3 calls are open already"):
            await calls.begin(peer)
        assert await calls.ended() == []

    run(test, Calls(3, shared=True))


def test_an_error_of_the_call_is_its_own() -> None:
    async def test(calls: Calls) -> None:
        with pytest.raises(TimeoutError):
            async with calls.seats.take("a"):
                raise TimeoutError
        await calls.begin()

    run(test, Calls(1))
