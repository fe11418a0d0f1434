"""The server of a process: what it does where the service does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.serve.process import environment, write_service

FAILS = """
import socket, sys
from pathlib import Path
from seatrial.serve.runtimes.served import Served
from seatrial.serve.runtimes.server import serve

served = Served(Path(sys.argv[1]))
served.start = lambda: 1 // 0
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    serve(served, listener, on_ready=lambda: print("ready"))
"""


def test_a_service_that_does_not_start_is_never_ready(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    deployment = Deployment("m", engine="null", layout=CoreLayout(workers=1))
    folder = write_service(tmp_path / "service", tiny_artifact, deployment)
    done = subprocess.run(
        [sys.executable, "-c", FAILS, folder / "deployment.toml"],
        env=environment(os.environ), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3  # uvicorn's code
    assert "ready" not in done.stdout
    assert "ZeroDivisionError" in done.stderr
    assert "startup failed" in done.stderr
