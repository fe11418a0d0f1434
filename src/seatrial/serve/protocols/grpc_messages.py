"""Reading the messages of gRPC calls: in time, and few at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError

from seatrial.errors import InputTooLarge, InputTooSlow, InvalidInput
from seatrial.serve.bodies_to_come import GIVES_WAY_S

MOST_WAITING = 64  # calls that wait for a place


class Reception:
    """Reads messages, a number of them at a time.

    A message has no declared length, and nothing tells how much of it is here. So what arrives at
    once is bounded by the number of messages: while a call has no place, gRPC's flow control holds
    its sender up after 64 KiB.

    Calls that send nothing could hold all places. So the newest call has the next place, and where
    calls wait, the one that has read for longest gives its place up after a while.

    Args:
        places: Number of messages that may arrive at the same time.
        limit_bytes: Longest message.
        waiting: Number of calls that may wait for a place; the oldest ends for one more.
        gives_way_s: After which a call gives its place up, where others wait for one.
    """

    def __init__(
        self,
        places: int,
        limit_bytes: int,
        waiting: int = MOST_WAITING,
        gives_way_s: float = GIVES_WAY_S,
    ) -> None:
        self._free = places
        self._limit_bytes = limit_bytes
        self._most_waiting = waiting
        self._gives_way_s = gives_way_s
        # Since when they read; and who has a place when the future is done. The oldest first.
        self._reading: dict[asyncio.Timeout, float] = {}
        self._waiting: dict[asyncio.Timeout, asyncio.Future[None]] = {}
        self._look: asyncio.TimerHandle | None = None

    async def read(self, messages: AsyncIterator[bytes], within_s: float) -> bytes:
        """The message of a call, not parsed.

        Args:
            messages: The messages of the call.
            within_s: Longest time for it to arrive, seconds.

        Raises:
            InputTooSlow: It was not here by then.
            InputTooLarge: It is over the limit.
        """
        message = await self._next(messages, within_s)
        if message is None:  # gRPC itself has ended the call where the message was too long
            raise InputTooLarge(
                f"the call has no message, or one over the limit of {self._limit_bytes} bytes",
                hint="send a smaller file, or raise limits.body_bytes",
            )
        return message

    async def read_all(
        self, messages: AsyncIterator[bytes], kind: Any, within_s: float
    ) -> AsyncIterator[Any]:
        """The messages of a call, parsed, each as soon as it is here.

        Args:
            messages: The messages of the call.
            kind: Their class.
            within_s: Longest time for each to arrive, seconds.

        Raises:
            InputTooSlow: See `read`.
            InputTooLarge: See `read`.
        """
        while (message := await self._next(messages, within_s)) is not None:
            yield parse(kind, message)

    async def next(self, messages: AsyncIterator[bytes]) -> bytes | None:
        """The next message of a call that keeps a place (`place`), whenever it comes.

        Args:
            messages: The messages of the call.

        Returns:
            The message, not parsed; None after the last one.

        Raises:
            InputTooLarge: It is over the limit.
        """
        message = await anext(messages, None)
        if message is not None and len(message) > self._limit_bytes:
            raise InputTooLarge(
                f"the message has {len(message)} bytes, and at most {self._limit_bytes} are taken",
                hint="send a smaller file, or raise limits.body_bytes",
            )
        return message

    @contextlib.asynccontextmanager
    async def place(self, within_s: float) -> AsyncIterator[None]:
        """A place that is kept as long as the block lasts, and not given up to others.

        Args:
            within_s: Longest wait for one, seconds.

        Raises:
            InputTooSlow: Messages of others took all places for that long.
        """
        try:
            async with asyncio.timeout(within_s) as patience:
                await self._take_place(patience)
        except TimeoutError as error:
            raise InputTooSlow(
                f"messages of other calls were arriving for {within_s:g} s", hint="try again"
            ) from error
        self._reading.pop(patience, None)
        try:
            yield
        finally:
            self._give_place()

    async def _next(self, messages: AsyncIterator[bytes], within_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(within_s) as patience:
                await self._take_place(patience)
                try:
                    return await self.next(messages)
                finally:
                    self._reading.pop(patience, None)
                    self._give_place()
        except TimeoutError as error:
            raise InputTooSlow(
                f"the message was not here after {within_s:g} s, or when others needed its place",
                hint="send a smaller one, or raise limits.body_s",
            ) from error

    async def _take_place(self, patience: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            turn = self._waiting[patience] = loop.create_future()
            if len(self._waiting) > self._most_waiting:
                _end(self._waiting, loop)
            self._hurry()
            try:
                await turn
            except asyncio.CancelledError:
                if self._waiting.pop(patience, None) is None and not turn.cancelled():
                    self._give_place()  # it came too late
                raise
        self._reading[patience] = loop.time()

    def _give_place(self) -> None:
        while self._waiting:
            _, turn = self._waiting.popitem()
            if not turn.done():  # or else its call has just been given up
                turn.set_result(None)
                self._hurry()
                return
        self._free += 1

    def _hurry(self) -> None:
        """End the call that has read for longest, now or when its time is over."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if not (self._waiting and self._reading):
            return
        loop = asyncio.get_running_loop()
        over = next(iter(self._reading.values())) + self._gives_way_s
        if over > loop.time():
            self._look = loop.call_at(over, self._hurry)
        else:
            _end(self._reading, loop)


def _end(calls: dict[asyncio.Timeout, Any], loop: asyncio.AbstractEventLoop) -> None:
    """End the oldest of some calls."""
    oldest = next(iter(calls))
    del calls[oldest]
    oldest.reschedule(loop.time())


def parse(kind: Any, data: bytes) -> Any:
    """A message of a kind from its bytes.

    Raises:
        InvalidInput: They are not such a message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidInput(f"the message is no {kind.DESCRIPTOR.name}: {error}") from error
