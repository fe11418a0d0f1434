"""The BentoML service around the request path, by BentoML's public interface.

BentoML starts, supervises and drains the processes. The request itself goes from uvicorn straight
to `seatrial.serve.app`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import bentoml
from bentoml.serving import running_inside_container
from starlette.types import ASGIApp
from uvicorn.config import HTTP_PROTOCOLS

from seatrial.detect.opening import layout
from seatrial.errors import NotWritable, SeatrialError
from seatrial.serve import log
from seatrial.serve.parent import end_with_owner, end_with_parent
from seatrial.serve.runtimes import starts
from seatrial.serve.runtimes.metrics_folder import keep_metrics_apart
from seatrial.serve.runtimes.served import Served

NAME = "Seatrial"


class DirectService(bentoml.Service[Any]):
    """A BentoML service whose application is ours.

    BentoML wraps every request of a mounted application in its own middleware: 0.3 ms, and a
    ``TimeoutMiddleware`` that starts a timer for each request and never cancels it, so that 5 KB
    stay allocated until the time-out. Its metrics keep a series for each path that is tried. So
    its application is not used; see docs/decisions/0002.

    Attributes:
        served: What a server process serves.
    """

    served: Served

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that BentoML's own worker runs."""
        # BentoML makes uvicorn's configuration itself, with the protocol of this name.
        HTTP_PROTOCOLS["auto"] = "seatrial.serve.http_protocol:HttpProtocol"
        app = self.served.application()
        live = app.router.lifespan_context

        @contextlib.asynccontextmanager
        async def counted(of: Any) -> AsyncIterator[Any]:
            with self.served.counted_start() as serves:
                async with live(of) as state:
                    serves()
                    yield state

        app.router.lifespan_context = counted
        return app


def direct_service(deployment_file: Path) -> DirectService:
    """The service of a deployment file, in BentoML's supervisor or in a worker of its own.

    Args:
        deployment_file: TOML file; a relative model path in it starts at the file's folder.

    Raises:
        InvalidConfig: The deployment is not valid.
    """
    end_with_owner()
    # Counted from 1; None in a process that BentoML started alone.
    index = bentoml.server_context.worker_index
    # BentoML starts no worker again in a container.
    failed_starts = 1 if running_inside_container() else starts.MOST
    try:
        served = Served(deployment_file, (index or 1) - 1, failed_starts)
    except SeatrialError as error:
        _end(error)
    deployment = served.deployment
    if index is not None:
        end_with_parent(starts.supervisor() or os.getppid())
    elif starts.supervise():
        from seatrial.serve.runtimes import supervisor  # workers do without it

        try:
            folder = keep_metrics_apart()
        except NotWritable as error:
            _end(error)
        # BentoML makes a folder, too, and leaves it where it is killed: it goes with ours.
        tempfile.tempdir = str(starts.own_folder())
        log.configure(deployment.server.log_format)  # BentoML has made its own handlers since
        supervisor.take_over(deployment_file, deployment, folder)
    workers, _ = layout(deployment)
    inner = type(NAME, (), {"__doc__": "Object detection"})
    built: DirectService = bentoml.service(
        service_class=DirectService,
        workers=workers,
        traffic={"timeout": deployment.limits.longest_deadline_s},
        logging={"access": {"enabled": False}},
    )(inner)
    built.served = served
    return built


def _end(error: SeatrialError) -> NoReturn:
    """End the process with an error that BentoML's traceback would hide."""
    log.say("error", "start_failed", f"the service did not start: {error.message}", error.hint)
    sys.exit(error.exit_code)
