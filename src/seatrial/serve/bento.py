"""The BentoML service around the request path.

BentoML starts, supervises and drains the processes, and gives them liveness, readiness and
``/metrics``. The request itself goes from uvicorn straight to `seatrial.serve.app`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml
from _bentoml_sdk import Service as _BentoService
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

from seatrial.artifact import Artifact
from seatrial.contract import Deployment
from seatrial.serve.app import Service, create_app
from seatrial.serve.runtime import layout, open_service

NAME = "Seatrial"
# Middleware that BentoML puts around every request and that this service replaces:
# - TimeoutMiddleware starts a timer for each request and never cancels it: 5 KB stay allocated
#   until the time-out. The deadline is kept by seatrial.serve.dispatch, which cancels its own.
# - OpenTelemetryMiddleware opens spans for each ASGI message also where no exporter is set.
REPLACED = (TimeoutMiddleware, OpenTelemetryMiddleware)


class DirectService(_BentoService[Any]):
    """A BentoML service whose application keeps only the middleware that it needs."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's application without `REPLACED`."""
        app: Any = super().to_asgi(is_main=is_main)
        app.user_middleware = [m for m in app.user_middleware if m.cls not in REPLACED]
        return app


def service(deployment_file: Path) -> DirectService:
    """The service of a deployment file; what ``service.py`` of a generated folder calls.

    Nothing is compiled here: BentoML's supervisor imports the service too.

    Args:
        deployment_file: TOML; a relative model path in it starts at its folder.

    Raises:
        InvalidConfig: The deployment is not valid.
    """
    deployment = Deployment.read(deployment_file)
    workers, _ = layout(deployment)

    def start() -> Service:
        artifact = Artifact.open(deployment_file.parent / deployment.model)
        # Counted from 1; None in a process that BentoML started alone.
        index = (bentoml.server_context.worker_index or 1) - 1
        return open_service(artifact, deployment, index % workers)

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
