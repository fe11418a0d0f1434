"""The page of metrics, of one process and of several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COUNT = """
import sys
from seatrial.serve.metrics import request_metrics
from seatrial.serve.metrics_page import page

request_metrics(0.3).count("/detect", 200, 0.1)
sys.stdout.buffer.write(page())
"""


def shown(**env: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env={"PYTHONPATH": ":".join(sys.path), **env},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_one_process_shows_its_own_as_several_show_theirs(tmp_path: Path) -> None:
    alone = shown()
    assert 'seatrial_requests_total{code="200",route="/detect"} 1.0' in alone
    assert not [line for line in alone if "_created" in line or " python_" in line]
    several = shown(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert set(several) == set(alone)
    # A second process adds to what the first one counted.
    again = shown(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert 'seatrial_requests_total{code="200",route="/detect"} 2.0' in again
