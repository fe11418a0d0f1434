"""``seatrial serve``: a deployment as a running service."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from seatrial.cli.console import err, home, progress, store
from seatrial.cli.deployment import DeploymentOptions


def serve(
    *,
    options: DeploymentOptions | None = None,
    host: str | None = None,
    port: int | None = None,
    write: Path | None = None,
) -> None:
    """Serve a detector over HTTP.

    POST /detect takes a picture (multipart field "image", or a raw image/* body) and answers
    JSON; POST /detect.jpg answers the picture with the boxes drawn; GET /model, /livez, /readyz
    and /metrics tell the rest. SIGTERM and Ctrl-C let running requests end first.

    Args:
        options: What to serve, and how.
        host: Address to listen on [default: 127.0.0.1].
        port: Port to listen on; 0 takes a free one [default: 3000].
        write: Only write the service folder, which `bentoml serve` starts; start nothing.
    """
    import msgspec

    from seatrial.models.resolve import resolve
    from seatrial.serve import process
    from seatrial.serve.startup import check, layout
    from seatrial.system.extras import require

    require("bentoml", extra="serve", purpose="serving")
    deployment = (options or DeploymentOptions()).resolve(host=host, port=port)
    server = deployment.server
    if server.port == 0:
        server = msgspec.structs.replace(server, port=process.free_port(server.host))
        deployment = msgspec.structs.replace(deployment, server=server)
    artifact = resolve(store(), deployment.model)
    if write is None:
        process.check_port(server.host, server.port)
    # A worker that cannot start is started again and again: see here that it can.
    engine = check(artifact, deployment)
    folder = process.write_service(
        write or home() / "services" / f"{artifact.manifest.name}-{server.port}",
        artifact,
        deployment,
    )
    if write is not None:
        # BentoML takes a relative folder for the name of a service in its own store.
        address = ["--host", server.host, "--port", str(server.port)]
        start = shlex.join(["bentoml", "serve", str(folder.absolute()), *address])
        err.print(f"wrote {folder}; start it with: {start}", highlight=False, soft_wrap=True)
        return
    workers, config = layout(deployment)
    progress(
        f"{artifact.manifest.name} on {engine}: {workers} process(es) x {config.instances} "
        f"lane(s) x {config.threads} thread(s)"
        + (f", one wide lane of {config.wide_threads} threads" if config.wide_threads else "")
    )
    err.print(f"http://{server.host}:{server.port}/detect  (Ctrl-C ends)", highlight=False)
    command = process.command(folder, deployment)
    # What it says is no data.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # In this process's place: signals reach the service's own supervisor.
    os.execve(command[0], command, process.environment(os.environ))  # noqa: S606
