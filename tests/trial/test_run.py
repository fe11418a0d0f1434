"""A running service of the tiny detector is measured and judged on all clauses."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from bench_reports import build_point, build_report
from seatrial.artifact import Artifact
from seatrial.bench.options import MeasureOptions
from seatrial.bench.report import read_report
from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidConfig, ServiceFailed
from seatrial.load.images import ImagesSummary
from seatrial.load.target import Target
from seatrial.manifest import Step
from seatrial.serve.process import ServiceProcess
from seatrial.trial import run
from seatrial.trial.html_report import write_verdict
from seatrial.trial.plan import Trial, load_options
from seatrial.trial.report import read_verdict
from seatrial.trial.run import Judgement, judge_service

QUICK = MeasureOptions(
    point_s=1.0, sessions=(1, 2), warmup_s=0.0, single_stream_s=20.0, single_stream_requests=70
)
# Limits that a busy machine holds as well.
CONTRACT = Contract(
    "<gate>",
    accuracy=AccuracyClause(ap50=0.9),
    latency=LatencyClause(60_000.0, "p90"),
    load=LoadClause(goodput_per_s=0.001, memory_mib=64_000.0),
)


def judge(
    service: ServiceProcess, scenes: Path, contract: Contract, *lineage: Artifact
) -> Judgement:
    labelled = read_labelled(f"coco:{scenes}")
    return judge_service(
        Target(service.url),
        Trial(contract, labelled, load_options(contract, QUICK, None, labelled), None),
        lineage=lambda digest: lineage,
        command="seatrial judge",
    )


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if key in ("href", "src")]


def test_all_clauses_are_measured_and_judged_and_written(
    service: ServiceProcess, scenes: Path, tmp_path: Path
) -> None:
    made = judge(service, scenes, CONTRACT)
    rows = {row.clause.metric: row.outcome for row in made.report.verdict.rows}
    assert rows == {
        "accuracy.ap50": "undecided",  # perfect, on four images
        "latency.at_most_ms": "holds",
        "load.goodput_per_s": "holds",
        "load.error_rate": "holds",
        "load.memory_mib": "holds",
    }
    assert made.report.verdict.outcome == "undecided"
    assert made.report.service["name"] == "tiny"
    assert made.evaluation is not None
    assert made.evaluation.scores.figures.ap50 == pytest.approx(1)
    assert made.evaluation.subject["url"] == service.url
    assert made.benchmark is not None
    assert [run.scenario for run in made.benchmark.runs] == ["single-stream", "scaling"]

    folder = tmp_path / "new" / "run"
    written = write_verdict(made, folder)
    assert read_verdict(folder / "verdict.json") == written
    kept = read_report(folder / "report.json").verdict
    assert kept is not None
    assert {row.clause.metric for row in kept.rows} == rows.keys() - {"accuracy.ap50"}
    page = (folder / "verdict.html").read_text()
    links = Links()
    links.feed(page)
    assert {*links.found} == {"accuracy.html", "report.html"}
    assert {file.name for file in folder.iterdir()} == {
        "verdict.html", "verdict.json", "accuracy.html", "accuracy.json",
        "report.html", "report.json",
    }  # fmt: skip
    assert "default-src 'none'" in page
    assert not re.search(r"<script|url\(http|@import|<gate>", page)
    for words in ("&lt;gate&gt; cannot be decided: tiny", "AP50 at least 0.9", "p90 latency",
                  "Goodput over sessions", "other load", "seatrial judge"):  # fmt: skip
        assert words in page, words


def test_only_the_clauses_of_the_contract_are_measured(
    service: ServiceProcess, scenes: Path, tmp_path: Path
) -> None:
    only_accuracy = judge(service, scenes, Contract(accuracy=AccuracyClause(ap=1.0)))
    assert only_accuracy.benchmark is None
    assert only_accuracy.report.elsewhere is None
    write_verdict(only_accuracy, tmp_path / "a")
    assert not (tmp_path / "a" / "report.html").exists()
    only_load = judge(service, scenes, Contract(load=LoadClause()))
    assert only_load.evaluation is None
    assert only_load.report.elsewhere is not None
    write_verdict(only_load, tmp_path / "l")
    assert not (tmp_path / "l" / "accuracy.html").exists()


def test_the_busiest_window_of_all_is_the_load_of_the_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet, busy, busier = (build_point(1, other_cores=cores) for cores in (0.0, 0.5, 1.0))
    summary = ImagesSummary(
        "photos", 3, 3, 0, 256, 0, 9e4, 8, 10**5, 640, 640, 480, 480, 0.3, {}, "", 0, ()
    )
    measured = build_report(summary, [busy], [quiet, busier, quiet])
    monkeypatch.setattr(run, "run_benchmark", lambda *given, **named: measured)
    contract = Contract(load=LoadClause())
    load = load_options(contract, QUICK, Path("photos"), None)
    made = judge_service(Target("http://127.0.0.1:9"), Trial(contract, None, load, None))
    assert made.report.elsewhere == pytest.approx(0.5)  # of two cores


def test_images_that_the_served_model_was_chosen_on_decide_nothing(
    service: ServiceProcess, scenes: Path, tiny_artifact: Artifact
) -> None:
    digest = read_labelled(f"coco:{scenes}").digest()
    step = Step("finetune", {"val": digest})
    trained = Artifact(Path(), msgspec.structs.replace(tiny_artifact.manifest, step=step), "")
    contract = Contract(accuracy=AccuracyClause(ap50=0.0))
    (row,) = judge(service, scenes, contract, trained).report.verdict.rows
    assert row.reason.startswith("the same images chose the epoch of tiny")


def test_a_service_that_is_not_there_is_one_error(scenes: Path) -> None:
    contract = Contract(accuracy=AccuracyClause(ap=0.5))
    with pytest.raises(ServiceFailed, match=r"nothing answers at .*: Connection refused"):
        judge_service(
            Target("http://127.0.0.1:9"),
            Trial(contract, read_labelled(f"coco:{scenes}"), None, None),
        )


def test_what_is_no_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_verdict(tmp_path / "none.json")
    for text in ("{}", "no", '{"schema": "seatrial.bench/1"}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(InvalidConfig, match="is not a verdict"):
            read_verdict(tmp_path / "other.json")
