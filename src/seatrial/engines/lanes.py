"""Which lane a request runs on: least latency when alone, most throughput in company.

A graph spread over all cores answers one request soonest. Many requests are answered at the
highest rate one core each, since nothing waits at barriers between threads. Both layouts are
compiled; they share the cores, so only one of them runs at any time:

- A request that is the only one in the service takes the wide lane.
- As soon as there are others, requests take narrow lanes, as many as there are.
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
        self._waiting: deque[object] = deque()
        self._present = 0
        self._changed = threading.Condition()

    def arrive(self) -> None:
        """Be counted from admission on, so that others know that they are not alone."""
        with self._changed:
            self._present += 1

    def leave(self) -> None:
        """Be counted no more: inference is over, or will not happen."""
        with self._changed:
            self._present -= 1

    @property
    def present(self) -> int:
        """Requests between `arrive` and `leave`."""
        return self._present

    @contextlib.contextmanager
    def lane(self) -> Iterator[Lane]:
        """Wait for a lane in order of arrival, and hold it."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free())
                lane = self._take()
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield lane
        finally:
            with self._changed:
                self._give_back(lane)
                self._changed.notify_all()

    def _free(self) -> bool:
        return bool(self._idle) and not self._wide_busy

    def _take(self) -> Lane:
        alone = self._present <= 1 and len(self._waiting) == 1
        if self._wide is not None and alone and len(self._idle) == self._narrow_count:
            self._wide_busy = True
            return self._wide
        return self._idle.popleft()

    def _give_back(self, lane: Lane) -> None:
        if lane is self._wide:
            self._wide_busy = False
        else:
            self._idle.append(lane)
