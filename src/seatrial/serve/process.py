"""A service in a process of its own, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Server
from seatrial.errors import ServiceFailed
from seatrial.progress import Progress, silent
from seatrial.serve.address import (
    check_ports,
    grpc_url,
    is_ready,
    url,
    with_port,
)
from seatrial.serve.parent import PARENT
from seatrial.serve.runtimes.registry import runtime
from seatrial.serve.service_folder import environment, write_service
from seatrial.system.children import end
from seatrial.system.files import writing
from seatrial.system.token_files import SERVER_TOKENS

STARTUP_FAILED = "startup failed"  # uvicorn's words
SCRATCH = ".scratch-"  # folders of services that run for a while only: .scratch-PID-RANDOM


class ServiceProcess:
    """A service in a process group of its own.

    Use as a context manager: the service is ready when the block begins; it is drained and gone
    when the block ends.

    Args:
        folder: A folder from `write_service`.
        deployment: The deployment written there.
        env: Environment that the process starts with; see `environment`.
        log: File that takes its output.
        ready_within_s: How long compiling and warming up may take.

    Attributes:
        url: Address of the service.
        grpc_url: Address of its gRPC; empty where it is not served.
        process: Its first process: a supervisor, or the server itself.
    """

    def __init__(
        self,
        folder: Path,
        deployment: Deployment,
        env: Mapping[str, str],
        log: Path,
        *,
        ready_within_s: float = 180.0,
    ) -> None:
        server = deployment.server
        program = runtime(server.runtime)
        program.require()
        self.url, self.grpc_url = url(server), grpc_url(server)
        self._deployment = deployment
        self._log = log
        self._ready_within_s = ready_within_s
        check_ports(server)
        words = program.command(folder, deployment, env)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                words,
                env={**environment(env, folder), PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> ServiceProcess:
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def wait_ready(self) -> None:
        """Return once the service answers ``/readyz``.

        Raises:
            ServiceFailed: It ended, or was not ready in time; the message ends with the last
                lines of its log.
        """
        give_up = time.monotonic() + self._ready_within_s
        while time.monotonic() < give_up:
            if self.process.poll() is not None:
                raise ServiceFailed(
                    f"the service ended with code {self.process.returncode} before it was ready:\n"
                    f"{self._end_of_log()}"
                )
            if is_ready(self._deployment.server):
                return
            # BentoML starts a worker that fails again and again; the first failure counts.
            if failure := self._end_of_log(until=STARTUP_FAILED):
                raise ServiceFailed(f"the service did not start:\n{failure}")
            time.sleep(0.1)
        raise ServiceFailed(
            f"the service was not ready within {self._ready_within_s:g} s:\n{self._end_of_log()}"
        )

    def stop(self) -> None:
        """Send SIGTERM, wait for the drain, kill what is left after it."""
        end(self.process, grace_s=self._deployment.limits.drain_s + 15)

    def _end_of_log(self, until: str = "") -> str:
        """Last lines of the log, or of its part up to a text; empty where the text is not in it."""
        before, found, _ = self._log.read_text(errors="replace").partition(until or "\0")
        if until and not found:
            return ""
        return "\n".join((before + found).splitlines()[-15:])


@contextlib.contextmanager
def scratch_service(
    deployment: Deployment,
    artifact: Artifact,
    folder: Path,
    environment: Mapping[str, str],
    on_progress: Progress = silent,
) -> Iterator[ServiceProcess]:
    """Run a service on a free port for as long as the block lasts.

    Args:
        deployment: Its port is replaced by a free one.
        artifact: The model to serve.
        folder: Takes the service folder and the log, which are removed at the end. What killed
            processes left there is removed too.
        environment: Environment that the service starts with.
        on_progress: Called when the service starts and when it stops.

    Yields:
        The service, ready.

    Raises:
        SeatrialError: The engine cannot run as the deployment says, or see `ServiceProcess`.
    """
    from seatrial.serve.startup import check  # loads the application, which clients do not need

    runtime(deployment.server.runtime).require()
    # No balancer sends requests to it: none has to be told that it ends. Nobody else knows it.
    given = deployment.server
    anywhere = Server(
        given.host,
        0,
        None if given.grpc_port is None else 0,
        drain_notice_s=0.0,
        log=given.log,
        runtime=given.runtime,
    )
    environment = {key: value for key, value in environment.items() if key != SERVER_TOKENS}
    triton = msgspec.structs.replace(deployment.triton, metrics_port=None)
    deployment = with_port(msgspec.structs.replace(deployment, server=anywhere, triton=triton))
    # A worker that cannot start is started again and again: find out here that it can.
    engine = check(artifact, deployment)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(folder)
        scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=folder))
    try:
        service = write_service(scratch / "service", artifact, deployment)
        on_progress(f"starting {artifact.manifest.name} on {engine}")
        log = scratch / "service.log"
        with ServiceProcess(service, deployment, environment, log) as running:
            yield running
            on_progress("stopping the service")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _remove_left_behind(folder: Path) -> None:
    """Remove the scratch folders of processes that are gone."""
    for left in folder.glob(f"{SCRATCH}*"):
        pid = left.name.removeprefix(SCRATCH).partition("-")[0]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(left, ignore_errors=True)
