"""The outcome of a run: the gain over the base, and which engine measures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seatrial.accuracy.bootstrap import Difference
from seatrial.datasets.read import read_labelled
from seatrial.errors import TrainingFailed
from seatrial.progress import silent
from seatrial.train.plan import read_sets
from seatrial.train.result import _proof, conclude, gain_verdict


def difference(gain: float, low: float, high: float) -> Difference:
    return Difference(
        a=0.4, b=0.4 + gain, difference=gain, low=low, high=high, level=0.95, images=50,
        samples=1000, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "low", "high", "outcome"),
    [
        (0.1, 0.02, 0.2, "holds"),
        (0.1, 0.0, 0.2, "holds"),
        (0.1, -0.02, 0.2, "undecided"),
        (-0.01, -0.1, 0.05, "undecided"),
        (-0.1, -0.2, -0.01, "fails"),
    ],
)
def test_a_gain_holds_where_its_whole_interval_is_one(
    gain: float, low: float, high: float, outcome: str
) -> None:
    verdict = gain_verdict(difference(gain, low, high))
    assert verdict.outcome == outcome
    (row,) = verdict.rows
    assert (row.measured, row.low, row.high, row.level) == (gain, low, high, 0.95)
    assert f"mAP {gain:+.4f} against the base" in verdict.statement
    assert "50 images" in verdict.statement
    assert (row.images_needed is not None) == (outcome == "undecided")


def test_a_run_without_weights_is_said_so(cells: str, tmp_path: Path) -> None:
    plan: Any = SimpleNamespace()
    with pytest.raises(TrainingFailed, match="does not hold weights"):
        conclude(plan, tmp_path, read_sets(cells, None)[1], None, "mine", silent)


def test_the_export_is_verified_on_the_validation_images_and_their_labels(
    cells: str, tmp_path: Path
) -> None:
    validation = read_sets(cells, None)[1]
    for _ in range(2):  # a second call replaces the first folder
        folder = _proof(validation, tmp_path)
    again = read_labelled(f"coco:{folder}", folder / "instances.json")
    assert [image.path.read_bytes() for image in again.images] == [
        image.path.read_bytes() for image in validation.images
    ]
    assert again.truth.xywh == pytest.approx(validation.truth.xywh, abs=1e-6)
    assert np.array_equal(again.truth.category, validation.truth.category)
    assert len(list(folder.iterdir())) == 9
