"""Which lane a request runs on: least latency when alone, most throughput in company.

A graph spread over all cores answers one request soonest. Many requests are answered at the
highest rate one core each, since nothing waits at barriers between threads. Both layouts are
compiled; they share the cores, so only one of them runs at any time:

- A request that is the only one in the service takes the wide lane.
- As soon as there are others, requests take narrow lanes, as many as there are. A request that
  finds itself alone just after others were here takes a narrow one too: callers that each wait
  for their answer take turns, and would else be answered one at a time.
- Nothing starts while the wide lane runs: it ends sooner than a narrow lane that has to share
  its core would.

Requests start in the order in which they asked.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

from seatrial.engines.base import Engine, Lane


class Lanes:
    """Hands out an engine's lanes. Thread-safe.

    Args:
        engine: Its lanes are taken over: call none of them elsewhere.
    """

    def __init__(self, engine: Engine) -> None:
        self._wide = engine.wide
        self._idle = deque(engine.narrow)
        self._narrow_count = len(engine.narrow)
        self._wide_busy = False
        self._waiting: deque[_Ticket] = deque()
        self._present = 0
        # A busy period lasts from the first arrival until nobody is present.
        self._company = self._company_before = False
        self._lock = threading.Lock()

    def arrive(self) -> None:
        """Be counted from admission on, so that others know that they are not alone."""
        with self._lock:
            self._company = self._present > 0
            self._present += 1

    def leave(self) -> None:
        """Be counted no more: inference is over, or will not happen."""
        with self._lock:
            self._present -= 1
            if self._present == 0:
                self._company_before = self._company

    @property
    def present(self) -> int:
        """Requests between `arrive` and `leave`."""
        return self._present

    @contextlib.contextmanager
    def lane(self) -> Iterator[Lane]:
        """Wait for a lane in order of arrival, and hold it."""
        lane = self._obtain()
        try:
            yield lane
        finally:
            self._give_back(lane)

    def _obtain(self) -> Lane:
        with self._lock:
            if self._free() and not self._waiting:
                return self._take()
            ticket = _Ticket()
            self._waiting.append(ticket)
        try:
            ticket.granted.acquire()
        except BaseException:  # Ctrl-C in the main thread: pass on what was granted meanwhile
            with self._lock, contextlib.suppress(ValueError):
                self._waiting.remove(ticket)
            if ticket.lane is not None:
                self._give_back(ticket.lane)
            raise
        assert ticket.lane is not None  # noqa: S101 - granted only with a lane
        return ticket.lane

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            if lane is self._wide:
                self._wide_busy = False
            else:
                self._idle.append(lane)
            while self._waiting and self._free():
                ticket = self._waiting.popleft()
                ticket.lane = self._take()
                ticket.granted.release()

    def _free(self) -> bool:
        return bool(self._idle) and not self._wide_busy

    def _take(self) -> Lane:
        alone = self._present <= 1 and not self._company and not self._company_before
        if self._wide is not None and alone and len(self._idle) == self._narrow_count:
            self._wide_busy = True
            return self._wide
        return self._idle.popleft()


class _Ticket:
    """A place in the queue. Each has a lock of its own: only the one whose turn it is wakes."""

    __slots__ = ("granted", "lane")

    def __init__(self) -> None:
        self.granted = threading.Lock()
        self.granted.acquire()
        self.lane: Lane | None = None
