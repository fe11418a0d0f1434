"""The parts that a running process serves with."""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.deployment import Server, Thresholds
from seatrial.serve.admission import Dispatcher
from seatrial.serve.health import Health
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.tls import Tls
from seatrial.serve.tokens import Tokens
from seatrial.serve.variants import LIVE
from seatrial.serve.watchdog import Watchdog


class Service(msgspec.Struct, frozen=True):
    """The parts that a running process serves with.

    Attributes:
        name: Name in the Open Inference Protocol; it stays when another artifact is served.
        dispatcher: Takes requests.
        detection: Thresholds where a request names none.
        description: The JSON of ``GET /model``.
        metrics: Where requests are counted.
        health: What the probes are told.
        watchdog: Looks after the lanes.
        server: Settings of the server, which stay when another artifact is served.
        tokens: Tokens that requests are let in with; they stay as well.
        tls: Certificate; None where connections are not encrypted. It stays as well.
        variant: `LIVE`, or `CANARY` for a second one beside it.
    """

    name: str
    dispatcher: Dispatcher
    detection: Thresholds
    description: dict[str, Any]
    metrics: RequestMetrics
    health: Health
    watchdog: Watchdog
    server: Server
    tokens: Tokens
    tls: Tls | None
    variant: str = LIVE

    @property
    def digest(self) -> str:
        """Digest of the artifact that answers."""
        return self.dispatcher.detector.artifact.digest

    def close(self) -> None:
        """Wait for running requests, then release the detector."""
        self.watchdog.close()
        self.dispatcher.close()
