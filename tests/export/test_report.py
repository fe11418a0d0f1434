"""Reports of exports: what goes into the manifest, and that older files still open."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from seatrial.errors import InvalidArtifact
from seatrial.export.report import read_report

# As the version before the one comparison wrote it, shortened where lists repeat themselves.
OLD = """{
  "options": {"to": "onnx", "precision": "f16", "dynamic_batch": false, "imgsz": null,
              "fuse_nms": false},
  "parent": {"artifact": "tiny", "digest": "ab", "engine": "onnxruntime", "precision": "f32",
             "version": "1.23.0"},
  "child": {"artifact": "tiny-onnx-f16", "digest": "", "engine": "onnxruntime",
            "precision": "f16", "version": "1.23.0"},
  "tolerance": {"output": null, "iou": 0.97, "shift": 0.01, "unmatched": 0.02, "ap": 0.005},
  "images": 6,
  "outputs": [{"name": "output0", "worst": 0.25, "mean": 0.01, "scale": 64.0, "within": 0.9,
               "ordered": true}],
  "batch": [],
  "boxes": {"floor": 0.25, "parent": 18, "matched": 17, "gained": 2, "iou_mean": 0.98,
            "iou_least": 0.9, "shift_mean": -0.001, "shift_mean_abs": 0.002, "shift_most": 0.01},
  "accuracy": {"images": 6, "parent": 0.9, "child": 0.89, "difference": -0.01, "low": -0.02,
               "high": 0.0},
  "failures": %s,
  "blame": {"compared": 9, "looked_at": 4, "limit": 0.02,
            "first": {"tensor": "t", "operator": "Conv", "node": "c", "error": 0.5},
            "before": null, "steepest": []},
  "tensorrt": null,
  "restless": {"floor": 0.25, "parent": 18, "matched": 18, "gained": 0, "iou_mean": 0.97,
               "iou_least": 0.9, "shift_mean": 0.0, "shift_mean_abs": 0.001, "shift_most": 0.01}
}"""


@pytest.mark.parametrize(("failures", "outcome"), [([], "holds"), (["AP fell"], "fails")])
def test_a_report_of_before_the_one_comparison_opens(
    tmp_path: Path, failures: list[str], outcome: str
) -> None:
    file = tmp_path / "export.json"
    file.write_text(OLD % msgspec.json.encode(failures).decode())
    report = read_report(file)
    boxes = report.boxes
    assert (boxes.parent_boxes, boxes.matched, boxes.lost, boxes.gained) == (18, 17, 1, 2)
    assert (boxes.child_boxes, boxes.images, boxes.floor) == (19, 6, 0.25)
    assert (boxes.iou_mean, boxes.iou_least) == (0.98, 0.9)
    assert (boxes.mean_shift, boxes.mean_abs_shift, boxes.most_shift) == (-0.001, 0.002, 0.01)
    assert report.accuracy is not None
    assert (report.accuracy.a, report.accuracy.b, report.accuracy.low) == (0.9, 0.89, -0.02)
    assert report.verdict.outcome == outcome
    assert all(failure in report.verdict.statement for failure in failures)
    assert report.first_difference is not None
    assert report.first_difference.first is not None
    assert report.first_difference.first.node == "c"
    assert report.parent_noise is not None
    assert (report.parent_noise.iou_mean, report.parent_noise.lost) == (0.97, 0)
    assert report.metrics() == {
        "output_error.output0": 0.25,
        "boxes.iou_mean": 0.98,
        "boxes.shift_mean": -0.001,
        "boxes.shift_mean_abs": 0.002,
        "boxes.shift_most": 0.01,
        "boxes.matched": 17,
        "boxes.parent": 18,
        "coco_ap": 0.89,
        "coco_ap.parent": 0.9,
    }
    # Written again it is a new one, and stays the same.
    file.write_bytes(msgspec.json.encode(report))
    assert read_report(file) == report


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verdict": 3}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "export.json"
    file.write_text(text)
    with pytest.raises(InvalidArtifact, match="not the report of an export") as refusal:
        read_report(file)
    assert "export the model again" in refusal.value.hint
    with pytest.raises(InvalidArtifact, match="not the report of an export"):
        read_report(tmp_path / "missing.json")
