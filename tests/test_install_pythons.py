"""The wheel under other Pythons, and with the lowest versions that it allows."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import local_http
from forked_commands import Commands
from fresh_environments import (
    CONSTRAINTS,
    EXTRAS,
    NO_SERVICE,
    PROJECT,
    answers,
    install,
    install_into,
    interpreter,
    variables,
)
from seatrial.serve.address import free_port

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_other_pythons_import_check_detect_and_serve(
    wheel: Path, materials: Path, tmp_path: Path, version: str
) -> None:
    if sys.version.startswith(f"{version}."):
        pytest.skip(f"Python {version} runs all other tests")
    python = install(
        tmp_path / "venv", *CONSTRAINTS, f"{wheel}[openvino,serve]", python=interpreter(version)
    )
    try_main_commands(python, materials, tmp_path / "work", version=version)


def test_the_lowest_versions_import_check_detect_and_serve(
    wheel: Path, materials: Path, tmp_path: Path
) -> None:
    """What ``pyproject.toml`` allows, for every extra that needs no torch."""
    wanted = [*PROJECT["dependencies"]]
    for extra in ("openvino", "onnxruntime", "serve", "bench", "evaluate", "data", "hub"):
        wanted += EXTRAS[extra]
    python = install(tmp_path / "venv", "--resolution", "lowest-direct", *wanted)
    install_into(python, "--no-deps", wheel)
    try_main_commands(python, materials, tmp_path / "work")


def try_main_commands(python: Path, materials: Path, work: Path, *, version: str = "") -> None:
    """Import, check, detect and serve; a request to the service is answered."""
    shutil.copytree(materials, work)
    environment = variables(python, work, NO_SERVICE)

    names = "seatrial.load, seatrial.evaluate, seatrial.export, seatrial.bench, sys.version"
    printed = subprocess.run(
        [python, "-c", f"import sys, seatrial; print({names})"],
        cwd=work, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert version in printed
    with pytest.MonkeyPatch.context() as patch, Commands(
        "seatrial.cli.main", "cv2", "onnx", "openvino", python=python, environment=environment
    ) as commands:  # fmt: skip
        patch.chdir(work)

        def run(*words: str) -> str:
            done = commands.run(*words, environment=environment)
            assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
            return done.stdout

        run("data", "check", "coco")
        run("models", "import", "model.onnx", "--name", "new")
        assert "red" in run("detect", "image.png", "--model", "new", "--json")
    seatrial, port = python.parent / "seatrial", free_port("127.0.0.1")
    with (work / "service.log").open("wb") as log:
        service = subprocess.Popen(
            [seatrial, "serve", "--model", "new", "--workers", "1", "--port", str(port)],
            cwd=work, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        give_up = time.monotonic() + 120
        while not answers(f"{url}/readyz"):
            said = (work / "service.log").read_text()
            assert service.poll() is None, said
            assert time.monotonic() < give_up, said
            time.sleep(0.1)
        data = (work / "image.png").read_bytes()
        answer = local_http.post(
            f"{url}/detect", content=data, headers={"Content-Type": "image/png"}
        )
        assert answer.status_code == 200, answer.text
        assert [one["label"] for one in answer.json()["detections"]] == ["red"]
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
