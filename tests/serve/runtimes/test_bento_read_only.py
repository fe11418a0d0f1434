"""``seatrial serve`` on a machine on which one folder can be written, or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

import local_http
from seatrial.serve.address import free_port

# Everything is read-only but what is mounted in its place: shared memory, and a folder.
READ_ONLY = """
mount --bind "$ONE_FOLDER" "$ONE_FOLDER" && mount -o remount,ro,bind / && exec "$@"
"""
MAIN = "from seatrial.cli.main import main; main()"

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]


@pytest.fixture
def serve(tmp_path: Path, tiny_model: Any) -> Any:
    """Starts the command in a file system that is read-only but for the folder ``data``."""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("a read-only file system needs the rights of root")
    for name in ("data", "home"):
        (tmp_path / name).mkdir()
    onnx.save(tiny_model(), tmp_path / "tiny.onnx")

    def start(port: int, **env: str) -> subprocess.Popen[str]:
        words = ["serve", "--model", str(tmp_path / "tiny.onnx"), "--engine", "null"]
        own = {
            **os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "none"),
            "ONE_FOLDER": str(tmp_path / "data"), **env,
        }  # fmt: skip
        for name in ("BENTOML_HOME", "XDG_DATA_HOME", *({"SEATRIAL_HOME"} - set(env))):
            own.pop(name, None)
        return subprocess.Popen(
            ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", sys.executable, "-c", MAIN, *words,
             "--port", str(port)],
            env=own, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def test_one_folder_is_enough(serve: Any, tmp_path: Path, photo: bytes) -> None:
    port = free_port("127.0.0.1")
    with serve(port, SEATRIAL_HOME=str(tmp_path / "data")) as process:
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if line.startswith("ready:"):
                    break
            assert said[-1] == f"ready: http://127.0.0.1:{port}\n", "".join(said)
            answer = local_http.post(f"http://127.0.0.1:{port}/detect", content=photo, timeout=20)
            assert answer.status_code == 200
            assert (
                "seatrial_requests_total" in local_http.get(f"http://127.0.0.1:{port}/metrics").text
            )
        finally:
            process.send_signal(signal.SIGTERM)
            said += process.stderr.readlines()
        assert process.wait() == 0
    assert "Traceback" not in "".join(said)
    assert list((tmp_path / "home").iterdir()) == []


def test_without_any_the_message_names_the_setting(serve: Any, tmp_path: Path) -> None:
    with serve(free_port("127.0.0.1")) as process:
        said = process.stderr.read()
    assert process.returncode == 7
    assert (
        "cannot be written: Read-only file system\nhint: name another folder (SEATRIAL_HOME)"
        in said
    )
    assert "Traceback" not in said
