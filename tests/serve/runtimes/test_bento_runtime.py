"""BentoML as a runtime: its commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Limits, Server
from seatrial.serve.runtimes.bento_runtime import BentoMl


def test_the_command_serves_where_the_deployment_says() -> None:
    deployment = Deployment("m", server=Server("127.0.0.1", 3456), limits=Limits(drain_s=9))
    words = BentoMl().command(Path("/srv/x"), deployment)
    assert words[:5] == [sys.executable, "-m", "bentoml", "serve", "service:Seatrial"]
    options = dict(zip(words[5::2], words[6::2], strict=True))
    assert options == {
        "--working-dir": "/srv/x",
        "--host": "127.0.0.1",
        "--port": "3456",
        "--timeout-graceful-shutdown": "9",
    }


def test_the_command_that_a_person_types(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deployment = Deployment(
        "m", engine="null", server=Server("127.0.0.2", 3456), limits=Limits(drain_s=9)
    )
    assert BentoMl().write(Path("x"), tiny_artifact, deployment) == [
        "bentoml", "serve", str(tmp_path / "x"), "--host", "127.0.0.2", "--port", "3456",
        "--timeout-graceful-shutdown", "9",
    ]  # fmt: skip
