"""A deployment as one server process serves it: the same in every runtime."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path

import msgspec
from starlette.applications import Starlette

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.detect.opening import layout
from seatrial.serve import log
from seatrial.serve.app import create_app
from seatrial.serve.companions import companions
from seatrial.serve.metrics_page import METRICS
from seatrial.serve.peers import Peers, Take
from seatrial.serve.runtimes import starts
from seatrial.serve.runtimes.draining import Drain
from seatrial.serve.runtimes.metrics_folder import FOLDER, reserve_metrics
from seatrial.serve.served_state import ServedState
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.spans import Spans, protocol_of, wanted
from seatrial.serve.startup import open_service
from seatrial.serve.worker_commands import WorkerCommands


class OwnWorker(msgspec.Struct, frozen=True):
    """The place of a server process that our supervisor started; see `own_worker`.

    Attributes:
        index: Number of the process among those of its supervisor, from 0.
        failed_starts: Failed starts in a row that end the supervisor.
    """

    index: int
    failed_starts: int


_own_worker: list[OwnWorker] = []


def become_worker(worker: OwnWorker) -> None:
    """Have this process serve what its ``service.py`` names, without BentoML."""
    _own_worker.append(worker)


def own_worker() -> OwnWorker | None:
    """The worker that `become_worker` was told of; None in other processes."""
    return _own_worker[0] if _own_worker else None


class Served:
    """Opens the service of a deployment file, and makes the application that a server runs.

    Args:
        deployment_file: TOML file; a relative model path in it starts at the file's folder.
        worker: Index of this process among those of its supervisor, from 0.
        failed_starts: Failed starts in a row that end the supervisor.

    Attributes:
        deployment: What the file says.
        start: Opens what the process serves; may be replaced before `application` is called.
        drain: Ends the process.

    Raises:
        InvalidConfig: The deployment is not valid.
    """

    def __init__(
        self, deployment_file: Path, worker: int = 0, failed_starts: int = starts.MOST
    ) -> None:
        self.deployment = Deployment.read(deployment_file)
        log.configure(self.deployment.server.log_format)
        self._folder = deployment_file.parent
        self._worker = worker
        self._failed_starts = failed_starts
        self.start: Callable[[], Service] = self.open
        server, limits = self.deployment.server, self.deployment.limits
        self.drain = Drain(server.drain_notice_s, limits.drain_s)

    @property
    def is_first(self) -> bool:
        """Whether this process is the first of its supervisor, or the only one."""
        return self._worker == 0

    def open(self) -> Service:
        """Open the model, compile it and warm it up."""
        folder = starts.folder()
        state = ServedState.read(folder) if folder else None  # once another model was swapped in
        artifact = Artifact.open(
            Path(state.path) if state else self._folder / self.deployment.model
        )
        workers, _ = layout(self.deployment)
        name = state.served_as if state else None
        return open_service(artifact, self.deployment, self._worker % workers, name=name)

    def open_beside(self, artifact: Artifact, beside: Service) -> Service:
        """Open another model beside the one that is served."""
        return open_service(artifact, self.deployment, beside=beside)

    def peers(self, take: Take) -> Peers | None:
        """The other processes of this one's supervisor; None where it is alone.

        Args:
            take: See `Peers`.
        """
        count, _ = layout(self.deployment)
        if count < 2 or FOLDER not in os.environ:
            return None
        try:
            return Peers(Path(os.environ[FOLDER]), self._worker % count, count, take)
        except OSError as error:  # such as a name too long for a socket: it serves all the same
            reason = f"connections are not shared evenly among processes: {error}"
            log.say("warning", "peers", reason)
            return None

    def counted_start(self) -> AbstractContextManager[Callable[[], None]]:
        """The start of this process; see `starts.counted`."""
        return starts.counted(self._worker, self._failed_starts)

    def application(self) -> Starlette:
        """The application; it opens the service at its start-up, and drains on SIGTERM."""

        def begin() -> Service:
            reserve_metrics()
            return self.start()

        def on_start(serving: Serving) -> None:
            serving.metrics.worker_died(starts.deaths())
            self.drain.listen(serving)
            if (folder := starts.folder()) is not None:
                WorkerCommands(serving, self.open_beside, folder)

        @contextlib.asynccontextmanager
        async def around() -> AsyncIterator[None]:
            yield
            self.drain.end(app.state.serving)

        app = create_app(
            begin,
            on_start=on_start,
            probes=[METRICS],
            around=around,
            companions=companions(self.deployment),
            log_requests=self.deployment.server.log == "requests",
            spans=self._spans(),
        )
        return app

    def _spans(self) -> Spans | None:
        """Tracing, where OpenTelemetry's variables ask for it."""
        if not wanted(os.environ):
            return None
        named = {"service.name": "seatrial", "service.version": version("seatrial")}
        return Spans(named, protocol=protocol_of(os.environ))
