"""Reading the messages of gRPC calls: in time, and few at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.message import DecodeError

from seatrial.errors import InputTooLarge, InputTooSlow, InvalidInput


class Reception:
    """Reads messages, a number of them at a time.

    A message has no declared length, and nothing tells how much of it is here. So what arrives at
    once is bounded by the number of messages: while a call has no place, gRPC's flow control holds
    its sender up after 64 KiB.

    Args:
        places: Number of messages that may arrive at the same time.
        limit_bytes: Longest message.
    """

    def __init__(self, places: int, limit_bytes: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._limit_bytes = limit_bytes

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

    async def _next(self, messages: AsyncIterator[bytes], within_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(within_s), self._places:
                message = await anext(messages, None)
        except TimeoutError as error:
            raise InputTooSlow(
                f"the message was not here after {within_s:g} s",
                hint="send a smaller one, or raise limits.body_s",
            ) from error
        if message is not None and len(message) > self._limit_bytes:
            raise InputTooLarge(
                f"the message has {len(message)} bytes, and at most {self._limit_bytes} are taken",
                hint="send a smaller file, or raise limits.body_bytes",
            )
        return message


def parse(kind: Any, data: bytes) -> Any:
    """A message of a kind from its bytes.

    Raises:
        InvalidInput: They are not such a message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InvalidInput(f"the message is no {kind.DESCRIPTOR.name}: {error}") from error
