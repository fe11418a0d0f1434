"""LoadGen itself against real services on the loopback address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from raw_service import answer, raw_service
from seatrial.bench.loadgen import run_loadgen
from seatrial.bench.loadgen_log import FILES, SUMMARY
from seatrial.bench.loadgen_options import LoadgenOptions
from seatrial.bench.loadgen_report import read_loadgen_report, write_loadgen_report
from seatrial.errors import InvalidConfig, NotWritable, ServiceFailed
from seatrial.load.target import Target
from seatrial.system.locks import alone_in

pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture
def run(image_folder, tmp_path):
    """Runs a scenario: short, with a short warm-up."""

    def start(url, scenario, told=lambda *_, **__: None, **changes):
        given = {"duration_s": 0.5, "warmup_s": 0.1, "timeout_s": 10.0, **changes}
        options = LoadgenOptions(images=str(image_folder), **given)
        return run_loadgen(Target(url), scenario, options, tmp_path / "out", told)

    return start


SCENARIOS = {
    "single-stream": {"queries": 64},
    "multi-stream": {"queries": 5, "images_per_query": 3},
    "server": {"rate": 100.0, "latency_limit_ms": 9000.0, "queries": 470},
    "offline": {"in_flight": 3},
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_loadgen_and_the_client_account_for_the_same_queries(scenario, run, detector, tmp_path):
    service = detector(hold_ms=2, lanes=3)
    told = []
    report = run(
        service.url, scenario, lambda what, *rest, **_: told.append(what), **SCENARIOS[scenario]
    )
    ours, theirs = report.client, report.loadgen
    assert theirs.settings["scenario"].replace("-", "").lower() == scenario.replace("-", "")
    assert ours.queries == theirs.queries
    assert (ours.failed, ours.gone) == (0, False)
    each = {"multi-stream": 3, "offline": ours.images}.get(scenario, 1)
    assert ours.images == each * ours.queries
    # Each image of the run and of the warm-up reached the service, and the first question's.
    assert service.seen()["images"] > ours.images
    assert report.loop == ("open" if scenario == "server" else "closed")
    if scenario == "offline":
        assert service.seen()["most_at_once"] == 3
        assert theirs.rate_per_s == pytest.approx(ours.good_per_s, rel=0.1)
    else:
        # The same queries by two clocks: LoadGen's begins no later and ends no sooner.
        assert ours.latency.mean_ms <= theirs.mean_ms
    if scenario != "multi-stream":  # whose queries are too few for early stopping
        assert report.valid, report.reasons
        assert f"Result is : {theirs.validity}" in (tmp_path / "out" / SUMMARY).read_text()
    else:
        assert not report.valid
        assert "early stopping" in report.reasons[0]
    assert {f"LoadGen {scenario}", "asking the service"} == {*told}
    for name in FILES:
        assert (tmp_path / "out" / name).is_file()
    assert read_loadgen_report(write_loadgen_report(report, tmp_path)) == report


def test_a_second_run_into_the_folder_is_refused_before_it_sends_anything(run, detector, tmp_path):
    service = detector()
    (tmp_path / "out").mkdir()
    with alone_in(tmp_path / "out"), pytest.raises(InvalidConfig, match="another run of LoadGen"):
        run(service.url, "single-stream")
    assert service.seen()["images"] == 0


def test_a_latency_that_is_not_kept_is_invalid(run, detector):
    report = run(detector(hold_ms=20).url, "server", rate=10.0, latency_limit_ms=1.0, queries=5)
    assert report.loadgen.validity == "INVALID"
    assert "the percentile is over the latency" in report.reasons[0]


def test_failed_requests_are_late_and_the_run_is_invalid(run):
    count = 0

    def answers(asked):
        nonlocal count
        count += asked == b"POST /detect"
        return [answer(503 if count % 10 == 0 and asked == b"POST /detect" else 200, b"{}")]

    told = []
    with raw_service(answers) as url:
        report = run(
            url,
            "server",
            lambda what, *rest, **_: told.append(what),
            rate=100.0,
            latency_limit_ms=400.0,
            queries=50,
            timeout_s=0.5,
        )
    failed = report.client.failed
    assert failed >= 3
    assert report.client.errors == {"http-503": failed}
    assert not report.valid
    assert f"{failed} images of {report.client.images} had no good answer" in report.reasons[-1]
    # LoadGen ranks them as late as an answer can be.
    assert report.loadgen.percentiles_ms["p99"] >= 500
    assert report.loadgen.percentiles_ms["p50"] < 400
    assert "server: requests fail, so the run will not be valid" in told


def test_a_service_that_dies_ends_the_run(run, detector, tmp_path):
    with pytest.raises(ServiceFailed, match="stopped answering after"):
        run(detector(behaviour="die", after=30, hold_ms=2).url, "single-stream", duration_s=60.0)
    assert (tmp_path / "out" / SUMMARY).is_file()


def test_what_is_wrong_is_said_before_anything_is_sent(run, tmp_path):
    with pytest.raises(InvalidConfig, match="server needs"):
        run("http://127.0.0.1:9", "server")
    with pytest.raises(InvalidConfig, match="not an http or grpc address"):
        run("ftp://127.0.0.1:9", "offline")
    (tmp_path / "out").write_text("")
    with pytest.raises(NotWritable):
        run("http://127.0.0.1:9", "offline")


PROGRAM = """
import sys
from pathlib import Path
from seatrial.bench.loadgen import run_loadgen
from seatrial.bench.loadgen_options import LoadgenOptions
from seatrial.load.target import Target

def told(what, done=0, total=0, *, unit=""):
    if done:
        print("begun", flush=True)

options = LoadgenOptions(images=sys.argv[2], duration_s=600.0, warmup_s=0.1)
try:
    run_loadgen(Target(sys.argv[1]), "single-stream", options, Path(sys.argv[3]), told)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_its_process_ends_with_ours(number, detector, image_folder, tmp_path):
    words = [detector(hold_ms=2).url, image_folder, tmp_path / "out"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process, threading_guard(process):
        assert process.stdout.readline() == "begun\n"
        children = _children(process.pid)
        assert len(children) == 1
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
            assert "interrupted" in process.stdout.read()
        else:
            process.kill()
        process.wait()
        for child in children:
            while Path(f"/proc/{child}").exists() and _state(child) != "Z":
                threading.Event().wait(0.01)


def threading_guard(process):
    """Kills a process that hangs, so that the test ends."""

    class Guard:
        def __enter__(self):
            self.timer = threading.Timer(120, process.kill)
            self.timer.start()

        def __exit__(self, *_):
            self.timer.cancel()
            process.kill()

    return Guard()


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
