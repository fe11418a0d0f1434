"""evaluate, export, bench and judge as programs call them: the structs of the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

import seatrial
from seatrial.artifact import Artifact
from seatrial.bench.options import BenchOptions, MeasureOptions
from seatrial.errors import Diverged, InvalidConfig, InvalidInput
from seatrial.trial.report import read_verdict

COLOURS = ("red", "green", "blue")


@pytest.fixture
def dataset(
    tmp_path: Path,
    picture: Callable[..., Image.Image],
    box_of: Callable[..., list[float]],
) -> Path:
    """A COCO folder of six images with one object each, where the tiny detector sees it."""
    folder = tmp_path / "set"
    folder.mkdir()
    images, annotations = [], []
    for number in range(1, 7):
        image = picture({(number, number): COLOURS[number % 3]})
        image.save(folder / f"{number}.png")
        left, top, right, bottom = box_of(number, number)
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 128})
        annotations.append(
            {
                "id": number, "image_id": number, "category_id": number % 3 + 1, "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
            }
        )  # fmt: skip
    categories = [{"id": index, "name": name} for index, name in enumerate(COLOURS, 1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_evaluate_by_name_and_by_a_loaded_detector(
    tiny_artifact: Artifact, dataset: Path, at_home: Path
) -> None:
    told: list[tuple[Any, ...]] = []
    found = seatrial.evaluate(
        tiny_artifact.path,
        f"coco:{dataset}",
        on_progress=lambda *step, unit="": told.append(step),
        wide=False,
    )
    assert found.scores.figures.ap == pytest.approx(1.0)
    assert (found.images, found.objects) == (6, 6)
    assert found.subject["precision"] == "f32"
    assert told
    with seatrial.load(tiny_artifact.path, engine="onnxruntime", wide=False) as loaded:
        again = seatrial.evaluate(loaded, f"coco:{dataset}", threshold=np.float32(0.9))  # type: ignore[arg-type]
        assert again.scores.figures == found.scores.figures
        assert again.subject["engine"] == "onnxruntime"
        assert again.scores.at_threshold.threshold == pytest.approx(0.9)
        assert msgspec.json.encode(again)
        assert len(loaded(dataset / "1.png")) == 1  # still open
        with pytest.raises(InvalidConfig, match="takes no other engine"):
            seatrial.evaluate(loaded, f"coco:{dataset}", engine="openvino")
    with pytest.raises(InvalidConfig, match=r"1\.5 is not between 0 and 1"):
        seatrial.evaluate(tiny_artifact.path, f"coco:{dataset}", threshold=1.5)


def test_evaluate_takes_other_labels(
    tiny_artifact: Artifact, dataset: Path, tmp_path: Path
) -> None:
    labels = json.loads((dataset / "instances.json").read_text())
    labels["annotations"] = labels["annotations"][:3]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(labels))
    with seatrial.load(tiny_artifact.path, wide=False) as loaded:
        assert seatrial.evaluate(loaded, f"coco:{dataset}", annotations=other).objects == 3


def test_export_gives_the_report_and_an_artifact(
    tiny_artifact: Artifact, dataset: Path, at_home: Path
) -> None:
    report = seatrial.export(
        tiny_artifact.path, to="openvino", images=dataset, name="made", precision="f32"
    )
    assert report.child.engine == "openvino"
    assert report.images == 6
    with seatrial.load("made", wide=False) as loaded:
        assert loaded(dataset / "1.png").labels == ["green"]
    with pytest.raises(InvalidInput, match="there is no bf16 for onnx"):
        seatrial.export(tiny_artifact.path, to="onnx", images=dataset, precision="bf16")


def test_an_export_that_differs_tells_where(
    tiny_artifact: Artifact, dataset: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*arguments: Any, **options: Any) -> None:
        raise Diverged("it differs")

    monkeypatch.setattr("seatrial.export.run.export", diverged)
    with pytest.raises(Diverged):
        seatrial.export(tiny_artifact.path, to="openvino", images=dataset)


def test_bench_of_a_running_service(service: Any, dataset: Path) -> None:
    told: list[str] = []
    options = BenchOptions(
        images=str(dataset), scenarios=("scaling",), sessions=(2,), point_s=1.0, warmup_s=0
    )
    report = seatrial.bench(
        options, url=service.url, on_progress=lambda what, *_, unit="": told.append(what)
    )
    assert report.runs[0].points[0].good > 0
    assert report.images.used == 6
    assert report.model["name"] == "tiny"
    assert told[0] == "asking the service"


@pytest.mark.slow
def test_bench_starts_a_service_and_ends_it(
    tiny_artifact: Artifact, dataset: Path, at_home: Path, tmp_path: Path
) -> None:
    """A file describes it; what is given beside it overrides the file."""
    file = tmp_path / "deployment.toml"
    file.write_text('model = "other"\n[layout]\nwide = false\n[limits]\nqueue = 9\n')
    options = BenchOptions(
        images=str(dataset), scenarios=("scaling",), sessions=(1,), point_s=0.5, warmup_s=0
    )
    told: list[str] = []
    report = seatrial.bench(
        options,
        model=tiny_artifact.path,
        deployment=file,
        engine="onnxruntime",
        on="uvicorn",
        protocol="v2",
        on_progress=lambda what, *_, unit="": told.append(what),
    )
    assert report.target.protocol == "v2"
    model = report.model or {}
    assert (model["name"], model["engine"], model["limits"]["queue"]) == ("tiny", "onnxruntime", 9)
    assert (model["layout"]["workers"], model["layout"]["wide_threads"]) == (1, 0)
    assert told[-1] == "stopping the service"
    assert list((at_home / "services").iterdir()) == []


def test_what_bench_is_given_must_go_together(tiny_artifact: Artifact, dataset: Path) -> None:
    with pytest.raises(InvalidConfig, match="give a model or the address"):
        seatrial.bench(dataset)
    with pytest.raises(InvalidConfig, match="give a model or the address"):
        seatrial.bench(dataset, model=tiny_artifact.path, url="http://127.0.0.1:1")
    with pytest.raises(InvalidConfig, match="takes no other threads"):
        seatrial.bench(dataset, url="http://127.0.0.1:1", threads=1)
    with pytest.raises(InvalidConfig, match="takes no other on"):
        seatrial.bench(dataset, url="http://127.0.0.1:1", on="triton")
    for several in ({"on": ["uvicorn"]}, {"protocol": ("http", "v2")}, {"rounds": 2}):
        with pytest.raises(InvalidConfig, match="measured by one protocol, where it runs"):
            seatrial.bench(dataset, url="http://127.0.0.1:1", **several)  # type: ignore[call-overload]
    with pytest.raises(InvalidConfig, match="token and ca_file are for the address"):
        seatrial.bench(dataset, model=tiny_artifact.path, token="secret")
    with pytest.raises(InvalidConfig, match="runtime"):
        seatrial.bench(dataset, model=tiny_artifact.path, on="apache")  # type: ignore[call-overload]
    with pytest.raises(InvalidConfig, match="unknown scenario"):
        seatrial.bench(
            BenchOptions(images=str(dataset), scenarios=("scalin",)), model=tiny_artifact.path
        )


CONTRACT = '[latency]\npercentile = "p50"\nat_most_ms = {limit}\n[accuracy]\nap50 = 1.0\n'


def test_judge_gives_what_the_command_writes(
    service: Any, dataset: Path, at_home: Path, tmp_path: Path
) -> None:
    contract, told = tmp_path / "contract.toml", list[str]()
    contract.write_text(CONTRACT.format(limit=60_000))
    quick = MeasureOptions(single_stream_requests=12, single_stream_s=20.0, warmup_s=0)
    report = seatrial.judge(
        contract,
        url=service.url,
        dataset=f"coco:{dataset}",
        split="val",
        measure=quick,
        output=tmp_path / "out",
        on_progress=lambda what, *_, unit="": told.append(what),
    )
    outcomes = {row.clause.metric: row.outcome for row in report.verdict.rows}
    assert outcomes == {"accuracy.ap50": "holds", "latency.at_most_ms": "holds"}
    assert read_verdict(tmp_path / "out" / "verdict.json") == report
    assert (tmp_path / "out" / "verdict.html").is_file()
    assert "asking the service" in told
    contract.write_text("[latency]\npercentile = 'p50'\nat_most_ms = 0.001\n")
    failed = seatrial.judge(contract, url=service.url, images=dataset, measure=quick)
    assert failed.verdict.outcome in ("fails", "undecided")  # the latter on a busy machine
    assert failed.files == {}


def test_what_judge_is_given_must_go_together(
    tiny_artifact: Artifact, dataset: Path, tmp_path: Path
) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT.format(limit=60))
    with pytest.raises(InvalidConfig, match="give a model or the address"):
        seatrial.judge(contract)
    with pytest.raises(InvalidConfig, match="takes no other threads"):
        seatrial.judge(contract, url="http://127.0.0.1:1", threads=1)
    with pytest.raises(InvalidConfig, match="takes no other on"):
        seatrial.judge(contract, url="http://127.0.0.1:1", on="triton")
    with pytest.raises(InvalidConfig, match="token and ca_file are for the address"):
        seatrial.judge(contract, model=tiny_artifact.path, token="secret")
    with pytest.raises(InvalidConfig, match="judges accuracy, and there are no labelled images"):
        seatrial.judge(contract, model=tiny_artifact.path, images=dataset)
    contract.write_text("")
    with pytest.raises(InvalidConfig, match="nothing"):
        seatrial.judge(contract, model=tiny_artifact.path)


def test_arrays_of_the_result_are_numpys(tiny_artifact: Artifact, dataset: Path) -> None:
    with seatrial.load(tiny_artifact.path, wide=False) as loaded:
        found = loaded(dataset / "2.png")
    assert isinstance(found, seatrial.LabelledDetections)
    assert isinstance(found.xyxy, np.ndarray)
