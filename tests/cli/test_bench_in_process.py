from __future__ import annotations

import os
import subprocess
import sys

import pytest

from seatrial.bench.options import BenchOptions
from seatrial.bench.report import read_report
from seatrial.cli.bench import bench
from seatrial.errors import InvalidConfig

pytestmark = pytest.mark.slow


def test_a_detector_is_measured_without_a_service(tiny_artifact, image_folder, tmp_path):
    words = [
        "single-stream", "server", "--rate", "50", "--latency-limit-ms", "1000",
        "--in-process", "--model", tiny_artifact.path, "--engine", "null",
        "--images", image_folder, "--single-stream-requests", "20",
        "--warmup-s", "0.1", "-o", tmp_path / "out",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "seatrial.cli.main", "bench", *map(str, words)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"SEATRIAL_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "out" / "report.json")
    assert report.target.url == "in-process"
    assert report.model["engine"] == "null"
    single, server = (run.points[0] for run in report.runs)
    assert (single.good, single.failed) == (20, 0)
    assert single.stages.mean_ms["decode"] > 0
    assert server.good > 20
    assert server.failed == 0
    assert [run.loop for run in report.runs] == ["closed", "open"]
    assert single.usage.server is None
    assert report.environment.processes == ()


@pytest.mark.parametrize(
    "more",
    [
        {"url": "http://127.0.0.1:9"}, {"on": ("uvicorn",)}, {"protocol": ("v2",)},
        {"path": "/other"}, {"field": "file"}, {"client_processes": 2},
    ],
    ids=str,
)  # fmt: skip
def test_what_belongs_to_a_service_is_refused(more, image_folder, tmp_path, tiny_artifact):
    from seatrial.cli.deployment import DeploymentOptions

    more = dict(more)
    processes = more.pop("client_processes", 1)
    options = BenchOptions(images=str(image_folder), client_processes=processes)
    service = None if "url" in more else DeploymentOptions(model=str(tiny_artifact.path))
    with pytest.raises(InvalidConfig, match="--in-process measures a detector without"):
        bench(
            options=options, service=service, in_process=True,
            output=tmp_path, **more,
        )  # fmt: skip
