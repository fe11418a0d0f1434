"""``seatrial serve``: a deployment as a running service."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from seatrial.cli.console import err, home, progress
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.config import encode_json
from seatrial.deployment import Deployment, RuntimeName
from seatrial.errors import InvalidConfig

if TYPE_CHECKING:
    from seatrial.progress import Progress


def serve(
    *,
    options: DeploymentOptions | None = None,
    host: str | None = None,
    port: int | None = None,
    grpc_port: int | None = None,
    log: Literal["errors", "requests"] | None = None,
    log_format: Literal["text", "json"] | None = None,
    token_file: Path | None = None,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    cors_origins: Sequence[str] | None = None,
    on: RuntimeName | None = None,
    write: Path | None = None,
    triton: TritonOptions | None = None,
) -> None:
    """Serve a detector over HTTP.

    POST /detect takes an image (multipart field "image", or a raw image/* body) and answers
    JSON; POST /detect.jpg answers the image with the boxes drawn; GET /model, /livez, /readyz
    and /metrics report on the service. On SIGTERM and Ctrl-C, running requests end first.

    Args:
        options: What to serve, and how.
        host: Address to listen on [default: 127.0.0.1].
        port: Port to listen on; 0 takes a free one [default: 3000].
        grpc_port: Port of the Open Inference Protocol over gRPC, with health checking and
            reflection; 0 takes a free one [default: it is not served].
        log: errors, or requests too: a line for each request on standard error, with its status,
            duration and size [default: errors].
        log_format: Form of the lines on standard error: text, or json [default: text].
        token_file: File of bearer tokens, one a line, which is read again when it changes; every
            request needs one of them, except those for /livez, /readyz and /healthz.
        tls_certificate: PEM file with the certificate, and those between it and the authority: the
            service speaks https. Read again when it changes, as its key is.
        tls_key: PEM file with its key, without a password.
        cors_origins: Origins whose pages may read answers: https://app.example.com; or *.
        on: Runtime: bentoml starts server processes and others in the place of those that end;
            uvicorn is one process, for containers and systemd; triton is NVIDIA's server, with
            the Open Inference Protocol alone [default: bentoml].
        write: Write a folder that the runtime starts, on another machine too, and start nothing.
        triton: The server that --on triton starts.
    """
    from seatrial.serve.address import check_distinct, with_port
    from seatrial.serve.origin import ORIGIN, Origin
    from seatrial.serve.rehearsing import check_rules
    from seatrial.serve.runtimes.handover import hold_signals
    from seatrial.serve.runtimes.registry import runtime

    deployment = (options or DeploymentOptions()).resolve(
        host=host,
        port=port,
        grpc_port=grpc_port,
        log=log,
        log_format=log_format,
        **{
            name: str(file.absolute())
            for name, file in (
                ("token_file", token_file),
                ("tls_certificate", tls_certificate),
                ("tls_key", tls_key),
            )
            if file is not None
        },
        cors_origins=cors_origins,
        runtime=on,
        **(triton or TritonOptions()).fields,
    )
    (triton or TritonOptions()).check([deployment.server.runtime])
    if deployment.server.runtime == "triton" and (log or log_format):
        raise InvalidConfig(
            f"Triton's log is its own: {'--log' if log else '--log-format'} does not change it",
            hint="leave the option out, or serve with --on bentoml or uvicorn",
        )
    program = runtime(deployment.server.runtime)
    program.require()
    deployment = with_port(deployment)
    check_distinct(deployment.server, deployment.triton.metrics_port)
    if deployment.server.runtime != "triton":  # which takes no other model while it serves
        check_rules(deployment.reload)
    artifact = (options or DeploymentOptions()).open(deployment)
    if write is not None:
        start = shlex.join(program.write(write, artifact, deployment))
        err.print(f"wrote {write}; start it with: {start}", highlight=False, soft_wrap=True)
        return
    folder = home() / "services" / f"{artifact.manifest.name}-{deployment.server.port}"
    say = _said(deployment)
    launch = program.launch(artifact, deployment, folder, os.environ, say)
    # The address is printed once it answers: whoever copies it earlier gets no answer.
    say("starting  (Ctrl-C ends)")
    # stdout is for data; a server's log is none.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # In this process's place: signals reach the service itself, those of this moment too.
    given = options or DeploymentOptions()
    file = None if given.deployment is None else str(given.deployment)
    origin = encode_json(Origin(os.getcwd(), file, given.model)).decode()
    environment = {**launch.environment, ORIGIN: origin, **hold_signals()}
    os.execve(launch.command[0], launch.command, environment)  # noqa: S606


def _said(deployment: Deployment) -> Progress:
    """Progress on standard error, in the form of the log that follows it."""
    from seatrial.serve import log

    server = deployment.server
    if server.log_format == "text" or server.runtime == "triton":  # whose log is its own
        return progress
    log.configure(server.log_format)

    def say(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if done == 0:
            log.say("info", "starting", what)

    return say
