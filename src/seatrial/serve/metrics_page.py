"""``GET /metrics``: what the processes of a service count, in Prometheus' text format."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from seatrial.serve.metrics_files import forget_dead_processes
from seatrial.serve.serving import Serving

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # set where several processes are one service
READS = 3  # of files that get another name meanwhile: `take_over_files`
OURS = "seatrial_"  # how the names of all our metrics begin


class _Own(Collector):
    """This process's metrics in the form of several processes: no times of creation."""

    def collect(self) -> Iterator[Metric]:
        for metric in REGISTRY.collect():
            if metric.name.startswith(OURS):
                metric.samples = [
                    one for one in metric.samples if not one.name.endswith("_created")
                ]
                if metric.samples:
                    yield metric


def page() -> bytes:
    """The metrics of all processes of this service."""
    for _ in range(READS):
        with contextlib.suppress(FileNotFoundError):  # taken over meanwhile
            return _read()
    return _read()


def _read() -> bytes:
    registry = CollectorRegistry()
    if FOLDER in os.environ:
        forget_dead_processes(Path(os.environ[FOLDER]))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Own())
    return generate_latest(registry)


async def _metrics(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    # Reading the files of several processes takes milliseconds: not on the event loop.
    body = await serving.shared("metrics", lambda: page())
    return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})


METRICS = Route("/metrics", _metrics, methods=["GET"])
