"""The service that a process answers with: one for each request, until another takes its place."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Sequence

import msgspec

from seatrial.deployment import Server
from seatrial.errors import NotSwapped
from seatrial.serve.canary import Canary
from seatrial.serve.health import Health
from seatrial.serve.log import GoesOn, say
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.reporting import Report
from seatrial.serve.service import Service
from seatrial.serve.shared_work import SharedWork
from seatrial.serve.tls import Tls
from seatrial.serve.tokens import Tokens
from seatrial.serve.variants import LIVE
from seatrial.system.memory import give_back_freed_memory

POLL_S = 0.02
# Beyond the longest time of a request, until a service that still works is left behind.
SPARE_S = 15.0


class Serving:
    """Holds the service of a process, and replaces it between two requests.

    Only the event loop calls `take` and `replace`. A request takes its service once and is admitted
    to it before anything is awaited; it keeps that service to its end.

    Args:
        service: Serves from the start.

    Attributes:
        live: The service in place at this moment: for what belongs to no request.
        canary: A second one beside it, where there is one.
        health: State of the process.
        metrics: Metrics of the process.
        server: Settings of the server.
        tokens: Tokens that requests are let in with.
        tls: Certificate; None where connections are not encrypted.
        connections_beside: Number of open connections of servers beside the HTTP server.
        reports: Are told of each request that such a server has answered.
        shared: Makes pages that are the same for all who ask.
    """

    def __init__(self, service: Service) -> None:
        self.health: Health = service.health
        self.metrics: RequestMetrics = service.metrics
        self.server: Server = service.server
        self.tokens: Tokens = service.tokens
        self.tls: Tls | None = service.tls
        self.canary: Canary | None = None
        self.connections_beside = 0
        self.reports: Sequence[Report] = ()
        self.shared = SharedWork()
        self._leaving: list[Service] = []
        self._left = threading.Condition()
        self._install(service)

    def take(self) -> Service:
        """The service that answers a request which has just arrived."""
        if self.canary is not None and self.canary.chosen():
            return self.canary.service
        return self.live

    @property
    def running(self) -> bool:
        """Whether requests are here, of the service in place or of one before it."""
        return any(one.dispatcher.running for one in self._all())

    @property
    def leaving(self) -> int:
        """Number of services that were replaced and are not closed yet."""
        return len(self._leaving)

    def wait_until_left(self, wait_s: float) -> bool:
        """Whether all that was replaced is closed, after so many seconds at most; on any thread."""
        with self._left:
            return self._left.wait_for(lambda: not self._leaving, wait_s)

    def _all(self) -> tuple[Service, ...]:
        canary = (self.canary.service,) if self.canary else ()
        return (self.live, *canary, *self._leaving)

    def replace(self, service: Service) -> threading.Thread:
        """Put another service in place; the next request takes it.

        Returns:
            A thread that closes the one before, once its requests are answered.
        """
        before = self.live
        self._install(service)
        return self.retire(before)

    def retire(self, service: Service) -> threading.Thread:
        """Close a service that no request takes any more, once its requests are answered.

        Returns:
            A thread that does this, and gives its memory back.
        """
        self._leaving.append(service)
        leaving = threading.Thread(target=self._leave, args=(service,), name="retire", daemon=True)
        leaving.start()
        return leaving

    def close(self) -> None:
        """Wait for running requests, then release all that is in place."""
        self.tokens.close()
        if self.tls is not None:
            self.tls.close()
        for service in self._all():
            service.close()

    def begin_canary(self, canary: Canary) -> None:
        """Put a second service beside the one in place."""
        if self.canary is not None:
            raise NotSwapped("there is a canary already", hint="promote or abandon it first")
        canary.follow(self.live)
        self.canary = canary

    def promote_canary(self) -> threading.Thread:
        """Put the canary in place; see `replace`."""
        canary = self._end_canary()
        return self.replace(msgspec.structs.replace(canary.service, variant=LIVE))

    def abandon_canary(self) -> threading.Thread:
        """Let the canary go; see `retire`."""
        return self.retire(self._end_canary().service)

    def _end_canary(self) -> Canary:
        canary, self.canary = self.canary, None
        if canary is None:
            raise NotSwapped("there is no canary", hint="start one: seatrial canary start MODEL")
        canary.end()
        return canary

    def _install(self, service: Service) -> None:
        self.live = service
        lanes = service.dispatcher.detector.lanes
        self.health.usable_lanes = lambda: lanes.usable
        # A process whose service cannot be mended ends.
        watchdog = service.watchdog
        watchdog.on_hopeless = self.health.fail
        if watchdog.hopeless:  # while it was a canary, or was loaded
            self.health.fail(watchdog.hopeless)
        self.metrics.serves(service.description)

    def _leave(self, service: Service) -> None:
        dispatcher = service.dispatcher
        service.watchdog.on_hopeless = lambda reason: None
        limits = dispatcher.limits
        give_up = time.monotonic() + limits.body_s + limits.longest_deadline_s + SPARE_S
        while dispatcher.running and time.monotonic() < give_up:
            time.sleep(POLL_S)
        if dispatcher.running:
            say("error", "left_behind", "a replaced model still computes: it stays in memory")
        with GoesOn("a replaced model was not closed"):  # or else no other would be loaded any more
            service.close()
        with self._left:
            self._leaving.remove(service)
            self._left.notify_all()
        del service, dispatcher
        # Tickets of its requests hold its lanes in circles. What start-up made is not walked.
        gc.collect()
        give_back_freed_memory()
