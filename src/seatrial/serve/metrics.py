"""Prometheus metrics of the request path; BentoML's ``/metrics`` shows them with its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from seatrial.detect.clock import REQUEST_STAGES

# Seconds. From half a millisecond (a decode) to the default deadline.
BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


class RequestMetrics:
    """Counts and times of one process."""

    def __init__(self) -> None:
        self.requests = Counter(
            "seatrial_requests", "Requests by route and outcome.", ["route", "code"]
        )
        self.stages = Histogram(
            "seatrial_stage_seconds", "Time of a request by stage.", ["stage"], buckets=BUCKETS
        )
        # labels() looks a child up under a lock; a request has eight values.
        self._stage = {stage: self.stages.labels(stage) for stage in (*REQUEST_STAGES, "total")}
        self.detections = Counter("seatrial_detections", "Objects reported.")
        self.lane_threads = Counter(
            "seatrial_lane_requests", "Requests by the width of their lane.", ["threads"]
        )
        self.present = Gauge(
            "seatrial_requests_present",
            "Requests that wait or run.",
            multiprocess_mode="livesum",
        )

    def observe(self, timing_ms: Mapping[str, float], detections: int, threads: int) -> None:
        """Record one answered request.

        Args:
            timing_ms: Stage, or ``total``, -> milliseconds.
            detections: Number of objects in the answer.
            threads: Threads of the lane that ran it.
        """
        for stage, value in timing_ms.items():
            self._stage[stage].observe(value / 1e3)
        self.detections.inc(detections)
        self.lane_threads.labels(threads).inc()


@functools.cache
def request_metrics() -> RequestMetrics:
    """The process's metrics: one set, since names in Prometheus' registry are global."""
    return RequestMetrics()
