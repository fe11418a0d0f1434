"""The BentoML service around the request path.

BentoML starts, supervises and drains the processes, and gives them liveness, readiness and
``/metrics``. The request itself goes from uvicorn straight to `seatrial.serve.app`.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import bentoml
from _bentoml_sdk import Service as _BentoService
from bentoml._internal.configuration.containers import BentoMLContainer
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.serve.app import ROUTES, Service, create_app
from seatrial.serve.process import PARENT
from seatrial.serve.startup import layout, open_service

NAME = "Seatrial"
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# BentoML's description of its own interface, which knows none of our routes.
HIDDEN = frozenset({"/docs.json"})
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class DirectService(_BentoService[Any]):
    """A BentoML service that hands our routes to our application without detours.

    BentoML wraps every request of a mounted application in its own middleware: 0.3 ms, and a
    ``TimeoutMiddleware`` that starts a timer for each request and never cancels it, so that 5 KB
    stay allocated until the time-out. Our deadline is in `seatrial.serve.admission`, our metrics in
    `seatrial.serve.metrics`. BentoML's application answers its own routes; a path that nobody has
    is ours to refuse, since BentoML's metrics would keep a series for each that is tried.
    """

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that BentoML's worker runs."""
        around: Any = super().to_asgi(is_main=is_main)
        # Mounted as well: BentoML runs its start-up and shutdown with its own.
        ours: ASGIApp = self.mount_apps[0][0]

        def unknown(scope: Scope) -> bool:
            return all(route.matches(scope)[0] is Match.NONE for route in around.routes)

        async def direct(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await around(scope, receive, send)
                return
            method, endpoint = ROUTES.get(scope["path"], ("", None))
            if endpoint is not None and method == scope["method"]:
                scope["app"] = ours  # where the endpoint finds the service
                await endpoint(scope, receive, send)
            elif endpoint is not None or scope["path"] in HIDDEN or unknown(scope):
                await ours(scope, receive, send)
            else:
                await around(scope, receive, send)

        return direct


def service(deployment_file: Path) -> DirectService:
    """The service of a deployment file; what ``service.py`` of a generated folder calls.

    Nothing is compiled here: BentoML's supervisor imports the service too.

    Args:
        deployment_file: TOML; a relative model path in it starts at its folder.

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
    built = DirectService(
        name=NAME,
        inner=inner,
        config={
            "workers": workers,
            "traffic": {"timeout": deployment.limits.deadline_s},
            "logging": {"access": {"enabled": False}},
        },
    )
    built.mount_asgi_app(create_app(start), name="detect")
    return built


def _keep_metrics_apart() -> None:
    """Give this service's processes a metrics folder of their own.

    BentoML's supervisor takes one folder for all services of a user, and empties it when it
    starts: each new service would wipe the counters of those that run.
    """
    if METRICS_FOLDER in os.environ:  # a worker: its supervisor has chosen, or the operator has
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
