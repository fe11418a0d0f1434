"""Prometheus metrics of the request path; BentoML's ``/metrics`` shows them with its own."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from seatrial.detect.clock import REQUEST_STAGES

# Seconds. From half a millisecond (a decode) to the default deadline.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
           30.0)  # fmt: skip


class RequestMetrics:
    """Counts and times of one process."""

    def __init__(self) -> None:
        requests = Counter("seatrial_requests", "Requests by route and outcome.", ["route", "code"])
        stages = Histogram(
            "seatrial_stage_seconds", "Time of a request by stage.", ["stage"], buckets=BUCKETS
        )
        lanes = Counter(
            "seatrial_lane_requests", "Requests by the width of their lane.", ["threads"]
        )
        # labels() makes strings and looks a child up under a lock: once is enough.
        self._requests = functools.cache(requests.labels)
        self._stages = functools.cache(stages.labels)
        self._lanes = functools.cache(lanes.labels)
        for stage in (*REQUEST_STAGES, "total"):
            self._stages(stage)  # there from the start, with 0 requests
        self._detections = Counter("seatrial_detections", "Objects reported.")
        self.present = Gauge(
            "seatrial_requests_present",
            "Requests that arrive, wait or run: what `limits.queue` is compared with.",
            multiprocess_mode="livesum",
        )

    def count(self, route: str, status: int) -> None:
        """Count one request that has ended."""
        self._requests(route, status).inc()

    def observe(self, timing_ms: Mapping[str, float], detections: int, threads: int) -> None:
        """Record one answered request.

        Args:
            timing_ms: Stage, or ``total``, -> milliseconds.
            detections: Number of objects in the answer.
            threads: Threads of the lane that ran it.
        """
        for stage, value in timing_ms.items():
            self._stages(stage).observe(value / 1e3)
        self._detections.inc(detections)
        self._lanes(threads).inc()


@functools.cache
def request_metrics() -> RequestMetrics:
    """The process's metrics: one set, since names in Prometheus' registry are global."""
    return RequestMetrics()


def forget_dead_processes(folder: Path) -> None:
    """Remove the gauges of processes that have ended from a folder of metrics.

    A process that is killed leaves its own behind, with the requests that it had then.
    """
    for file in folder.glob("gauge_live*_*.db"):
        with contextlib.suppress(PermissionError):  # it runs, as another user
            pid = int(file.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)
                ended = _is_zombie(pid)
            except ProcessLookupError:
                ended = True
            if ended:
                file.unlink(missing_ok=True)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not asked for its exit code (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return False
