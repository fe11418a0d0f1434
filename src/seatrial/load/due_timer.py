"""Waits for a time to the tenth of a millisecond, without a core that spins.

Timers of event loops have whole milliseconds (epoll_wait(2)), so a request is sent up to one too
early or too late, and a client that asks again until it is time burns a core meanwhile. Timers of
Linux have nanoseconds, and wake the event loop through a descriptor (timerfd_create(2)). Elsewhere
the timer of the event loop has to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import TracebackType

CLOCK_MONOTONIC = time.CLOCK_MONOTONIC if hasattr(time, "CLOCK_MONOTONIC") else 1
ABSOLUTE = 1  # TFD_TIMER_ABSTIME
NANOSECONDS = 10**9


class _Spec(ctypes.Structure):
    """``struct itimerspec``: the period, which is none, and the time."""

    _fields_ = (
        ("period_s", ctypes.c_long), ("period_ns", ctypes.c_long),
        ("s", ctypes.c_long), ("ns", ctypes.c_long),
    )  # fmt: skip


class DueTimer:
    """Wakes one task of the event loop that runs, again and again: ``with DueTimer() as timer``."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._stopped = False
        self._handle: asyncio.TimerHandle | None = None
        self._file: int | None = None

    def __enter__(self) -> DueTimer:
        libc = ctypes.CDLL(None, use_errno=True)
        create = getattr(libc, "timerfd_create", None)
        if create is not None:
            file = create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
            if file >= 0:
                self._file = file
                # Made once, as it is set for each request.
                self._spec, self._settime = _Spec(), libc.timerfd_settime
                self._spec_at = ctypes.byref(self._spec)
                self._loop.add_reader(file, self._rang)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
        if self._handle is not None:
            self._handle.cancel()

    async def wait(self, due_ns: int) -> bool:
        """Wait until a time, `time.perf_counter_ns`; false as soon as the timer is stopped."""
        while not self._stopped and (left_ns := due_ns - time.perf_counter_ns()) > 0:
            self._waiter = self._loop.create_future()
            self._set(due_ns, left_ns)
            await self._waiter
        return not self._stopped

    def stop(self) -> None:
        """Let the task go on at once, now and from now on."""
        self._stopped = True
        self._wake()

    def _set(self, due_ns: int, left_ns: int) -> None:
        if self._file is not None:
            # The clock of `perf_counter_ns` on Linux is the monotonic one.
            self._spec.s, self._spec.ns = divmod(due_ns, NANOSECONDS)
            if not self._settime(self._file, ABSOLUTE, self._spec_at, None):
                return
        self._handle = self._loop.call_later(left_ns / NANOSECONDS, self._wake)

    def _rang(self) -> None:
        try:  # noqa: SIM105 - a context manager would take as long as the call
            os.read(self._file or 0, 8)
        except BlockingIOError:
            pass  # set anew meanwhile
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
