"""Evaluation of a real detector, in process and through a real service."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.accuracy.compare import compare
from seatrial.accuracy.evaluate import coco_results, evaluate
from seatrial.accuracy.predict import InProcess
from seatrial.accuracy.service import RemoteDetector
from seatrial.artifact import Store
from seatrial.datasets.read import read_labelled
from seatrial.deployment import Deployment
from seatrial.detect.detector import Detector
from seatrial.detect.opening import open_detector
from seatrial.models.import_onnx import import_onnx
from seatrial.serve.process import ServiceProcess

pytestmark = pytest.mark.slow


def test_detector_that_sees_all_as_labelled_is_perfect(detector: Detector, scenes: Path) -> None:
    told: list[tuple[int, int]] = []
    measured = evaluate(
        InProcess(detector),
        read_labelled(f"coco:{scenes}"),
        on_progress=lambda what, done, total, unit="": told.append((done, total)),
    )
    report = measured.report
    assert report.scores.figures.ap == pytest.approx(1)
    assert [(one.name, one.category_id, one.objects) for one in report.scores.classes] == [
        ("blue", 5, 2),
        ("green", 15, 1),
        ("red", 25, 3),
    ]
    at = report.scores.at_threshold
    assert (at.found, at.wrong, at.missed) == (6, 0, 0)
    assert (report.images, report.objects, report.detections) == (4, 6, 6)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.subject["engine"] == "openvino"
    assert report.subject["precision"] == "f32"
    assert msgspec.json.decode(msgspec.json.encode(report))["rules"] == {
        "confidence": 0.001, "iou": 0.7, "max_detections": 300, "multi_label": True,
    }  # fmt: skip


def test_wrong_labels_cost_what_they_should(detector: Detector, scenes: Path) -> None:
    file = scenes / "instances.json"
    labels = json.loads(file.read_text())
    labels["annotations"][1]["category_id"] = 5  # the green one is called blue
    file.write_text(json.dumps(labels))
    scores = evaluate(InProcess(detector), read_labelled(f"coco:{scenes}")).report.scores
    by_name = {one.name: one.ap for one in scores.classes}
    assert by_name == {
        "blue": pytest.approx(67 / 101),  # two of three: recalls 0 to 0.66
        "red": pytest.approx(1),
    }


def test_service_gives_the_same_numbers_as_the_process(
    detector: Detector, scenes: Path, service: ServiceProcess
) -> None:
    dataset = read_labelled(f"coco:{scenes}")
    here = evaluate(InProcess(detector), dataset)
    with contextlib.closing(RemoteDetector(service.url)) as subject:
        subject.check(detector.artifact)
        there = evaluate(subject, dataset)
        assert subject.describe()["digest"] == detector.artifact.digest
    assert there.report.scores == here.report.scores
    assert coco_results(dataset, there.predictions) == coco_results(dataset, here.predictions)
    assert len(there.predictions) == 6


def test_comparison_with_itself_finds_nothing(detector: Detector, scenes: Path) -> None:
    measured = evaluate(InProcess(detector), read_labelled(f"coco:{scenes}"))
    found = compare(measured.box_set, measured.box_set, samples=10)
    assert found.ap is not None
    assert (found.ap.difference, found.mean_shift, found.matched) == (0, 0, 6)


# ----------------------------------------------------------------------------- real photographs


def test_yolo11n_on_coco_as_it_is_served(
    shared_yolo: Path, shared_photos: list[Path], store: Store, start_service: Any
) -> None:
    folder = shared_photos[0].parents[1]
    dataset = read_labelled(f"coco:{folder}", folder / "instances.json")
    artifact = import_onnx(store, shared_yolo)
    with open_detector(artifact, Deployment(str(artifact.path))) as opened:
        here = evaluate(InProcess(opened), dataset)
    assert here.report.scores.figures.ap == pytest.approx(0.4405, abs=5e-4)
    with (
        start_service(artifact, runtime="uvicorn") as running,
        contextlib.closing(RemoteDetector(running.url)) as subject,
    ):
        there = evaluate(subject, dataset)
    assert there.report.subject["precision"] == "f32"
    assert there.report.scores.figures.ap >= 0.437
    assert there.report.scores.figures.ap == pytest.approx(here.report.scores.figures.ap, abs=1e-4)
    reference = _pycocotools_ap(folder / "instances.json", coco_results(dataset, here.predictions))
    assert here.report.scores.figures.ap == pytest.approx(reference, abs=1e-4)


def _pycocotools_ap(annotations: Path, rows: Any) -> float:
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        run = COCOeval(truth, truth.loadRes(list(rows)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])
