"""A running service of the tiny detector is measured and judged on all clauses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
from seatrial.trial.plan import JudgePlan, load_options
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
        JudgePlan(contract, labelled, load_options(contract, QUICK, None, labelled), None),
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
    made = judge_service(Target("http://127.0.0.1:9"), JudgePlan(contract, None, load, None))
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
            JudgePlan(contract, read_labelled(f"coco:{scenes}"), None, None),
        )


def test_what_is_no_verdict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_verdict(tmp_path / "none.json")
    for text in ("{}", "no", '{"schema": "seatrial.bench/1"}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(InvalidConfig, match="is not a verdict"):
            read_verdict(tmp_path / "other.json")


class TwoModels(BaseHTTPRequestHandler):
    """A server of the Open Inference Protocol: a foreign model before one that says its classes."""

    protocol_version = "HTTP/1.1"
    asked: set[str]

    def do_GET(self) -> None:
        model, _, what = self.path.removeprefix("/v2/models/").partition("/")
        what = what.removeprefix("versions/1").strip("/")
        if self.path in ("/v2", "/v2/health/ready"):
            self.answer({"name": "triton", "version": "2.51.0", "extensions": []})
        elif model not in ("a", "b") or what not in ("", "config", "ready"):
            self.answer({"error": "not here"}, status=404)
        elif what == "config":
            self.asked.add(self.path)
            told = {"labels": '["red", "green", "blue"]', "digest": "d", "precision": "f32"}
            told |= {"engine": "null", "device": "cpu"}
            words = {key: {"string_value": text} for key, text in told.items()}
            self.answer({"parameters": words if model == "b" else {}})
        else:
            image = {"name": "image", "datatype": "BYTES", "shape": [1]}
            self.answer({"name": model, "platform": "x", "inputs": [image]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v2/repository/index":
            self.answer([{"name": "a"}, {"name": "b"}])
            return
        self.asked.add(self.path)
        nothing = {"parameters": {"binary_data_size": 0}}
        shapes = {"boxes": ("FP32", [0, 4]), "scores": ("FP32", [0]), "class_ids": ("INT64", [0])}
        outputs = [
            {"name": name, "datatype": kind, "shape": shape, **nothing}
            for name, (kind, shape) in shapes.items()
        ]
        self.answer({"outputs": outputs})

    def answer(self, told: object, status: int = 200) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def two_models() -> Iterator[tuple[str, set[str]]]:
    """Address of a server of two models, and the paths at which they are asked."""
    TwoModels.asked = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), TwoModels) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", TwoModels.asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("named", ["", "/v2/models/b/versions/1"])
def test_accuracy_and_load_are_of_one_model(
    two_models: tuple[str, set[str]], scenes: Path, named: str
) -> None:
    url, asked = two_models
    labelled = read_labelled(f"coco:{scenes}")
    contract = Contract(accuracy=AccuracyClause(ap50=0.0), load=LoadClause(goodput_per_s=0.001))
    quick = MeasureOptions(point_s=0.3, sessions=(1,), warmup_s=0.0)
    made = judge_service(
        Target(url, path=f"{named}/infer") if named else Target(url),
        JudgePlan(contract, labelled, load_options(contract, quick, None, labelled), None),
    )
    model = named or "/v2/models/b"
    assert asked - {"/v2/models/a/config"} == {f"{model}/config", f"{model}/infer"}
    assert made.benchmark is not None
    assert made.benchmark.target.path == f"{model}/infer"
    assert (made.report.service["name"], made.report.service["digest"]) == ("b", "d")
