"""Whether the client of a request is still there."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from seatrial.serve.asked import WATCHED_AFTER_S, watched

pytestmark = pytest.mark.usefixtures("time_limit")


def test_a_client_that_goes_ends_the_wait_for_it() -> None:
    went = asyncio.Event()

    async def receive() -> Any:
        await went.wait()
        return {"type": "http.disconnect"}

    async def request() -> Any:
        with watched(receive) as gone:
            asyncio.get_running_loop().call_later(2 * WATCHED_AFTER_S, went.set)
            return await gone

    assert asyncio.run(request()) == {"type": "http.disconnect"}


def test_a_request_that_is_answered_soon_never_looks() -> None:
    looked: list[None] = []

    async def receive() -> Any:
        looked.append(None)
        return {"type": "http.disconnect"}

    async def request() -> None:
        with watched(receive) as gone:
            await asyncio.sleep(0)
        await asyncio.sleep(4 * WATCHED_AFTER_S)
        assert gone.cancelled()

    asyncio.run(request())
    assert looked == []


@pytest.mark.parametrize("asks", [True, False])
def test_a_channel_that_fails_ends_the_wait_and_warns_of_nothing(asks: bool) -> None:
    warned: list[Any] = []

    async def receive() -> Any:
        raise ConnectionResetError("gone")

    async def request() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: warned.append(context))
        with watched(receive) as gone:
            ended = asyncio.Event()
            gone.add_done_callback(lambda _: ended.set())
            await ended.wait()
            if asks:
                with pytest.raises(ConnectionResetError):
                    await gone
        del gone
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(request())
    assert warned == []


def test_nothing_waits_for_the_client_once_the_request_has_ended() -> None:
    waits = asyncio.Event()

    async def receive() -> Any:
        waits.set()
        await asyncio.Event().wait()

    async def request() -> None:
        with watched(receive) as gone:
            await waits.wait()
        await asyncio.sleep(0)
        assert gone.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(request())
