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
    """

    body_bytes: int | None = None
    deadline_s: float | None = None
    batch: bool = False


NOTHING = Asked()


@contextlib.contextmanager
def watched(receive: Receive) -> Iterator[asyncio.Future[Message]]:
    """A future that is done when the client of a request goes away.

    Args:
        receive: The request's ASGI channel, its body read.
    """
    gone: asyncio.Future[Message] = asyncio.ensure_future(receive())
    try:
        yield gone
    finally:
        gone.cancel()
