"""Metrics of two artifacts side by side: the live one, and a canary or a shadow."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from seatrial.serve.tallies import Tally, distributions, tallies

LIVE, CANARY = "live", "canary"
COUNTS = ("live_answered", "live_failed", "canary_answered", "canary_failed")


class VariantMetrics:
    """Counts and times by variant, ``live`` and ``canary``, while there is a canary.

    Args:
        bounds: Edges of the buckets of times, seconds.
        registry: Registry that takes them.
    """

    def __init__(self, bounds: Sequence[float], registry: CollectorRegistry = REGISTRY) -> None:
        requests = Counter(
            "seatrial_variant_requests", "Requests by variant and outcome, beside a canary.",
            ["variant", "code"], registry=registry,
        )  # fmt: skip
        seconds = Histogram(
            "seatrial_variant_request_seconds",
            "Time from the headers of a request to its answer, beside a canary.",
            ["variant"],
            buckets=bounds,
            registry=registry,
        )
        images = Counter(
            "seatrial_shadow_images", "Copies of images for a shadow, by what became of them.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        boxes = Counter(
            "seatrial_shadow_boxes", "Boxes of the live artifact and of a shadow on one image.",
            ["outcome"], registry=registry,
        )  # fmt: skip
        self._share = Tally(Gauge(
            "seatrial_canary_share", "Share of the requests, or of the copies, of a canary.",
            multiprocess_mode="livemax", registry=registry,
        ))  # fmt: skip
        self._requests = tallies(requests)
        self._seconds = distributions(seconds)
        self._images = tallies(images)
        self._boxes = tallies(boxes)
        for outcome in ("compared", "skipped", "failed"):
            self._images(outcome)
        for outcome in ("matched", "lost", "gained"):
            self._boxes(outcome)
        self._on = False
        # Of this process since the canary began; several threads count.
        self._lock = threading.Lock()
        self._told: dict[str, dict[str, float]] = {}

    def set_share(self, share: float) -> None:
        """A canary has this share from now on; 0: there is none."""
        with self._lock:
            self._told = {
                "requests": dict.fromkeys(COUNTS, 0),
                "seconds": dict.fromkeys((LIVE, CANARY), 0.0),
            }
        self._on = share > 0
        self._share.set(share)

    def told(self) -> dict[str, dict[str, float]]:
        """Counts since the canary began: requests, and seconds of those that were answered."""
        with self._lock:
            return {kind: dict(counts) for kind, counts in self._told.items()}

    def count(self, variant: str, status: int, seconds: float) -> None:
        """Count one request that has ended, where there is a canary."""
        if not self._on and variant == LIVE:
            return
        self._requests(variant, status).inc()
        answered = status == 200
        if answered:
            self._seconds(variant).observe(seconds)
        with self._lock:
            self._told["requests"][f"{variant}_{'answered' if answered else 'failed'}"] += 1
            self._told["seconds"][variant] += seconds if answered else 0.0

    def shadowed(self, outcome: str) -> None:
        """Count one copy of an image: ``compared``, ``skipped`` or ``failed``."""
        self._images(outcome).inc()

    def compared(self, matched: int, lost: int, gained: int) -> None:
        """Count the boxes of one compared image; see `seatrial.detect.agreement.Agreed`."""
        self._boxes("matched").inc(matched)
        self._boxes("lost").inc(lost)
        self._boxes("gained").inc(gained)
