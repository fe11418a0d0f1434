"""``seatrial serve``: a deployment as a running service."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from seatrial.cli.console import err, home, progress, store
from seatrial.cli.deployment import DeploymentOptions


def serve(
    *,
    options: DeploymentOptions | None = None,
    host: str | None = None,
    port: int | None = None,
    log: Literal["errors", "requests"] | None = None,
    token_file: Path | None = None,
    cors_origins: Sequence[str] | None = None,
    write: Path | None = None,
) -> None:
    """Serve a detector over HTTP.

    POST /detect takes an image (multipart field "image", or a raw image/* body) and answers
    JSON; POST /detect.jpg answers the image with the boxes drawn; GET /model, /livez, /readyz
    and /metrics report on the service. On SIGTERM and Ctrl-C, running requests end first.

    Args:
        options: What to serve, and how.
        host: Address to listen on [default: 127.0.0.1].
        port: Port to listen on; 0 takes a free one [default: 3000].
        log: errors, or requests too: a JSON line for each request on standard error, with its
            status, duration and size [default: errors].
        token_file: File of bearer tokens, one a line, which is read again when it changes; every
            request needs one of them, except those for /livez, /readyz and /healthz.
        cors_origins: Origins whose pages may read answers: https://app.example.com; or *.
        write: Write the service folder, which `bentoml serve` starts, and start nothing.
    """
    from seatrial.system.extras import require

    for module in ("bentoml", "prometheus_client", "starlette"):
        require(module, extra="serve", purpose="serving")
    from seatrial.models.resolve import resolve
    from seatrial.serve import process
    from seatrial.serve.runtimes import supervise
    from seatrial.serve.startup import check, in_words

    deployment = (options or DeploymentOptions()).resolve(
        host=host,
        port=port,
        log=log,
        token_file=None if token_file is None else str(token_file.absolute()),
        cors_origins=cors_origins,
    )
    deployment = process.with_port(deployment)
    server = deployment.server
    artifact = resolve(store(), deployment.model)
    if write is None:
        process.check_port(server.host, server.port)
        process.metrics_root()
    # A worker that cannot start is started again and again: find out here that it can.
    engine = check(artifact, deployment)
    folder = write or home() / "services" / f"{artifact.manifest.name}-{server.port}"
    process.write_service(folder, artifact, deployment, with_package=write is not None)
    if write is not None:
        start = shlex.join(process.command_by_hand(folder, deployment))
        err.print(f"wrote {folder}; start it with: {start}", highlight=False, soft_wrap=True)
        return
    progress(f"{artifact.manifest.name} on {engine}: {in_words(deployment)}")
    # The address is printed once it answers: whoever copies it earlier gets no answer.
    err.print("starting  (Ctrl-C ends)")
    command = supervise.command(folder, deployment)
    # stdout is for data; BentoML's log is none.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Ctrl-C waits until the next program can take it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # In this process's place: signals reach the service's own supervisor.
    os.execve(command[0], command, process.environment(os.environ, folder))  # noqa: S606
