"""The page of a verdict on figures that are known: what it shows where something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench_reports import build_point, build_report
from page_figures import tiles
from seatrial.bench.report_data import BenchReport
from seatrial.contract import Contract, LatencyClause, LoadClause
from seatrial.errors import NotWritable
from seatrial.load.images import ImagesSummary
from seatrial.report.numbers import MISSING, milliseconds
from seatrial.trial.html_report import to_html, write_verdict
from seatrial.trial.report import SCHEMA, VerdictReport, read_verdict
from seatrial.trial.run import Judgement
from seatrial.trial.verdict import judge_contract

IMAGES = ImagesSummary(
    "photos", 3, 3, 0, 256, 0, 9e4, 8, 10**5, 640, 640, 480, 480, 0.3, {"image/jpeg": 3}, "", 0, ()
)
CONTRACT = Contract("gate <camera>", latency=LatencyClause(30.0), load=LoadClause(goodput_per_s=1))


def judged(benchmark: BenchReport, **changes: Any) -> Judgement:
    report = VerdictReport(
        schema=SCHEMA,
        created_at="2026-11-20T10:00:00+00:00",
        command="seatrial judge",
        elapsed_s=60.0,
        contract=CONTRACT,
        service={"url": "http://127.0.0.1:3000"},
        verdict=judge_contract(CONTRACT, report=benchmark),
        elsewhere=0.34,
    )
    return Judgement(msgspec.structs.replace(report, **changes), None, benchmark)


@pytest.fixture
def spoiled() -> Judgement:
    points = [build_point(n, 40.0, other_cores=0.68) for n in (1, 2)]
    return judged(build_report(IMAGES, points[:1], points))


def test_the_reason_stands_above_the_clauses(spoiled: Judgement) -> None:
    html = to_html(spoiled.report, None, spoiled.benchmark)
    assert html.index("gate &lt;camera&gt; cannot be decided") < html.index("Clauses")
    assert html.index("Other load on the machine had 34% of the cores") < html.index("Clauses")
    assert "up to 34% of the cores; over 10% spoils a figure" in html
    assert "Lone request, p90" in html
    assert "Latency over sessions" in html


def test_a_service_elsewhere_has_no_memory_and_no_known_load() -> None:
    point = build_point(1, 20.0, server_cores=None)
    made = judged(build_report(IMAGES, [point], [point], local=False), elsewhere=0.0)
    html = to_html(made.report, None, made.benchmark)
    assert "not known: the service runs on another machine" in html
    assert "Memory, peak" not in html


def test_each_figure_of_the_load_stands_under_its_name() -> None:
    # More than all others: its scenario is another one, with a longer measurement.
    lone = build_point(1, 5.0, count=7000, failed=7, rss_mib=150)
    many = [build_point(n, n * ms, count=300, failed=3, rss_mib=rss)
            for n, ms, rss in ((2, 25.0, 210), (4, 10.0, 190), (8, 20.0, 180))]  # fmt: skip
    found = tiles(to_html((made := judged(build_report(IMAGES, [lone], many))).report, None,
                          made.benchmark))  # fmt: skip
    assert found["Best goodput"] == (f"{many[1].goodput_per_s:.1f}/s", "with 4 sessions")
    assert found["Failed requests"] == ("16", "of 7,900")
    assert found["Memory, peak"] == ("210 MiB", "resident, all processes")
    for name, percentile in lone.latency.percentiles.items():
        value, note = found[f"Lone request, {name}"]
        if percentile.value_ms is None:
            assert (value, note) == (MISSING, percentile.reason)
        elif percentile.upper_ms is None:
            assert note == "no bound"
        else:
            assert value == milliseconds(percentile.value_ms)
            assert note == f"at most {milliseconds(percentile.upper_ms)}"


def test_the_machine_of_an_earlier_verdict_is_that_of_the_benchmark(spoiled: Judgement) -> None:
    assert spoiled.benchmark is not None
    environment = spoiled.benchmark.environment
    cpu = msgspec.structs.replace(environment.cpu, cores=2, cores_online=8)
    environment = msgspec.structs.replace(environment, cpu=cpu)
    benchmark = msgspec.structs.replace(spoiled.benchmark, environment=environment)
    assert "AMD EPYC, 2 usable of 8 cores" in to_html(spoiled.report, None, benchmark)


def test_failed_requests_alone_are_a_page_too() -> None:
    points = [build_point(n, 40.0, count=20, failed=20) for n in (1, 2)]
    made = judged(build_report(IMAGES, None, points), elsewhere=0.0)
    assert "of 40" in to_html(made.report, None, made.benchmark)


def test_a_verdict_comes_back_as_it_was_written(spoiled: Judgement, tmp_path: Path) -> None:
    for _ in range(2):  # over an older one, too
        written = write_verdict(spoiled, tmp_path / "run")
    assert read_verdict(tmp_path / "run" / "verdict.json") == written
    assert written.files == {"load": "report.html", "load_json": "report.json"}
    assert 'href="report.html"' in (tmp_path / "run" / "verdict.html").read_text()


def test_a_folder_that_cannot_be_written_is_one_error(spoiled: Judgement, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"):
        write_verdict(spoiled, tmp_path / "file" / "run")
