from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest

from raw_service import answer, raw_service
from seatrial.bench import campaign, run
from seatrial.bench.report import read_report, to_html, write_report
from seatrial.bench.run import BenchCut, run_benchmark
from seatrial.errors import InvalidConfig, InvalidDataset, ServiceFailed
from seatrial.load.images import load_images
from seatrial.load.target import Target

pytestmark = pytest.mark.slow


def test_a_whole_benchmark_of_a_real_service(
    detector, quick, tmp_path, image_folder, assert_traceable
):
    (image_folder / "<script>.jpg").write_bytes(b"broken")
    service = detector(hold_ms=15, burn=1, workers=1)
    options = quick(scenarios=("single-stream", "scaling"), single_stream_requests=30)
    told = []

    def on_progress(what, done=0, total=0, *, unit=""):
        told.append((what, done, total, unit))

    report = run_benchmark(Target(service.url), options, on_progress, command="seatrial bench")
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
    assert report.environment.versions.keys() >= {"python", "httptools", "uvloop"}
    # One lane: of four requests three wait.
    one, four = scaling.points
    assert one.in_flight <= 1 < 2 < four.in_flight <= 4
    assert one.stages.mean_ms["queue"] < one.stages.mean_ms["infer"]
    assert four.stages.mean_ms["queue"] > four.stages.mean_ms["infer"]
    # 15 ms of CPU time an answer; the clock of CPU time ticks at 10 ms.
    assert four.usage.server.cpu_s > 0.015 * four.good - 0.02
    # 1.1 s a load: rounded up to 4 s in all, of which at the end 3.3 s are over.
    assert told[0] == ("asking the service", 0, 4, "s")
    assert {total for _, _, total, _ in told} == {4}
    assert [done for _, done, _, _ in told] == sorted(done for _, done, _, _ in told)
    assert told[-1] == ("scaling 3/3, 4 sessions", 3, 4, "s")
    steps = ["asking the service", "single-stream 1/3, 1 session", "scaling 2/3, 1 session"]
    assert list(dict.fromkeys(what for what, *_ in told)) == [*steps, "scaling 3/3, 4 sessions"]
    assert len(told) == len(set(told))
    _, data = write_report(report, tmp_path / "report.html")
    assert read_report(data) == report
    assert "<script" not in to_html(report)


def test_an_answer_that_cannot_be_is_a_failure_in_the_report(quick, tmp_path):
    wrong = b'{"detections": [], "timing_ms": {"infer": %s, "total": 1}}' % (b"9" * 400)
    right = b'{"detections": [], "timing_ms": {"infer": 1, "total": 1}}'
    bodies = itertools.cycle([right, wrong])

    def answers(asked):
        return [answer(200, next(bodies) if asked == b"POST /detect" else b"{}")]

    options = quick(scenarios=("single-stream",), single_stream_requests=10)
    with raw_service(answers) as url:
        report = run_benchmark(Target(url), options)
    (point,) = report.runs[0].points
    assert (point.good, point.errors) == (5, {"impossible-numbers": 5})
    page, data = write_report(report, tmp_path / "report.html")
    assert read_report(data) == report
    assert "impossible-numbers" in page.read_text()


@pytest.mark.parametrize(
    ("first", "later", "good"),
    [
        (b'{"detections": []}', b'{"error": "overloaded"}', 0),
        (b'{"boxes": []}', b'{"error": "overloaded"}', 10),
        (b'{"detections": []}', b'{"detections": [], "more": 1}', 10),
    ],
    ids=["known", "foreign", "readable"],
)
def test_a_good_status_without_detections_is_a_failure_where_the_first_answer_had_them(
    quick, first, later, good
):
    bodies = itertools.chain([first], itertools.repeat(later))

    def answers(asked):
        return [answer(200, next(bodies) if asked == b"POST /detect" else b"{}")]

    options = quick(scenarios=("single-stream",), single_stream_requests=10, warmup_s=0.0)
    with raw_service(answers) as url:
        report = run_benchmark(Target(url), options)
    (point,) = report.runs[0].points
    assert (point.good, point.failed) == (good, 10 - good)
    assert point.errors == ({} if good else {"unreadable": 10})
    codes = {one.id for one in report.findings}
    assert ("unreadable-answers" in codes) is not bool(good)


def test_a_service_that_closes_idle_connections_fails_no_request(quick):
    """It answers a request of each connection, and closes it at the next one."""
    numbers = itertools.count()

    def answers(asked):
        number = next(numbers) if asked == b"POST /detect" else 1
        if number and number % 2 == 0:  # the first one is the preflight's
            raise OSError  # the request is read, and the connection ends
        return [answer(200, b'{"detections": []}')]

    options = quick(scenarios=("single-stream",), single_stream_requests=10, warmup_s=0.0)
    with raw_service(answers) as url:
        report = run_benchmark(Target(url), options)
    (point,) = report.runs[0].points
    assert (point.good, point.failed, point.errors) == (10, 0, {})
    assert point.retried == 10
    assert "closed-connections" in {one.id for one in report.findings}


def test_each_limit_of_time_is_its_own_option(quick, monkeypatch):
    asked = []

    async def probe(target, prepared, ready_s, timeout_s, credentials):
        asked.append((ready_s, timeout_s))
        raise ServiceFailed("enough")

    monkeypatch.setattr(run, "probe", probe)
    with pytest.raises(ServiceFailed, match="enough"):
        nowhere = Target("http://127.0.0.1:1", protocol="http")
        run_benchmark(nowhere, quick(ready_s=3.0, timeout_s=4.0))
    assert asked == [(3.0, 4.0)]


def test_progress_is_the_time_since_a_load_began(detector, quick, monkeypatch):
    monkeypatch.setattr(campaign, "perf_counter", lambda: 7.0)  # a clock that stands still
    told = []
    run_benchmark(
        Target(detector(hold_ms=5).url),
        quick(sessions=(1,)),
        lambda what, done=0, total=0, *, unit="": told.append((what, done)),
    )
    assert told == [("asking the service", 0), ("scaling 1/1, 1 session", 0)]


def test_a_foreign_service_without_stage_times_and_model(detector, quick, assert_traceable):
    report = run_benchmark(Target(detector(behaviour="plain", hold_ms=5).url), quick())
    assert report.model is None
    assert report.runs[0].points[0].stages is None
    assert report.runs[0].points[0].detections_mean is None
    assert report.runs[0].points[0].good > 0
    assert_traceable(report)
    assert "unknown: the service does not say" in to_html(report)


def test_a_foreign_service_with_path_and_field(detector, quick):
    service = detector(behaviour="field", hold_ms=2)
    target = Target(service.url, path="/v1/predict", field="file")
    report = run_benchmark(target, quick(sessions=(2,)))
    assert report.runs[0].points[0].failed == 0
    assert report.runs[0].points[0].good > 0


def test_a_service_that_dies_is_told_with_what_it_gave(detector, quick):
    service = detector(behaviour="die", after=60, hold_ms=2)
    with pytest.raises(ServiceFailed, match=r"stopped answering after \d+ good answers"):
        run_benchmark(Target(service.url), quick(point_s=600.0))


def test_what_was_complete_before_a_service_died_is_kept(detector, quick, assert_traceable):
    service = detector(behaviour="die", after=60, hold_ms=2)
    options = replace(
        quick(point_s=600.0),
        scenarios=("single-stream", "scaling"),
        single_stream_requests=20,
        warmup_s=0.0,
    )
    with pytest.raises(BenchCut, match=r"stopped answering after \d+ good answers") as cut:
        run_benchmark(Target(service.url), options)
    report = cut.value.report
    assert [run.scenario for run in report.runs] == ["single-stream"]
    assert report.runs[0].points[0].good == 20
    assert report.failure == cut.value.message
    assert_traceable(report)
    assert "The benchmark ended early" in to_html(report)


def test_only_errors_make_a_report_that_says_so(detector, quick, assert_traceable):
    messages = []

    def on_progress(what, done=0, total=0, *, unit=""):
        if not total:
            messages.append(what)

    target = Target(detector(behaviour="broken").url)
    report = run_benchmark(target, quick(sessions=(1, 2)), on_progress)
    assert messages == ["scaling 1/2, 1 session: requests fail (http-503)"]
    assert report.findings[0].severity == "bad"
    assert report.analysis.failures.share == 1.0
    assert report.analysis.failures.commonest == "http-503"
    assert_traceable(report)
    assert "gave no usable answer" in to_html(report)


def test_goodput_counts_only_answers_in_time(detector, quick):
    # Every second image is held for a second: one lane, and the odd ones are late.
    service = detector(behaviour="uneven", hold_ms=1)
    report = run_benchmark(
        Target(service.url), quick(sessions=(1,), point_s=3.0, latency_limit_ms=900.0)
    )
    (point,) = report.runs[0].points
    assert point.good == point.answered
    assert 0 <= point.in_time < point.good
    assert point.goodput_per_s == pytest.approx(point.in_time / point.window_s)


def test_options_are_checked_before_anything_is_sent(quick, tmp_path):
    nowhere = Target("http://127.0.0.1:9")
    with pytest.raises(InvalidConfig):
        run_benchmark(nowhere, quick(sessions=(0,)))
    with pytest.raises(InvalidDataset):
        run_benchmark(nowhere, quick(images=str(tmp_path / "none")))


def test_images_that_were_read_are_not_read_again(detector, quick, image_folder):
    few = load_images(image_folder, limit=2)
    report = run_benchmark(Target(detector(hold_ms=1).url), quick(sessions=(1,)), images=few)
    assert report.images == few.summary


def test_import_loads_nothing_heavy():
    code = (
        "import sys, seatrial.bench.run, seatrial.bench.report, seatrial.bench.terminal;"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"jinja2", "scipy", "uvloop", "openvino", "onnxruntime", "bentoml"}
    assert not {name for name in loaded if name.startswith(("seatrial.engines", "seatrial.detect"))}


def test_report_is_plain_data(full_report):
    assert msgspec.json.decode(msgspec.json.encode(full_report), type=type(full_report))
