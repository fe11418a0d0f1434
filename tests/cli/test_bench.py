from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

from seatrial.bench.history import read_history
from seatrial.bench.options import BenchOptions
from seatrial.bench.report import read_report
from seatrial.cli.bench import _show, bench
from seatrial.cli.bench_runtimes import bench_runtimes
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.errors import InvalidConfig, NotWritable
from seatrial.load.images import load_images
from side_by_side_reports import build_setup, build_side_by_side

pytestmark = pytest.mark.slow

# Memory fails whatever else the machine does; goodput would be undecided on a busy one.
CONTRACT = 'name = "gate"\n[load]\ngoodput_per_s = 0.1\nmemory_mib = {most}\n'
QUICK = ["scaling", "--sessions", "1", "2", "--point-s", "0.5", "--warmup-s", "0"]


GIVEN = """
scaling single-stream --images photos --sessions 1 16 --point-s 3 --single-stream-s 4
--image-limit 5 --timeout-s 6 --latency-limit-ms 7 --seed 8
"""


def parse(line: str) -> tuple[tuple[str, ...], BenchOptions]:
    """The scenarios and the options that the command makes of its arguments."""
    app = App()
    app.default(bench)
    _, bound, _ = app.parse_args(line.split(), exit_on_error=False)
    return bound.arguments.get("scenario"), bound.arguments["options"]


def run(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seatrial.cli.main", "bench", *map(str, arguments)]
    environment = os.environ | {"SEATRIAL_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_library_gets_the_options_as_they_are_given():
    assert parse("--images photos") == (None, BenchOptions(images="photos"))
    scenarios, options = parse(GIVEN)
    assert scenarios == ("scaling", "single-stream")
    assert options == BenchOptions(
        images="photos",
        sessions=(1, 16),
        point_s=3.0,
        single_stream_s=4.0,
        image_limit=5,
        timeout_s=6.0,
        latency_limit_ms=7.0,
        seed=8,
    )


def test_what_is_wrong_is_an_error_before_a_service_starts(image_folder, tmp_path):
    def refused(error, match, **changes):
        options = {"options": BenchOptions(images=str(image_folder)), "output": tmp_path}
        with pytest.raises(error, match=match):
            bench(**options | changes)

    wrong = BenchOptions(images=str(image_folder), sessions=(2, 1))
    refused(InvalidConfig, "sessions must be rising", options=wrong)
    refused(InvalidConfig, "cannot be read", contract=tmp_path / "none.toml")
    refused(InvalidConfig, "no model given")
    (tmp_path / "file").write_text("")
    refused(NotWritable, "cannot be written", output=tmp_path / "file" / "deep")


def test_images_that_are_not_there_are_told_before_a_rate_that_is_missing(tmp_path):
    done = run(
        *("server", "--images", tmp_path / "photos", "--url", "http://127.0.0.1:9"),
        *("-o", tmp_path), home=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "photos does not exist" in done.stderr
    assert "rate" not in done.stderr


def test_a_running_service_cannot_be_given_another_model(image_folder, tmp_path):
    done = run(
        *("--images", image_folder, "--url", "http://127.0.0.1:9", "--model", "m", "-o", tmp_path),
        home=tmp_path,
    )
    assert done.returncode == 2
    assert "--url measures a running service" in done.stderr


@pytest.mark.parametrize(("most", "code", "words"), [(1e6, 0, "holds"), (0.5, 8, "fails")])
def test_a_running_service_is_measured_and_judged(
    detector, image_folder, tmp_path, most, code, words
):
    service, contract = detector(hold_ms=1), tmp_path / "contract.toml"
    contract.write_text(CONTRACT.format(most=most))
    done = run(
        *("--url", service.url, "--images", image_folder, "-o", tmp_path / "out", *QUICK),
        *("--contract", contract, "--json", "--history", tmp_path / "history.jsonl"),
        home=tmp_path,
    )
    assert done.returncode == code, done.stderr
    (entry,) = read_history(tmp_path / "history.jsonl")
    assert "scaling, 2 sessions: goodput_per_s" in entry.figures
    document = json.loads(done.stdout)
    report = read_report(tmp_path / "out" / "report.json")
    assert document["findings"][0]["text"] == report.findings[0].text
    assert document["verdict"]["name"] == "gate"
    assert [row["clause"]["metric"] for row in document["verdict"]["rows"]] == [
        "load.goodput_per_s",
        "load.error_rate",
        "load.memory_mib",
    ]
    assert report.verdict.outcome == document["verdict"]["outcome"] == words
    assert f"gate {words}" in (tmp_path / "out" / "report.html").read_text()
    assert report.command.startswith("seatrial bench --url")
    assert [point.sessions for point in report.runs[0].points] == [1, 2]
    # A log gets a line a step.
    lines = done.stderr.splitlines()
    for line in ("asking the service", "scaling 1/2, 1 session", "scaling 2/2, 2 sessions"):
        assert lines.count(line) == 1
    assert lines[-1] == f"gate {words}"


@pytest.mark.parametrize("as_json", [True, False])
def test_a_report_that_cannot_be_written_is_printed(
    monkeypatch, tmp_path, capsysbinary, full_report, as_json
) -> None:
    """The disk may fill up during the measurement, and an hour of load is not repeated for that."""

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("seatrial.bench.report.write_atomically", full)
    with pytest.raises(NotWritable, match="No space left") as failed:
        _show(full_report, None, tmp_path, None, json=as_json)
    assert failed.value.exit_code == 7
    printed = capsysbinary.readouterr().out
    if as_json:
        assert json.loads(printed)["runs"]
    else:
        assert b"sessions" in printed


def test_a_report_of_runtimes_that_cannot_be_written_is_printed(
    monkeypatch, tmp_path, capsysbinary, image_folder, tiny_artifact
) -> None:
    images = load_images(image_folder)
    setup = build_setup(images.summary, "bentoml", "http", 10.0, 11.0, 12.0)
    report = build_side_by_side(images.summary, setup)
    monkeypatch.setattr("seatrial.api.side_by_side.bench_runtimes", lambda *given: report)
    (tmp_path / "out" / "report.html").mkdir(parents=True)  # as little as a full disk takes it
    service = DeploymentOptions(model=str(tiny_artifact.path), engine="null")
    with pytest.raises(NotWritable, match="cannot be written"):
        bench_runtimes(
            service, TritonOptions(), ["bentoml"], ["http"], BenchOptions(images="photos"), images,
            3, output=tmp_path / "out", json=True,
        )  # fmt: skip
    assert json.loads(capsysbinary.readouterr().out)["rounds"] == 3


def test_ctrl_c_leaves_a_report_of_what_is_complete(detector, image_folder, tmp_path):
    command = [
        *(sys.executable, "-m", "seatrial.cli.main", "bench", "single-stream", "scaling"),
        *("--url", detector(hold_ms=1).url, "--images", str(image_folder), "-o", str(tmp_path)),
        *("--single-stream-requests", "9", "--point-s", "600", "--warmup-s", "0"),
    ]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert client.stderr is not None
    while "scaling 2/5" not in (line := client.stderr.readline()):
        assert line
    client.send_signal(signal.SIGINT)
    printed, told = client.communicate(timeout=120)
    assert client.returncode == 130
    *wrote, last = told.splitlines()
    assert last == "interrupted"
    assert "wrote" in wrote[-1]
    assert "Traceback" not in told
    assert "never retrieved" not in told
    report = read_report(tmp_path / "report.json")
    assert report.interrupted
    assert [run.scenario for run in report.runs] == ["single-stream"]
    assert "The benchmark was interrupted" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("single-stream --rate 5", "--rate is for server and soak: what is measured here is"),
        ("server --rate 5 --point-s 9", "--point-s is for scaling"),
        ("single-stream --seed -1", "--seed must be a whole number from 0"),
    ],
)
def test_options_that_nothing_reads_and_seeds_below_0_are_mistakes_of_usage(
    words, message, image_folder, tmp_path
):
    to = ("--url", "http://127.0.0.1:9", "--images", image_folder, "-o", tmp_path)
    done = run(*words.split(), *to, home=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_is_served_for_the_measurement(tiny_artifact, image_folder, tmp_path):
    done = run(
        *("--model", tiny_artifact.path, "--engine", "null", "--workers", "1"),
        *("--images", image_folder, "-o", tmp_path / "out", *QUICK),
        home=tmp_path / "home",
    )
    assert done.returncode == 0, done.stderr
    assert "good answers a second at best" in done.stdout
    assert read_report(tmp_path / "out" / "report.json").model["name"] == "tiny"
    assert list((tmp_path / "home" / "services").iterdir()) == []
