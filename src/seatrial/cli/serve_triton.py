"""``seatrial serve --on triton``: a deployment on a Triton server."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from seatrial.cli.console import err, home, progress, store
from seatrial.deployment import Deployment


def serve_on_triton(deployment: Deployment, *, python: Path | None, image: str | None) -> None:
    """Serve until a signal ends it; the process ends with it.

    Args:
        deployment: How to serve what.
        python: Python of an environment with Triton's wheel.
        image: Image for a container.
    """
    from seatrial.models.resolve import resolve
    from seatrial.report.numbers import counted
    from seatrial.serve.process import SCRATCH, remove_left_behind
    from seatrial.serve.runtimes import triton
    from seatrial.serve.triton.repository import lanes_of
    from seatrial.serve.triton.server import IMAGE
    from seatrial.system.files import writing

    artifact = resolve(store(), deployment.model)
    ports = triton.ports_of(deployment)
    parent = home() / "services"
    with writing(parent, setting="SEATRIAL_HOME"):
        parent.mkdir(parents=True, exist_ok=True)
        remove_left_behind(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=parent))
    try:
        server, packaged = triton.prepare(
            artifact, deployment, folder, python=python, image=image or IMAGE
        )
        for note in packaged.notes:
            err.print(f"note: {note}", highlight=False, soft_wrap=True)
        by = ", ".join(f"{one.name} by {one.backend}" for one in packaged.models)
        progress(f"Triton: {server.words}")
        shape = lanes_of(deployment)
        lanes = f"{counted(shape.lanes, 'lane')} x {counted(shape.threads, 'thread')}"
        progress(f"{by}: {lanes}")
        err.print("starting  (Ctrl-C ends)")

        def ready() -> None:
            for kind, address in triton.addresses(ports, deployment).items():
                err.print(f"ready: {address} ({kind})", highlight=False, soft_wrap=True)

        code = triton.run(server, packaged, deployment, ports, on_progress=progress, on_ready=ready)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)
