"""A service has its ports before it says that it is ready."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, RuntimeName, Server
from seatrial.serve.address import free_port
from seatrial.serve.runtimes import supervise
from seatrial.serve.service_folder import environment, write_service

HOST = "127.0.0.1"

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["uvicorn", "bentoml"])
def test_of_two_services_that_start_at_the_same_moment_one_has_the_port(
    tiny_artifact: Artifact, tmp_path: Path, runtime: RuntimeName
) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed: seatrial[grpc]")
    port = free_port(HOST)
    with ExitStack() as stack:
        logs, both = [], []
        for number in range(2):
            server = Server(HOST, free_port(HOST), runtime=runtime, grpc_port=port)
            layout = CoreLayout(workers=1)
            deployment = Deployment("model", engine="null", layout=layout, server=server)
            folder = write_service(tmp_path / f"service{number}", tiny_artifact, deployment)
            file = str(folder / "deployment.toml")
            words = [sys.executable, "-m", "seatrial.serve.runtimes.alone", file]
            if runtime == "bentoml":
                words = supervise.command(folder, deployment)
            logs.append(stack.enter_context((tmp_path / f"log{number}").open("w+")))
            env = {**environment(os.environ, folder), "TMPDIR": str(tmp_path)}
            both.append(subprocess.Popen(words, stderr=logs[-1], env=env))
            stack.callback(both[-1].wait)
            stack.callback(both[-1].terminate)

        def said(number: int) -> str:
            logs[number].seek(0)
            return logs[number].read()

        while not (gone := [one for one in both if one.poll() is not None]):
            assert not all("ready: " in said(number) for number in range(2))
            time.sleep(0.05)
        loser = both.index(gone[0])
        assert gone[0].returncode == 6, said(loser)
        taken = f"error: the service did not start: cannot listen on {HOST}:{port}: Address already"
        assert taken in said(loser)
        assert "--grpc-port" in said(loser)
        while "ready: " not in said(1 - loser):
            assert both[1 - loser].poll() is None, said(1 - loser)
            time.sleep(0.05)
