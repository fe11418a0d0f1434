"""What a contract needs measured, and what is missing for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from seatrial.bench.options import BenchOptions, MeasureOptions
from seatrial.contract import AccuracyClause, Contract, LatencyClause, LoadClause, ServerClause
from seatrial.datasets.labels import LabelledImage, LabelledSet, Truth
from seatrial.errors import InvalidConfig, InvalidInput
from seatrial.trial.html_report import check_places
from seatrial.trial.plan import check_labels, images_folder, load_options, read_trial

ACCURACY, LATENCY, LOAD = AccuracyClause(ap=0.4), LatencyClause(60.0), LoadClause()
QUICK = MeasureOptions(point_s=1.0, sessions=(1, 3), single_stream_s=2.0)


def labelled(*paths: str) -> LabelledSet:
    images = tuple(LabelledImage(n, p, Path(p), None, None) for n, p in enumerate(paths))
    return LabelledSet("set", images, (), Truth.of([], [], []))


@pytest.mark.parametrize(
    ("contract", "scenarios"),
    [
        (Contract(latency=LATENCY), ("single-stream",)),
        (Contract(load=LOAD), ("scaling",)),
        (Contract(accuracy=ACCURACY, latency=LATENCY, load=LOAD), ("single-stream", "scaling")),
    ],
)
def test_only_what_is_judged_is_measured(contract: Contract, scenarios: tuple[str, ...]) -> None:
    found = load_options(contract, QUICK, Path("photos"), None)
    assert found == BenchOptions(
        images="photos", scenarios=scenarios, point_s=1.0, sessions=(1, 3), single_stream_s=2.0
    )


def test_the_server_is_measured_at_the_rate_and_law_of_the_contract() -> None:
    contract = Contract(latency=LATENCY, server=ServerClause(12.5, 90.0, arrivals="constant"))
    found = load_options(contract, MeasureOptions(server_s=9.0), Path("photos"), None)
    assert found is not None
    assert found.scenarios == ("single-stream", "server")
    assert (found.rates, found.arrivals, found.server_s) == ((12.5,), "constant", 9.0)


def test_a_contract_on_accuracy_alone_needs_no_load() -> None:
    assert load_options(Contract(accuracy=ACCURACY), QUICK, None, None) is None


@pytest.mark.parametrize(
    ("clause", "seconds"),
    [
        (LatencyClause(10.0, "p99"), 30.0),  # 7 s would do
        (LatencyClause(100.0, "p99"), 66.2),
        (LatencyClause(1000.0, "p90"), 64.0),
        (LatencyClause(1000.0, "p95"), 130.0),
        (LatencyClause(60_000.0, "p99"), 180.0),
    ],
)
def test_lone_requests_last_as_long_as_the_sample_of_the_percentile_needs(
    clause: LatencyClause, seconds: float
) -> None:
    found = load_options(Contract(latency=clause), MeasureOptions(), Path("photos"), None)
    assert found is not None
    assert found.single_stream_s == pytest.approx(seconds)


@pytest.mark.parametrize("seconds", [30.0, 5.0, 100.0])
def test_a_time_that_is_given_stays_as_it_is_the_default_too(seconds: float) -> None:
    options = MeasureOptions(single_stream_s=seconds)
    clause = LatencyClause(100.0, "p99")  # 66 s by itself
    found = load_options(Contract(latency=clause), options, Path("photos"), None)
    assert found is not None
    assert found.single_stream_s == seconds


def test_images_are_those_of_the_labelled_set_where_none_are_named() -> None:
    assert images_folder(labelled("/a/b/1.jpg")) == Path("/a/b")
    assert images_folder(labelled("/a/b/1.jpg", "/a/b/c/2.jpg", "/a/b/d/3.jpg")) == Path("/a/b")
    found = load_options(Contract(load=LOAD), QUICK, None, labelled("/a/b/1.jpg"))
    assert found is not None
    assert found.images == "/a/b"
    found = load_options(Contract(load=LOAD), QUICK, Path("photos"), labelled("/a/b/1.jpg"))
    assert found is not None
    assert found.images == "photos"  # where they are named, they are sent


@pytest.mark.parametrize("name", ["contract", "annotations", "labels"])
def test_no_report_overwrites_a_file_that_was_read(tmp_path: Path, name: str) -> None:
    report = tmp_path / "run" / "verdict.json"
    contract, annotations = tmp_path / "contract.toml", tmp_path / "data.yaml"
    report.parent.mkdir()
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "images" / "a.png")
    contract.write_text("[accuracy]\nap = 0.5\n")
    annotations.write_text("path: ..\ntest: ../images\nnames: [cat]\n")
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n")
    read = {"contract": contract, "annotations": annotations, "labels": tmp_path / "labels/a.txt"}
    read[name].rename(report)
    read[name].symlink_to(report)
    trial = read_trial(contract, dataset=f"yolo:{tmp_path}", annotations=annotations)
    check_places(trial, tmp_path / "other")
    with pytest.raises(InvalidInput, match=r"verdict\.json is one of the inputs"):
        check_places(trial, report.parent)


def test_what_is_missing_is_named_with_the_option() -> None:
    with pytest.raises(InvalidConfig, match="'gate' judges latency or load") as error:
        load_options(Contract("gate", latency=LATENCY), QUICK, None, None)
    assert "--images" in error.value.hint
    with pytest.raises(InvalidConfig, match="'gate' judges accuracy") as error:
        check_labels(Contract("gate", accuracy=ACCURACY), None)
    assert "--dataset" in error.value.hint
    check_labels(Contract(accuracy=ACCURACY), labelled("/a/1.jpg"))
    check_labels(Contract(accuracy=AccuracyClause(), latency=LATENCY), None)
