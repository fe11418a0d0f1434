"""A second artifact beside the one that is served: for a share of the requests, or as a shadow.

A canary answers its share of the requests. A shadow answers none: it gets copies of a share of the
images after their answers, in lanes that would be idle, and its boxes are compared with the answer.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from typing import Any

import msgspec

from seatrial.deployment import Thresholds
from seatrial.detect.agreement import Agreed, agree
from seatrial.detect.detections import Detections
from seatrial.detect.detector import Detected, Ticket
from seatrial.engines.places import Abandoned
from seatrial.errors import SeatrialError, first_line
from seatrial.serve.log import GoesOn, say
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.service import Service
from seatrial.serve.variants import CANARY

# A copy waits this long for an idle lane, and may then take as long as this.
PATIENCE_S, SHADOW_S = 2.0, 30.0
POLL_S = 0.005
SHADOW_PIXELS = 8_000_000  # larger images are not copied: their memory is the live requests'


class Canary:
    """A second service of a process. Thread-safe but for its life, which the event loop leads.

    Args:
        service: What runs the second artifact.
        share: Share of the requests, above 0 and up to 1.
        shadow: Whether its answers are compared and discarded.
        metrics: Where it is counted.

    Attributes:
        failure: Why it serves no more; empty while it can.
    """

    def __init__(
        self, service: Service, share: float, *, shadow: bool, metrics: RequestMetrics
    ) -> None:
        self.service = msgspec.structs.replace(service, variant=CANARY)
        self.share = share
        self.shadow = shadow
        self.failure = ""
        self._metrics = metrics.variants
        self._lock = threading.Lock()
        self._agreed = Agreed()
        self._compared = self._skipped = self._failed = 0
        self._copies: queue.Queue[tuple[bytes, Thresholds, Detections] | None] = queue.Queue(1)
        self._live: Service | None = None
        self._ended = False
        service.watchdog.on_hopeless = self._fail
        self._metrics.set_share(share)

    def chosen(self) -> bool:
        """Whether it answers the request that has just arrived."""
        if self.shadow or self.failure or random.random() >= self.share:  # noqa: S311
            return False
        return self.service.dispatcher.detector.lanes.usable > 0

    def follow(self, live: Service) -> None:
        """Take copies of the images of another service, where this one is a shadow."""
        self._live = live
        if self.shadow:
            live.dispatcher.on_detected = self._offer
            threading.Thread(target=self._compare, name="shadow", daemon=True).start()

    def end(self) -> None:
        """Take no more copies."""
        self._ended = True
        if self._live is not None:
            self._live.dispatcher.on_detected = None
        self._metrics.set_share(0.0)
        if self.shadow:
            # A copy that waits is dropped, so that there is room for the end.
            while True:
                try:
                    self._copies.put_nowait(None)
                    return
                except queue.Full:
                    try:
                        self._copies.get_nowait()
                    except queue.Empty:
                        continue

    def told(self) -> dict[str, Any]:
        """State and counts of this process, for the status."""
        with self._lock:
            agreed = self._agreed
            return {
                "digest": self.service.digest,
                "share": self.share,
                "shadow": self.shadow,
                "failure": self.failure,
                **self._metrics.told(),
                "images": {
                    "compared": self._compared, "skipped": self._skipped, "failed": self._failed
                },
                "boxes": {
                    "matched": agreed.matched, "lost": agreed.lost, "gained": agreed.gained
                },
            }  # fmt: skip

    def _fail(self, reason: str) -> None:
        self.failure = reason

    def _offer(self, data: Any, options: Thresholds, result: Detected) -> None:
        """On the thread of a request that has its boxes: it must not wait."""
        if random.random() >= self.share or self._ended:  # noqa: S311
            return
        height, width = result.image.shape[:2]
        copied = False
        if height * width <= SHADOW_PIXELS and not self.failure:
            try:
                self._copies.put_nowait((bytes(data), options, result.detections))
                copied = True
            except queue.Full:
                pass
        if not copied:
            self._count("skipped")

    def _compare(self) -> None:
        goes_on = GoesOn("a copy is not counted")
        while (copy := self._copies.get()) is not None:
            with goes_on:
                self._count(self._compared_with(*copy))

    def _compared_with(self, data: bytes, options: Thresholds, detections: Detections) -> str:
        """Compare one copy; what became of it."""
        if not self._wait_for_idle_lane():
            return "skipped"
        detector = self.service.dispatcher.detector
        try:
            # Counted first: who closes the service waits for the ticket, or the end is seen.
            with Ticket(detector.lanes, SHADOW_S, batch=True) as ticket:
                if self._ended:
                    return "skipped"
                ticket.ready()
                found = detector.detect(data, options, ticket=ticket).detections
            agreed = agree(detections, found)
        except Exception as error:  # noqa: BLE001 - such as too little memory: the next may do
            if not isinstance(error, SeatrialError | Abandoned):
                say("warning", "shadow", f"a copy is not compared: {first_line(error)}")
            return "failed"
        with self._lock:
            self._agreed = self._agreed + agreed
        self._metrics.compared(agreed.matched, agreed.lost, agreed.gained)
        return "compared"

    def _wait_for_idle_lane(self) -> bool:
        """Whether a lane of the live service is idle, and no request waits for it, in time."""
        assert self._live is not None  # noqa: S101 - `follow` comes first
        lanes = self._live.dispatcher.detector.lanes
        give_up = time.monotonic() + PATIENCE_S
        while not lanes.idle:
            if self._ended or time.monotonic() >= give_up:
                return False
            time.sleep(POLL_S)
        return True

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._compared += outcome == "compared"
            self._skipped += outcome == "skipped"
            self._failed += outcome == "failed"
        self._metrics.shadowed(outcome)
