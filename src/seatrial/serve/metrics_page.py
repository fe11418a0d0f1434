"""``GET /metrics``: what the processes of a service count, as Prometheus' text or OpenMetrics."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
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
OPEN_METRICS, TEXT = "application/openmetrics-text", "text/plain"
# Writes a page.
Encode = Callable[[Collector], bytes]
# A version of the client's own choice would be a page of its own, and is not what we write.
_FORMATS = frozenset(
    choose_encoder(f"{kind};version=1.0.0;escaping={escaping}")[1]
    for kind in (OPEN_METRICS, TEXT)
    for escaping in ("allow-utf-8", "underscores", "dots", "values")
) | {choose_encoder(kind)[1] for kind in (OPEN_METRICS, TEXT)}


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


def format_for(accept: str) -> tuple[Encode, str]:
    """The encoder of a page and its content type, in the first format that a client names.

    Args:
        accept: Header ``Accept``. Prometheus names what it prefers first. Who names no format that
            is known gets version 0.0.4 of the text format.
    """
    for one in accept.split(","):
        kind = one.partition(";")[0].strip()
        if kind not in (OPEN_METRICS, TEXT):
            continue
        with contextlib.suppress(TypeError):  # the version is no number
            encode, content_type = choose_encoder(one)
            if content_type.startswith(kind) and content_type in _FORMATS:
                return encode, content_type
    return choose_encoder(TEXT)


def page(encode: Encode = generate_latest) -> bytes:
    """The metrics of all processes of this service.

    Args:
        encode: Writes them; see `format_for`.
    """
    for _ in range(READS):
        with contextlib.suppress(FileNotFoundError):  # taken over meanwhile
            return _read(encode)
    return _read(encode)


def _read(encode: Encode) -> bytes:
    registry = CollectorRegistry()
    if FOLDER in os.environ:
        forget_dead_processes(Path(os.environ[FOLDER]))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Own())
    return encode(registry)


async def _metrics(request: Request) -> Response:
    serving: Serving = request.app.state.serving
    # Reading the files of several processes takes milliseconds: not on the event loop.
    encode, content_type = format_for(", ".join(request.headers.getlist("accept")))
    body = await serving.shared(("metrics", content_type), lambda: page(encode))
    return Response(body, headers={"Content-Type": content_type, "Vary": "Accept"})


METRICS = Route("/metrics", _metrics, methods=["GET"])
