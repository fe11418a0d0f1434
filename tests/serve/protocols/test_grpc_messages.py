"""Messages are read in time, few at once, and never over the limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from seatrial.client.inference_messages import message
from seatrial.errors import InputTooLarge, InputTooSlow, InvalidInput
from seatrial.serve.protocols.grpc_messages import Reception, parse


async def sent(*messages: bytes) -> AsyncIterator[bytes]:
    for one in messages:
        yield one


async def silent() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def test_a_message_is_read_and_no_other() -> None:
    async def read() -> None:
        messages = sent(b"one", b"two")
        assert await Reception(1, 10).read(messages, 5.0) == b"one"
        assert await anext(messages) == b"two"

    asyncio.run(read())


@pytest.mark.parametrize(
    ("messages", "error", "text"),
    [
        (sent(b"x" * 11), InputTooLarge, "has 11 bytes, and at most 10"),
        (sent(), InputTooLarge, "no message, or one over the limit of 10 bytes"),
        (silent(), InputTooSlow, "not here after 0.01 s"),
    ],
)
def test_what_is_wrong_with_a_message(
    messages: AsyncIterator[bytes], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        asyncio.run(Reception(1, 10).read(messages, 0.01))


def test_no_more_arrive_at_once_than_there_are_places() -> None:
    async def read() -> None:
        reception = Reception(2, 10, gives_way_s=60.0)
        begun = []

        async def slow(name: int, end: asyncio.Event) -> AsyncIterator[bytes]:
            begun.append(name)
            await end.wait()
            yield b"x"

        ends = [asyncio.Event() for _ in range(3)]
        reading = [
            asyncio.create_task(reception.read(slow(name, end), 60.0))
            for name, end in enumerate(ends)
        ]
        while len(begun) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert begun == [0, 1]
        ends[1].set()
        await reading[1]
        while len(begun) < 3:
            await asyncio.sleep(0)
        for one in ends:
            one.set()
        assert await asyncio.gather(*reading) == [b"x"] * 3

    asyncio.run(read())


async def heard(event: asyncio.Event) -> AsyncIterator[bytes]:
    event.set()
    await asyncio.Event().wait()
    yield b""


def test_who_sends_nothing_gives_way_and_the_newest_call_comes_first() -> None:
    async def read() -> None:
        reception = Reception(1, 10, gives_way_s=0.02)
        begun = [asyncio.Event() for _ in range(5)]
        nothing = [asyncio.create_task(reception.read(heard(one), 60.0)) for one in begun]
        await begun[0].wait()
        assert await reception.read(sent(b"here"), 60.0) == b"here"
        with pytest.raises(InputTooSlow, match="others needed its place"):
            await nothing[0]
        await begun[4].wait()
        assert not any(one.is_set() for one in begun[1:4])
        for one in nothing[1:]:
            one.cancel()
        await asyncio.gather(*nothing, return_exceptions=True)
        assert await reception.read(sent(b"x"), 60.0) == b"x"  # no place is lost

    asyncio.run(read())


def test_where_nobody_waits_a_slow_message_is_waited_for() -> None:
    async def late() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.1)
        yield b"x"

    assert asyncio.run(Reception(1, 10, gives_way_s=0.01).read(late(), 60.0)) == b"x"


def test_only_so_many_calls_wait() -> None:
    async def read() -> None:
        reception = Reception(1, 10, waiting=2, gives_way_s=60.0)
        calls = [asyncio.create_task(reception.read(silent(), 60.0)) for _ in range(4)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert done == {calls[1]}  # the first reads, and this one waited longest
        assert isinstance(calls[1].exception(), InputTooSlow)
        for one in calls:
            one.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await reception.read(sent(b"x"), 60.0) == b"x"

    asyncio.run(read())


def test_a_place_can_be_kept() -> None:
    async def read() -> None:
        reception = Reception(1, 10)
        messages = sent(b"one", b"two", b"x" * 11)
        async with reception.place(5.0):
            assert await reception.next(messages) == b"one"
            assert await reception.next(messages) == b"two"
            with pytest.raises(InputTooLarge, match="has 11 bytes"):
                await reception.next(messages)
            assert await reception.next(messages) is None
            with pytest.raises(InputTooSlow):
                await reception.read(sent(b"one"), 0.01)
            with pytest.raises(InputTooSlow, match=r"were arriving for 0.01 s"):
                async with reception.place(0.01):
                    pass
        assert await reception.read(sent(b"one"), 5.0) == b"one"

    asyncio.run(read())


def test_all_messages_of_a_call_are_parsed() -> None:
    kind = message("ModelReadyRequest")

    async def read() -> list[str]:
        made = [kind(name=name).SerializeToString() for name in ("a", "b")]
        return [one.name async for one in Reception(1, 10).read_all(sent(*made), kind, 5.0)]

    assert asyncio.run(read()) == ["a", "b"]


def test_garbage_is_named_by_the_message_that_it_is_not() -> None:
    with pytest.raises(InvalidInput, match="no ModelReadyRequest"):
        parse(message("ModelReadyRequest"), b"\xff")
