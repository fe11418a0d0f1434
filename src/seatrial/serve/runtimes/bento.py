"""The BentoML service around the request path.

BentoML starts, supervises and drains the processes, and gives them liveness, readiness and
``/metrics``. The request itself goes from uvicorn straight to `seatrial.serve.app`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.detect.opening import layout
from seatrial.errors import NotWritable
from seatrial.serve.app import Service, create_app
from seatrial.serve.metrics import forget_dead_processes
from seatrial.serve.process import PARENT, check_temporary_room
from seatrial.serve.startup import open_service

NAME = "Seatrial"
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# What BentoML's application answers; every other path is ours.
PROBES = ("/livez", "/readyz", "/healthz")
METRICS = "/metrics"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class DirectService(bentoml.Service[Any]):
    """A BentoML service whose application is ours, with BentoML's probes in it.

    BentoML wraps every request of a mounted application in its own middleware: 0.3 ms, and a
    ``TimeoutMiddleware`` that starts a timer for each request and never cancels it, so that 5 KB
    stay allocated until the time-out. Its metrics keep a series for each path that is tried.
    So BentoML's application is a part of ours, for `PROBES` and `METRICS`, and not the other way
    round; see docs/decisions/0002.

    Attributes:
        start: Opens what a worker serves.
    """

    start: Callable[[], Service]

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that BentoML's worker runs."""
        probes: Any = super().to_asgi(is_main=is_main)

        @contextlib.asynccontextmanager
        async def around() -> AsyncIterator[None]:
            async with probes.router.lifespan_context(probes):
                yield
            if app.state.service.dispatcher.detector.lanes.present:
                # The drain is over, and Python would wait for the threads.
                sys.stderr.write("requests that still run are left behind\n")
                sys.stderr.flush()
                os._exit(0)

        app = create_app(
            self.start,
            probes=[
                *(Route(path, probes) for path in PROBES),
                Route(METRICS, _LiveMetrics(probes)),
            ],
            around=around,
        )
        return app


class _LiveMetrics:
    """BentoML's ``/metrics`` without the gauges of processes that were killed."""

    def __init__(self, probes: ASGIApp) -> None:
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if METRICS_FOLDER in os.environ:
            forget_dead_processes(Path(os.environ[METRICS_FOLDER]))
        await self._probes(scope, receive, send)


def service(deployment_file: Path) -> DirectService:
    """The BentoML service of a deployment file; ``service.py`` of a service folder calls this.

    Nothing is compiled here: BentoML's supervisor imports the service too.

    Args:
        deployment_file: TOML file; a relative model path in it starts at the file's folder.

    Raises:
        InvalidConfig: The deployment is not valid.
    """
    if os.environ.get(PARENT) == str(os.getppid()):
        _end_with_parent()
    deployment = Deployment.read(deployment_file)
    workers, _ = layout(deployment)
    _keep_metrics_apart()

    def start() -> Service:
        artifact = Artifact.open(deployment_file.parent / deployment.model)
        # Counted from 1; None in a process that BentoML started alone.
        index = bentoml.server_context.worker_index
        if index is not None:
            _end_with_parent()
        return open_service(artifact, deployment, ((index or 1) - 1) % workers)

    inner = type(NAME, (), {"__doc__": f"Object detection: {deployment.model}"})
    built: DirectService = bentoml.service(
        service_class=DirectService,
        workers=workers,
        traffic={"timeout": deployment.limits.deadline_s},
        logging={"access": {"enabled": False}},
    )(inner)
    built.start = start
    return built


def _keep_metrics_apart() -> None:
    """Give this service's processes a metrics folder of their own.

    BentoML's supervisor takes one folder for all services of a user, and empties it when it
    starts: each new service would wipe the counters of those that run.
    """
    chosen = os.environ.get(METRICS_FOLDER)  # a worker: by its supervisor, or by the operator
    try:
        check_temporary_room(Path(chosen) if chosen and Path(chosen).is_dir() else None)
    except NotWritable as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")  # BentoML's traceback would hide it
    if chosen:
        return
    folder = Path(tempfile.gettempdir()) / f"seatrial-metrics-{os.getpid()}"
    BentoMLContainer.prometheus_multiproc_dir.set(str(folder))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent process ends; see prctl(2).

    BentoML's workers are sessions of their own: they would go on, unsupervised and with the port,
    if their supervisor was killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
