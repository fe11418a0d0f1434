"""Work of each model since the service started: the statistics of the Open Inference Protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge
from prometheus_client.multiprocess import MultiProcessCollector

from seatrial.detect.clock import REQUEST_STAGES
from seatrial.serve.tallies import tallies

# Where several processes keep their metrics; BentoML sets it.
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
# The two models that a service has: images to boxes, and the graph inside.
DETECTOR, GRAPH = "detector", "graph"


class ModelMetrics:
    """Counts and times of one process, by model.

    Args:
        registry: Registry that takes them.

    Attributes:
        outcome: Number of requests of a model and an outcome, ``success`` or ``failure``.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        outcomes = Counter(
            "seatrial_model_requests", "Requests by model and outcome.", ["model", "outcome"],
            registry=registry,
        )  # fmt: skip
        images = Counter(
            "seatrial_model_images", "Images inferred by model.", ["model"], registry=registry
        )
        seconds = Counter(
            "seatrial_model_seconds", "Time of requests by model and stage.", ["model", "stage"],
            registry=registry,
        )  # fmt: skip
        last = Gauge(
            "seatrial_model_last_answer_timestamp_seconds", "Time of the last answer by model.",
            ["model"], multiprocess_mode="livemax", registry=registry,
        )  # fmt: skip
        self.outcome = tallies(outcomes)
        self._images = tallies(images)
        self._seconds = tallies(seconds)
        self._last = tallies(last)
        for model in (DETECTOR, GRAPH):
            for outcome in ("success", "failure"):
                self.outcome(model, outcome)
            self._images(model)

    def answered(self, model: str) -> None:
        """Count one request that a model answered: `DETECTOR` or `GRAPH`."""
        self.outcome(model, "success").inc()
        self._last(model).set(time.time())

    def failed(self, model: str) -> None:
        """Count one request that a model did not answer."""
        self.outcome(model, "failure").inc()

    def inferred(self, model: str) -> None:
        """Count one image."""
        self._images(model).inc()

    def took(self, model: str, timing_ms: Mapping[str, float]) -> None:
        """Add the times of stages: stage, or ``total``, -> milliseconds."""
        for stage, value in timing_ms.items():
            self._seconds(model, stage).inc(value / 1e3)


class Statistics(NamedTuple):
    """Work of a model since the service started, in all of its processes.

    Attributes:
        answered: Requests.
        failed: Requests that ended otherwise.
        images: Images inferred.
        seconds: Stage, or ``total``, -> seconds.
        last_s: Time of the last answer, seconds since 1970; 0 before the first.
    """

    answered: int
    failed: int
    images: int
    seconds: dict[str, float]
    last_s: float


def recorded_statistics(model: str) -> Statistics:
    """The statistics of `DETECTOR` or `GRAPH`. Reads files: not for the event loop."""
    registry = REGISTRY
    if MULTIPROCESS in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in registry.collect()
        if metric.name.startswith("seatrial_model_")
        for sample in metric.samples
        if sample.labels.get("model") == model
    }

    def value(name: str, **labels: str) -> float:
        key = (f"seatrial_model_{name}", *sorted({"model": model, **labels}.items()))
        return found.get(key, 0.0)

    seconds = {stage: value("seconds_total", stage=stage) for stage in (*REQUEST_STAGES, "total")}
    return Statistics(
        int(value("requests_total", outcome="success")),
        int(value("requests_total", outcome="failure")),
        int(value("images_total")),
        seconds,
        value("last_answer_timestamp_seconds"),
    )
