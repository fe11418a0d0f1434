"""A request before its body: what its headers ask for, and whether its client is still there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import msgspec
from starlette.types import Message, Receive


class Asked(msgspec.Struct, frozen=True):
    """A request as its headers describe it.

    Attributes:
        body_bytes: Declared length of the body; None where it is not declared.
        deadline_s: Seconds until when it has to be answered; None takes the deployment's.
        batch: Whether it may wait for live requests.
        most_bytes: Longest body, where it is packed: what its declared length may unpack to; None:
            as long as any body may be.
    """

    body_bytes: int | None = None
    deadline_s: float | None = None
    batch: bool = False
    most_bytes: int | None = None


NOTHING = Asked()


# Whether a client has gone is not looked at sooner: it would delay the thread of the request.
WATCHED_AFTER_S = 0.005


@contextlib.contextmanager
def watched(receive: Receive) -> Iterator[asyncio.Future[Message]]:
    """A future that is done when the client of a request goes away, or where that cannot be known.

    It then has the message that says so, or the exception that `receive` raised.

    Args:
        receive: The request's ASGI channel, its body read.
    """
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[Message] = loop.create_future()
    watching: list[asyncio.Task[None]] = []

    async def watch() -> None:
        try:
            message = await receive()
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if not gone.done():
                gone.set_exception(error)
        else:
            if not gone.done():
                gone.set_result(message)

    begin = loop.call_later(WATCHED_AFTER_S, lambda: watching.append(loop.create_task(watch())))
    try:
        yield gone
    finally:
        begin.cancel()
        for task in watching:
            task.cancel()
        if not gone.cancel() and not gone.cancelled():
            gone.exception()  # who only waits for the end does not ask for it, and asyncio warns
