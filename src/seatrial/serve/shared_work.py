"""Work that is the same for all who ask for it, such as the page of metrics.

Such a page takes a thread for tens of milliseconds, and threads share Python's lock with the event
loop: forty of them at a time hold up everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class SharedWork:
    """Does work on a thread: one piece at a time, each for all who ask for it before it begins.

    So what they get is never older than their question. Of each piece one is under way at most, and
    one is next. Only the event loop calls it.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._next: dict[Hashable, asyncio.Task[Any]] = {}

    async def __call__(self, name: Hashable, work: Callable[[], T]) -> T:
        """The result of some work.

        Args:
            name: Work of one name has one result.
            work: Does it; on a thread.

        Raises:
            Exception: The work raised it.
        """
        task = self._next.get(name)
        if task is None:
            task = self._next[name] = asyncio.create_task(self._do(name, work))
            task.add_done_callback(_take_error)
        return cast(T, await asyncio.shield(task))  # others may wait for it

    async def _do(self, name: Hashable, work: Callable[[], T]) -> T:
        try:
            await self._turn.acquire()
        finally:
            del self._next[name]  # who asks from now on gets the next one
        try:
            return await asyncio.to_thread(work)
        finally:
            self._turn.release()


def _take_error(task: asyncio.Task[Any]) -> None:
    """Take what the work raised, where nobody waits for it any more: asyncio would log it."""
    if not task.cancelled():
        task.exception()
