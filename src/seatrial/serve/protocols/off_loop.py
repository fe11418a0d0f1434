"""Reading large bodies beside the event loop, on which all other requests wait meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
# Text that is decoded, JSON and base64: so much takes 0.6 ms, and the way to a thread 0.1.
MOST_TEXT_BYTES = 128 * 1024
# Forms, which are only divided (0.1 ms), and messages of protobuf (1.2 ms of small numbers).
MOST_BINARY_BYTES = 512 * 1024
# Reading keeps Python's lock nearly all the time: with several threads the event loop would get it
# after all of them, and they would be done no sooner.
_reader = ThreadPoolExecutor(1, "seatrial-body")


async def read_off_loop(length: int, read: Callable[[], T], most_bytes: int = MOST_TEXT_BYTES) -> T:
    """Read a part of a body: at once where it is short, otherwise on the one thread for this.

    Args:
        length: What there is to read, bytes.
        read: Reads it, and lets Python go on to other threads now and then.
        most_bytes: Longest that is read on the event loop.
    """
    if length <= most_bytes:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_reader, read)
