from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cyclopts import App

from seatrial.bench.loadgen_options import LoadgenOptions
from seatrial.bench.loadgen_report import read_loadgen_report
from seatrial.cli.loadgen import loadgen

pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
pytestmark = pytest.mark.slow

QUICK = ["--duration-s", "0.5", "--warmup-s", "0.1"]


def run(*words: object, home) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seatrial.cli.main", "loadgen", *map(str, words)]
    environment = os.environ | {"SEATRIAL_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_library_gets_the_options_as_they_are_given():
    app = App()
    app.default(loadgen)
    line = "server --images photos --rate 20 --latency-limit-ms 90 --queries 5 --schedule-seed 3"
    _, bound, _ = app.parse_args(line.split(), exit_on_error=False)
    assert bound.args == ("server",)
    assert bound.kwargs["options"] == LoadgenOptions(
        images="photos", rate=20.0, latency_limit_ms=90.0, queries=5, schedule_seed=3
    )


def test_a_valid_run_ends_with_0(detector, image_folder, tmp_path):
    url, out = detector(hold_ms=2).url, tmp_path / "out"
    done = run("single-stream", "--url", url, "--images", image_folder, *QUICK, "-o", out,
               home=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "LoadGen single-stream (closed loop): VALID" in done.stdout
    assert f"wrote {out / 'loadgen.json'} beside LoadGen's logs" in done.stderr
    report = read_loadgen_report(out / "loadgen.json")
    assert report.command.startswith("seatrial loadgen single-stream --url")
    assert (out / "mlperf_log_summary.txt").is_file()


def test_an_invalid_run_ends_with_8_and_its_reason(detector, image_folder, tmp_path):
    words = ["--rate", 20, "--latency-limit-ms", 1, "--queries", 5]
    done = run("server", "--url", detector(hold_ms=20).url, "--images", image_folder, *words,
               *QUICK, "-o", tmp_path / "out", "--json", home=tmp_path)  # fmt: skip
    assert done.returncode == 8, done.stderr
    assert json.loads(done.stdout)["loadgen"]["validity"] == "INVALID"
    assert "the percentile is over the latency that it has to keep." in done.stderr


def test_what_is_wrong_is_one_message(image_folder, tmp_path):
    done = run("server", "--url", "http://127.0.0.1:9", "--images", image_folder, home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: server needs --rate")
    done = run("single-stream", "--images", image_folder, "-o", tmp_path / "out", home=tmp_path)
    assert done.returncode == 2
    assert "no model given" in done.stderr
    assert not done.stdout
