"""Services of the tiny detector in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, RuntimeName, Server
from seatrial.serve.address import with_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.service_folder import write_service


@pytest.fixture(scope="session")
def start_service(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ServiceProcess]:
    """Starts a service on a free port; a context manager that is ready when entered.

    Server processes of BentoML's supervisor run the given code first.
    """

    def start(
        artifact: Artifact = tiny_artifact,
        *,
        engine: str = "openvino",
        layout: CoreLayout | None = None,
        limits: Limits | None = None,
        drain_notice_s: float = 0.0,
        port: int = 0,
        grpc: bool = False,
        code: str = "",
        runtime: RuntimeName = "bentoml",
        log_format: Literal["text", "json"] = "text",
        env: Mapping[str, str] | None = None,
    ) -> ServiceProcess:
        folder = tmp_path_factory.mktemp("service")
        deployment = Deployment(
            model=str(artifact.path),
            engine=engine,
            layout=layout or CoreLayout(workers=1),
            limits=limits or Limits(drain_s=20),
            server=Server(
                port=port,
                grpc_port=0 if grpc else None,
                drain_notice_s=drain_notice_s,
                log_format=log_format,
                runtime=runtime,
            ),
        )
        deployment = with_port(deployment)
        service = write_service(folder / "bento", artifact, deployment)
        with (service / "service.py").open("a") as program:
            program.write(code)
        # A supervisor that is killed leaves its temporary files.
        own = {**os.environ, "TMPDIR": str(folder), **(env or {})}
        log = folder / "service.log"
        return ServiceProcess(service, deployment, own, log, ready_within_s=60)

    return start


@pytest.fixture(scope="session")
def service(start_service: Callable[..., ServiceProcess]) -> Iterator[ServiceProcess]:
    """One running service of the tiny detector, with a body limit of 1 MiB."""
    with start_service(limits=Limits(body_bytes=2**20, drain_s=20)) as running:
        yield running
