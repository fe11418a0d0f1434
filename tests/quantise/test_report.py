"""The report of a compression: what each layer regained, and that older files still open."""

from __future__ import annotations

import msgspec
import pytest

from seatrial.quantise.calibration_images import Skipped
from seatrial.quantise.report import QuantiseReport, Speed

# As `seatrial compress int8` of commit 47c2a9d wrote it; digests and head are shortened.
OLD = b"""{
  "to": "onnxruntime",
  "parent": {"name": "small", "digest": "ab12"},
  "engine": {"engine": "onnxruntime", "device": "cpu", "precision": "int8"},
  "gate": {"drop": 0.005, "shift": 0.03, "samples": 1000, "seed": 0},
  "judged_on": "coco:scene, 16 pictures",
  "calibration": {"folder": "scene", "pictures": 6, "skipped": 1, "seed": 0, "sha256": "cd34"},
  "head": ["dfl_softmax/Softmax", "output0/Concat"],
  "candidates": [
    {"recipe": "minmax", "quantised": 6, "finding": {
      "metric": "ap", "parent": 1.0, "child": 0.7, "drop": 0.3, "low": 0.2, "high": 0.4,
      "level": 0.95, "images": 16, "mean_shift": null, "mean_abs_shift": null, "matched": 0,
      "lost": 48, "gained": 0}},
    {"recipe": "entropy", "quantised": 6, "finding": {
      "metric": "ap", "parent": 1.0, "child": 0.6, "drop": 0.4, "low": 0.3, "high": 0.5,
      "level": 0.95, "images": 16, "mean_shift": -0.02, "mean_abs_shift": 0.03, "matched": 20,
      "lost": 28, "gained": 0}}
  ],
  "recipe": "minmax",
  "restored": [
    {"layer": "block1.up/Conv", "error": 0.9, "finding": {
      "metric": "ap", "parent": 1.0, "child": 0.9, "drop": 0.1, "low": 0.05, "high": 0.15,
      "level": 0.95, "images": 16, "mean_shift": -0.01, "mean_abs_shift": 0.01, "matched": 45,
      "lost": 3, "gained": 0},
     "speed": {"parent_hz": 100.0, "child_hz": 180.0, "ratio": 1.8, "lanes": 2, "rounds": 9}},
    {"layer": "block1.down/Conv", "error": 0.4, "finding": {
      "metric": "ap", "parent": 1.0, "child": 1.0, "drop": 0.0, "low": 0.0, "high": 0.0,
      "level": 0.95, "images": 16, "mean_shift": -0.001, "mean_abs_shift": 0.002, "matched": 48,
      "lost": 0, "gained": 0},
     "speed": {"parent_hz": 100.0, "child_hz": 150.0, "ratio": 1.5, "lanes": 2, "rounds": 9}}
  ],
  "quantised": 4,
  "convolutions": 6,
  "finding": {
    "metric": "ap", "parent": 1.0, "child": 1.0, "drop": 0.0, "low": 0.0, "high": 0.0,
    "level": 0.95, "images": 16, "mean_shift": -0.001, "mean_abs_shift": 0.002, "matched": 48,
    "lost": 0, "gained": 0},
  "verdict": {"outcome": "holds", "within": true, "statement": "The gate holds.",
              "images_needed": null},
  "speed": {"parent_hz": 100.0, "child_hz": 150.0, "ratio": 1.5, "lanes": 2, "rounds": 9},
  "notes": ["4 graphs were compared on the pictures that decide"],
  "skipped": [{"file": "03.jpg", "reason": "not a picture"}]
}"""


def test_a_report_of_before_the_one_gate_opens() -> None:
    report = msgspec.json.decode(OLD, type=QuantiseReport)
    assert (report.gate.drop, report.gate.shift, report.gate.samples) == (0.005, 0.03, 1000)
    assert (report.verdict.outcome, report.verdict.within) == ("holds", True)
    assert report.verdict.rows == ()  # clauses came later
    assert report.candidates[0].finding.mean_shift is None
    assert report.candidates[1].finding.lost == 28
    assert report.restored[0].speed == Speed(100.0, 180.0, 1.8, 2, 9)
    assert report.skipped == (Skipped("03.jpg", "not a picture"),)
    assert report.calibration["pictures"] == 6
    # Written again it stays the same.
    assert msgspec.json.decode(msgspec.json.encode(report), type=QuantiseReport) == report


def test_a_layer_buys_what_the_drop_shrinks_by_from_the_kept_recipe_on() -> None:
    report = msgspec.json.decode(OLD, type=QuantiseReport)
    assert report.regained() == pytest.approx((0.2, 0.1))
    other = msgspec.structs.replace(report, recipe="entropy")
    assert other.regained() == pytest.approx((0.3, 0.1))
    assert msgspec.structs.replace(report, restored=()).regained() == ()
