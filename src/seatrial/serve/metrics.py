"""Prometheus metrics of the request path; BentoML's ``/metrics`` shows them with its own."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from seatrial.detect.clock import REQUEST_STAGES, SEND
from seatrial.engines.waiting import REASONS
from seatrial.serve.statistics import DETECTOR, ModelMetrics
from seatrial.serve.tallies import Distribution, Tally, distributions, tallies, together
from seatrial.serve.variants import LIVE, VariantMetrics
from seatrial.system.memory import resident_bytes

# Seconds. From half a millisecond (a decode) on, and close together where detectors answer.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2,
           0.25, 0.35, 0.5, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)  # fmt: skip
PIXELS = (1e5, 3e5, 1e6, 2e6, 4e6, 8e6, 16e6, 32e6)  # of an image
BYTES = tuple(2.0**power for power in range(13, 25))  # of a body: 8 KiB to 16 MiB
BATCH = (1, 2, 4, 8, 16, 32, 64)  # images of a run
MODEL = ("name", "digest", "engine", "device", "precision")
MEMORY_EVERY_S = 1.0


class Inferred(NamedTuple):
    """An image that was answered.

    Attributes:
        detections: Number of objects in the answer.
        threads: Threads of the lane that ran it.
        body_bytes: Its length, encoded.
        pixels: Its width x height.
    """

    detections: int
    threads: int
    body_bytes: int
    pixels: int


class RequestMetrics:
    """Counts and times of one process.

    Args:
        bound_s: Deadline of the deployment: an edge of the buckets of whole requests, so that the
            share of answers within it can be read.
        registry: Registry that takes them.

    Attributes:
        models: What each model did.
        variants: What was done while there was a canary.
    """

    def __init__(
        self, bound_s: float | None = None, registry: CollectorRegistry = REGISTRY
    ) -> None:
        self.models = ModelMetrics(registry)
        bounded = sorted({*BUCKETS, *([] if bound_s is None else [bound_s])})
        requests = Counter(
            "seatrial_requests", "Requests by route and outcome.", ["route", "code"],
            registry=registry,
        )  # fmt: skip
        times = Histogram(
            "seatrial_request_seconds",
            "Time from the headers of a request to its outcome, failed ones too.",
            ["code"],
            buckets=bounded,
            registry=registry,
        )
        stages = Histogram(
            "seatrial_stage_seconds", "Time of a request by stage.", ["stage"], buckets=BUCKETS,
            registry=registry,
        )  # fmt: skip
        lanes = Counter(
            "seatrial_lane_requests", "Requests by the width of their lane.", ["threads"],
            registry=registry,
        )  # fmt: skip
        self._requests = tallies(requests)
        self._times = distributions(times)
        self._stages = distributions(stages)
        self._lanes = tallies(lanes)
        for stage in (*REQUEST_STAGES, SEND, "total"):
            self._stages(stage)  # there from the start, with 0 requests
        refusals = Counter(
            "seatrial_refusals", "Requests refused undecoded, by what they would have exceeded.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._refusals = tallies(refusals)
        for reason in ("deadline", "queue", "bytes", "lanes", "pixels", "memory", "slow", "drain"):
            self._refusals(reason)
        closed = Counter(
            "seatrial_connections_closed", "Connections that the service closed, by what for.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._closed = tallies(closed)
        for reason in ("head", "idle", "answer", "limit", "tls"):
            self._closed(reason)
        faults = Counter(
            "seatrial_lane_faults", "Lanes taken out: stuck in a run, or failing again and again.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._faults = tallies(faults)
        for reason in ("stuck", "failing"):
            self._faults(reason)
        self._batch_size = Distribution(Histogram(
            "seatrial_batch_size", "Images of a run of the engine, where runs may be shared.",
            buckets=BATCH, registry=registry,
        ))  # fmt: skip
        self._batch_wait = Distribution(Histogram(
            "seatrial_batch_wait_seconds",
            "Time that a run was held back for more images although a lane was free.",
            buckets=BUCKETS, registry=registry,
        ))  # fmt: skip
        released = Counter(
            "seatrial_batch_released", "Runs by why they were held back no longer.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._batch_released = tallies(released)
        for reason in REASONS:
            self._batch_released(reason)
        self._deaths = Tally(Counter(
            "seatrial_worker_deaths", "Server processes that died and were started again.",
            registry=registry,
        ))  # fmt: skip
        self._detections = Tally(
            Counter("seatrial_detections", "Objects reported.", registry=registry)
        )
        self._pixels = Distribution(Histogram(
            "seatrial_image_pixels", "Width x height of the images of answered requests.",
            buckets=PIXELS, registry=registry,
        ))  # fmt: skip
        self._bytes = Distribution(Histogram(
            "seatrial_body_bytes", "Length of the images of answered requests, encoded.",
            buckets=BYTES, registry=registry,
        ))  # fmt: skip

        def gauge(name: str, text: str, mode: Any = "livesum") -> Tally:
            return Tally(Gauge(name, text, multiprocess_mode=mode, registry=registry))

        # Not there, rather than 0, where a service has no certificate.
        self._certificate = functools.cache(lambda: gauge(
            "seatrial_tls_certificate_not_after_timestamp_seconds",
            "The earliest end of the certificates of the server, seconds since 1970.",
            "livemin",
        ))  # fmt: skip
        self.connections = gauge("seatrial_connections", "Open connections.")
        self.present = gauge(
            "seatrial_requests_present",
            "Requests that arrive, wait or run: what `limits.queue` is compared with.",
        )
        self.body_bytes_present = gauge(
            "seatrial_body_bytes_present",
            "Longest bodies of those requests: what `limits.bytes_in_flight` is compared with.",
        )
        self.lanes_busy = gauge("seatrial_lanes_busy", "Lanes of the engine that compute.")
        self._memory = gauge("seatrial_resident_memory_bytes", "Memory of the server processes.")
        self._memory_at = -math.inf
        self.deadline = gauge(
            "seatrial_deadline_seconds", "Deadline of requests that ask for none.", "livemax"
        )
        self._model = tallies(Gauge(
            "seatrial_model_info", "The model that is served: 1; one that was served before: 0.",
            MODEL, multiprocess_mode="livemax", registry=registry,
        ))  # fmt: skip
        reloads = Counter(
            "seatrial_reloads", "Attempts to serve another artifact, by result.", ["result"],
            registry=registry,
        )  # fmt: skip
        self._reloads = tallies(reloads)
        for result in ("swapped", "refused"):
            self._reloads(result)
        self.variants = VariantMetrics(bounded, registry)
        self._served: tuple[str, ...] | None = None

    def serves(self, description: Mapping[str, Any]) -> None:
        """Name the model that is served, by the JSON of ``GET /model``."""
        if self._served:
            self._model(*self._served).set(0)
        self._served = tuple(str(description[key]) for key in MODEL)
        self._model(*self._served).set(1)
        self.deadline.set(description["limits"]["deadline_s"])

    def certificate_ends(self, at_s: float) -> None:
        """Tell when the first certificate of the server ends, seconds since 1970."""
        self._certificate().set(at_s)

    def reloaded(self, result: str) -> None:
        """Count one attempt to serve another artifact: ``swapped`` or ``refused``."""
        self._reloads(result).inc()

    def count(self, route: str, status: int, seconds: float | None = None) -> None:
        """Count one request that has ended.

        Args:
            route: Path of the route.
            status: HTTP status.
            seconds: Time since its headers; None where that is not of interest.
        """
        self._requests(route, status).inc()
        if seconds is not None:
            self._times(status).observe(seconds)

    def sent(self, seconds: float) -> None:
        """Record the last stage of one answered request: from its answer to its last byte."""
        self._stages(SEND).observe(seconds)

    def refuse(self, reason: str) -> None:
        """Count one request that was refused."""
        self._refusals(reason).inc()

    def refused_early(self, route: str, status: int, reason: str, model: str) -> Callable[[], None]:
        """A function that counts one request which was refused by its headers, in no time.

        Args:
            route: Path of the route.
            status: HTTP status.
            reason: See `refuse`.
            model: Kind of the model that it was for; see `seatrial.serve.statistics`.
        """
        change = together(
            self._requests(route, status).inc,
            self._refusals(reason).inc,
            self._times(status).at(0.0),
            self.models.outcome(model, "failure").inc,
        )

        def count() -> None:
            change()
            self.variants.count(LIVE, status, 0.0)

        return count

    def close_connection(self, reason: str) -> None:
        """Count one connection that waited too long for its client, or was one too many."""
        self._closed(reason).inc()

    def lane_fault(self, reason: str) -> None:
        """Count one lane that was taken out."""
        self._faults(reason).inc()

    def batch(self, size: int, reason: str, wait_s: float) -> None:
        """Count one run of the engine that requests may share; see `Lanes.on_batch`."""
        self._batch_size.observe(size)
        self._batch_released(reason).inc()
        self._batch_wait.observe(wait_s)

    def worker_died(self, times: int) -> None:
        """Count server processes that died."""
        self._deaths.inc(times)

    def answered(self, timing_ms: Mapping[str, float], inferred: Inferred) -> None:
        """Record one answered request of one image; see `observe`."""
        self.observe(timing_ms, inferred.detections, inferred.threads)
        self.received(inferred.body_bytes, inferred.pixels)

    def received(self, body_bytes: int, pixels: int) -> None:
        """Record the image of one answered request."""
        self._bytes.observe(body_bytes)
        self._pixels.observe(pixels)

    def observe(
        self, timing_ms: Mapping[str, float], detections: int, threads: int, model: str = DETECTOR
    ) -> None:
        """Record one answered request of one image.

        Args:
            timing_ms: Stage, or ``total``, -> milliseconds.
            detections: Number of objects in the answer.
            threads: Threads of the lane that ran it.
            model: Its kind; see `seatrial.serve.statistics`.
        """
        self.observe_image(timing_ms, detections, threads, model)
        self.models.answered(model)

    def observe_stages(self, timing_ms: Mapping[str, float], model: str = DETECTOR) -> None:
        """Record the times of stages; see `observe`."""
        for stage, value in timing_ms.items():
            self._stages(stage).observe(value / 1e3)
        self.models.took(model, timing_ms)

    def observe_image(
        self, timing_ms: Mapping[str, float], detections: int, threads: int, model: str = DETECTOR
    ) -> None:
        """Record one image of a request; see `observe`."""
        self.observe_stages(timing_ms, model)
        self.models.inferred(model)
        self._detections.inc(detections)
        self._lanes(threads).inc()
        now = time.monotonic()
        if now - self._memory_at >= MEMORY_EVERY_S:
            self._memory_at = now
            self._memory.set(resident_bytes())


_of_process: list[RequestMetrics] = []


def request_metrics(bound_s: float | None = None) -> RequestMetrics:
    """The process's metrics: one set, since names in Prometheus' registry are global.

    Args:
        bound_s: See `RequestMetrics`; the first call decides.
    """
    if not _of_process:
        _of_process.append(RequestMetrics(bound_s))
    return _of_process[0]
