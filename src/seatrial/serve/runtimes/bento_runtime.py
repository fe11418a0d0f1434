"""BentoML as a runtime: its supervisor starts server processes, and new ones in their place."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.progress import Progress
from seatrial.serve.address import check_ports
from seatrial.serve.runtimes.base import Launch
from seatrial.serve.runtimes.metrics_folder import metrics_root
from seatrial.serve.runtimes.supervise import bentoml_words, command, options
from seatrial.serve.service_folder import environment as service_environment
from seatrial.serve.service_folder import write_service
from seatrial.serve.startup import check, in_words
from seatrial.system.extras import check_installed


class BentoMl:
    """See `seatrial.serve.runtimes.base.Runtime`."""

    def require(self) -> None:
        """Check that BentoML and the server are installed."""
        for module in ("bentoml", "prometheus_client", "starlette"):
            check_installed(module, extra="serve", purpose="serving")

    def launch(
        self,
        artifact: Artifact,
        deployment: Deployment,
        folder: Path,
        environment: Mapping[str, str],
        on_progress: Progress,
    ) -> Launch:
        """The supervisor, on a service folder."""
        server = deployment.server
        check_ports(server)
        metrics_root()
        # A worker that cannot start is started again and again: find out here that it can.
        engine = check(artifact, deployment)
        write_service(folder, artifact, deployment, setting="SEATRIAL_HOME")
        on_progress(f"{artifact.manifest.name} on {engine}: {in_words(deployment)}")
        return Launch(command(folder, deployment), service_environment(environment, folder))

    def command(
        self, folder: Path, deployment: Deployment, environment: Mapping[str, str] = os.environ
    ) -> list[str]:
        """``bentoml serve`` of a service folder."""
        metrics_root()
        return [sys.executable, "-m", "bentoml", *bentoml_words(folder, deployment)]

    def write(self, folder: Path, artifact: Artifact, deployment: Deployment) -> list[str]:
        """A folder that ``bentoml serve`` starts and ``bentoml build`` packs."""
        check(artifact, deployment)
        write_service(folder, artifact, deployment, with_package=True)
        # BentoML takes a relative folder for the name of a service in its own store.
        return ["bentoml", "serve", str(folder.absolute()), *options(deployment)]
