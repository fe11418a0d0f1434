"""Reading large bodies beside the event loop, on which all other requests wait meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Text that is decoded, JSON and base64: so much takes 0.6 ms, and the way to a thread 0.1.
MOST_TEXT_BYTES = 128 * 1024
# Forms, which are only divided (0.1 ms), and messages of protobuf (1.2 ms of small numbers).
MOST_BINARY_BYTES = 512 * 1024


async def read_off_loop(length: int, read: Callable[[], T], most_bytes: int = MOST_TEXT_BYTES) -> T:
    """Read a part of a body: at once where it is short, and otherwise on a thread.

    Args:
        length: What there is to read, bytes.
        read: Reads it, and lets Python go on to other threads now and then.
        most_bytes: Longest that is read on the event loop.
    """
    if length <= most_bytes:
        return read()
    return await asyncio.to_thread(read)
