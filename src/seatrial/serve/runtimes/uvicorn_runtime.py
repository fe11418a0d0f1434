"""uvicorn as a runtime: one process that listens and serves, and no supervisor."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.progress import Progress
from seatrial.serve.address import check_ports
from seatrial.serve.runtimes.alone import one_process
from seatrial.serve.runtimes.base import Launch
from seatrial.serve.service_folder import write_service
from seatrial.serve.startup import check_server, in_words
from seatrial.system.extras import check_installed
from seatrial.system.memory import heap_environment


class Uvicorn:
    """See `seatrial.serve.runtimes.base.Runtime`."""

    def require(self) -> None:
        """Check that the server is installed."""
        for module in ("prometheus_client", "starlette", "uvicorn"):
            check_installed(module, extra="serve", purpose="serving")

    def launch(
        self,
        artifact: Artifact,
        deployment: Deployment,
        folder: Path,
        environment: Mapping[str, str],
        on_progress: Progress,
    ) -> Launch:
        """The server, on the artifact where it is: nothing is written, and nothing tried before."""
        server = deployment.server
        deployment = one_process(deployment)
        check_ports(server)
        check_server(server)
        on_progress(f"{artifact.manifest.name} on {deployment.engine}: {in_words(deployment)}")
        absolute = msgspec.structs.replace(deployment, model=str(artifact.path.absolute()))
        return Launch(_command(_kept_in_memory(absolute.to_toml())), heap_environment(environment))

    def command(
        self, folder: Path, deployment: Deployment, environment: Mapping[str, str] = os.environ
    ) -> list[str]:
        """The server, on a service folder."""
        one_process(deployment)
        return _command(folder / "deployment.toml")

    def write(self, folder: Path, artifact: Artifact, deployment: Deployment) -> list[str]:
        """A folder with the model and the deployment."""
        write_service(folder, artifact, one_process(deployment), with_package=True)
        return ["python", *_command(folder.absolute() / "deployment.toml")[1:]]


def _command(deployment_file: Path) -> list[str]:
    return [sys.executable, "-m", "seatrial.serve.runtimes.alone", str(deployment_file)]


def _kept_in_memory(text: str) -> Path:
    """A file in memory that lives as long as this process, whatever program runs in it.

    The root of a container may be read-only.
    """
    descriptor = os.memfd_create("deployment.toml", 0)
    os.write(descriptor, text.encode())
    return Path(f"/proc/self/fd/{descriptor}")
