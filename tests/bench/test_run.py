from __future__ import annotations

import re
import socket
import subprocess
import sys

import msgspec
import pytest

from seatrial.bench.report import read_report, to_html, write_report
from seatrial.bench.run import run_benchmark
from seatrial.errors import InvalidConfig, InvalidDataset, ServiceFailed
from seatrial.load.target import Target


def test_a_whole_benchmark_of_a_real_service(
    detector, quick, tmp_path, picture_folder, assert_traceable
):
    (picture_folder / "<script>.jpg").write_bytes(b"broken")
    service = detector(hold_ms=15, burn=1, workers=1)
    options = quick(scenarios=("single-stream", "scaling"), single_stream_requests=30)
    progress = []
    report = run_benchmark(Target(service.url), options, progress.append, command="seatrial bench")
    assert_traceable(report)
    single, scaling = report.runs
    assert (single.scenario, scaling.scenario) == ("single-stream", "scaling")
    assert {run.loop for run in report.runs} == {"closed"}
    assert single.points[0].ended in ("requests", "time")
    assert [point.sessions for point in scaling.points] == [1, 4]
    assert report.model["name"] == "tiny<script>"
    assert report.images.skipped[0].name == "<script>.jpg"
    assert (report.images.used, report.options, report.command) == (20, options, "seatrial bench")
    assert report.environment.local
    assert len(report.environment.processes) == 2
    assert report.environment.versions.keys() >= {"python", "aiohttp", "uvloop"}
    # One lane: four sessions cannot be faster, and by Little's law wait four times as long.
    one, four = scaling.points
    assert four.goodput_per_s == pytest.approx(one.goodput_per_s, rel=0.4)
    assert four.in_flight == pytest.approx(4, rel=0.1)
    assert four.stages.mean_ms["queue"] > four.stages.mean_ms["infer"]
    assert four.usage.server.cpu_s > 0.3
    assert {step.step for step in progress} == {1, 2, 3}
    assert progress[-1].fraction == pytest.approx(1.0, abs=0.35)
    _, data = write_report(report, tmp_path / "report.html")
    assert read_report(data) == report
    assert "<script" not in to_html(report)


def test_a_foreign_service_without_stage_times_and_model(detector, quick, assert_traceable):
    report = run_benchmark(Target(detector(behaviour="plain", hold_ms=5).url), quick())
    assert report.model is None
    assert report.runs[0].points[0].stages is None
    assert report.runs[0].points[0].detections_mean is None
    assert report.runs[0].points[0].good > 20
    assert_traceable(report)
    assert "unknown: the service does not say" in to_html(report)


def test_a_foreign_service_with_path_and_field(detector, quick):
    service = detector(behaviour="field", hold_ms=2)
    target = Target(service.url, path="/v1/predict", field="file")
    report = run_benchmark(target, quick(sessions=(2,)))
    assert report.runs[0].points[0].failed == 0
    assert report.runs[0].points[0].good > 20


def test_wrong_field_name_is_told_with_the_service_own_words(detector, quick):
    service = detector(behaviour="field")
    with pytest.raises(ServiceFailed, match="422: field 'file' is missing") as caught:
        run_benchmark(Target(service.url, path="/v1/predict", field="image"), quick())
    assert "multipart field 'image'" in caught.value.hint


def test_wrong_path(detector, quick):
    with pytest.raises(ServiceFailed, match="POST /predict is refused with 404"):
        run_benchmark(Target(detector().url, path="/predict"), quick())


def test_a_service_that_refuses_every_picture(detector, quick):
    with pytest.raises(ServiceFailed, match="refused with 422: not to my taste"):
        run_benchmark(Target(detector(behaviour="refuse").url), quick())


def test_nobody_answers(quick):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServiceFailed, match=re.escape(f"nothing answers at {url}")) as caught:
            run_benchmark(Target(url), quick())
    assert "start it first" in caught.value.hint


def test_a_service_that_never_gets_ready(detector, quick):
    with pytest.raises(ServiceFailed, match="is not ready after"):
        run_benchmark(Target(detector(behaviour="loading").url), quick(ready_s=0.5))


def test_a_service_that_dies_is_told_with_what_it_gave(detector, quick):
    service = detector(behaviour="die", after=60, hold_ms=2)
    with pytest.raises(ServiceFailed, match=r"stopped answering after \d+ good answers"):
        run_benchmark(Target(service.url), quick(point_s=30.0))


def test_only_errors_make_a_report_that_says_so(detector, quick, assert_traceable):
    report = run_benchmark(Target(detector(behaviour="broken").url), quick(sessions=(1, 2)))
    assert report.findings[0].severity == "bad"
    assert report.analysis.failures.share == 1.0
    assert report.analysis.failures.commonest == "http-503"
    assert_traceable(report)
    assert "gave no usable answer" in to_html(report)


def test_goodput_counts_only_answers_in_time(detector, quick):
    service = detector(hold_ms=20)
    report = run_benchmark(Target(service.url), quick(latency_limit_ms=60.0))
    one, four = report.runs[0].points
    # Four sessions on one lane of 20 ms wait 80 ms each.
    assert one.in_time > 0.7 * one.good
    assert four.in_time < 0.3 * four.good
    assert four.goodput_per_s < four.throughput_per_s / 2


def test_options_are_checked_before_anything_is_sent(quick, tmp_path):
    nowhere = Target("http://127.0.0.1:9")
    with pytest.raises(InvalidConfig):
        run_benchmark(nowhere, quick(sessions=(0,)))
    with pytest.raises(InvalidDataset):
        run_benchmark(nowhere, quick(images=str(tmp_path / "none")))


def test_import_loads_nothing_heavy():
    code = (
        "import sys, seatrial.bench.run, seatrial.bench.report, seatrial.bench.terminal;"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"jinja2", "PIL", "numpy", "uvloop", "openvino", "onnxruntime", "bentoml"}
    assert not {name for name in loaded if name.startswith(("seatrial.engines", "seatrial.detect"))}


def test_report_is_plain_data(full_report):
    assert msgspec.json.decode(msgspec.json.encode(full_report), type=type(full_report))
