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
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.serving import running_inside_container
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.detect.opening import layout
from seatrial.errors import NotWritable
from seatrial.serve.app import create_app
from seatrial.serve.metrics import forget_dead_processes, reserve_files
from seatrial.serve.process import PARENT, metrics_root
from seatrial.serve.runtimes import starts
from seatrial.serve.runtimes.draining import Drain
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.startup import open_service
from seatrial.system.files import in_use, is_in_use

NAME = "Seatrial"
METRICS_PREFIX = "seatrial-metrics-"  # of the folders, before the id of the supervisor
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# The path that BentoML's application answers; every other one is ours.
METRICS = "/metrics"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class DirectService(bentoml.Service[Any]):
    """A BentoML service whose application is ours, with BentoML's ``/metrics`` in it.

    BentoML wraps every request of a mounted application in its own middleware: 0.3 ms, and a
    ``TimeoutMiddleware`` that starts a timer for each request and never cancels it, so that 5 KB
    stay allocated until the time-out. Its metrics keep a series for each path that is tried.
    So BentoML's application is a part of ours, for `METRICS`, and not the other way round; see
    docs/decisions/0002.

    Attributes:
        start: Opens what a worker serves.
        drain: Ends a worker.
        log_requests: Whether each request is a line in the log.
    """

    start: Callable[[], Service]
    drain: Drain
    log_requests: bool = False

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that BentoML's worker runs."""
        # BentoML makes uvicorn's configuration itself, with the protocol of this name.
        HTTP_PROTOCOLS["auto"] = "seatrial.serve.http_protocol:HttpProtocol"
        probes: Any = super().to_asgi(is_main=is_main)

        @contextlib.asynccontextmanager
        async def around() -> AsyncIterator[None]:
            async with probes.router.lifespan_context(probes):
                yield
            self.drain.end(app.state.serving)

        def start() -> Service:
            # BentoML starts no worker again in a container.
            most = 1 if running_inside_container() else starts.MOST
            return starts.counted(self._open, bentoml.server_context.worker_index or 0, most)

        def on_start(serving: Serving) -> None:
            serving.metrics.worker_died(starts.deaths())
            self.drain.listen(serving)

        app = create_app(
            start,
            on_start=on_start,
            probes=[Route(METRICS, _LiveMetrics(probes))],
            around=around,
            log_requests=self.log_requests,
        )
        return app

    def _open(self) -> Service:
        _reserve_metrics()
        return self.start()


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
    if starts.supervise():
        from seatrial.serve.runtimes import supervisor  # workers do without it

        supervisor.take_over(deployment.limits.drain_s)
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
        traffic={"timeout": deployment.limits.longest_deadline_s},
        logging={"access": {"enabled": False}},
    )(inner)
    built.start = start
    built.drain = Drain(deployment.server.drain_notice_s, deployment.limits.drain_s)
    built.log_requests = deployment.server.log == "requests"
    return built


def _keep_metrics_apart() -> None:
    """Give this service's processes a metrics folder of their own.

    BentoML's supervisor takes one folder for all services of a user, and empties it when it
    starts: each new service would wipe the counters of those that run.
    """
    if METRICS_FOLDER in os.environ:  # a worker has it of its supervisor
        return
    try:
        root = metrics_root()
    except NotWritable as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")  # BentoML's traceback would hide it
    for left in root.glob(f"{METRICS_PREFIX}*"):  # by processes that were killed
        if not is_in_use(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{METRICS_PREFIX}{os.getpid()}"
    folder.mkdir(exist_ok=True)
    _mark(folder)
    BentoMLContainer.prometheus_multiproc_dir.set(str(folder))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _reserve_metrics() -> None:
    """Take the room for a worker's metrics, and remove them with a supervisor that was killed."""
    if METRICS_FOLDER not in os.environ:
        return
    folder, supervisor = Path(os.environ[METRICS_FOLDER]), os.getppid()
    _mark(folder)
    reserve_files(folder)

    def end() -> None:
        if os.getppid() != supervisor:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)


def _mark(folder: Path) -> None:
    """Mark a folder as in use until this process ends."""
    held = contextlib.ExitStack()
    held.enter_context(in_use(folder))
    atexit.register(held.close)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent process ends; see prctl(2).

    BentoML's workers are sessions of their own: they would go on, unsupervised and with the port,
    if their supervisor was killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
