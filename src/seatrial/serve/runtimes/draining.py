"""The end of a server process on SIGTERM: readiness first, then the listener, then requests.

A balancer learns from ``/readyz`` that the process ends, and goes on sending requests until it has
looked. So for `Server.drain_notice_s` the process serves as before, with 503 from ``/readyz`` and
connections that end after their answer. Then it takes no more, answers what is here, and is gone
`Limits.drain_s` after the signal, whatever still runs in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from seatrial.errors import ServiceFailed
from seatrial.serve.log import say
from seatrial.serve.runtimes.ending import say_ended
from seatrial.serve.serving import Serving

# After `Limits.drain_s`: time for answers on their way.
LEAVE_S = 0.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Drain:
    """Ends this process in order.

    Args:
        notice_s: Seconds from the signal until no connection is taken any more.
        drain_s: Seconds from the signal until requests that still run are left behind.

    Attributes:
        on_begin: Called with the signal when it is here.
    """

    def __init__(self, notice_s: float, drain_s: float) -> None:
        self._notice_s = min(notice_s, drain_s)
        self._drain_s = drain_s
        self.on_begin: Callable[[int], object] = lambda number: None

    @property
    def wait_s(self) -> float:
        """Seconds for which a server waits for requests once it takes none any more."""
        return max(0.1, self._drain_s - self._notice_s)

    def listen(self, serving: Serving) -> None:
        """Take the signals over from the server; on the main thread, in its event loop.

        Args:
            serving: What is to be drained.
        """
        loop = asyncio.get_running_loop()
        health = serving.health
        health.on_failure = lambda: os.kill(os.getpid(), signal.SIGTERM)
        servers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

        def begin(number: int, frame: object) -> None:
            if health.draining or not callable(servers[number]):  # a second one hurries
                servers[number](number, frame)
                return
            health.draining = True
            # Not here: the signal may have come in the middle of another line.
            loop.call_soon_threadsafe(self.on_begin, number)
            leave = threading.Timer(self._drain_s + LEAVE_S, _leave, (serving,))
            leave.daemon = True
            leave.start()
            # A process that cannot serve takes no more at once.
            notice_s = 0.0 if health.failure else self._notice_s
            loop.call_soon_threadsafe(loop.call_later, notice_s, servers[number], number, None)

        for number in SIGNALS:
            signal.signal(number, begin)

    def end(self, serving: Serving) -> None:
        """End the process where Python would wait for threads; once the server has ended."""
        if serving.running or serving.health.failure:
            _leave(serving)


def _leave(serving: Serving) -> None:
    if serving.running:
        say("warning", "left_behind", "requests that still run are left behind")
    say_ended()
    os._exit(ServiceFailed.exit_code if serving.health.failure else 0)
