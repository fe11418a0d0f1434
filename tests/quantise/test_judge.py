"""The verdict: holds, fails, or the pictures cannot tell; agreement where there are no labels."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.accuracy.compare import agreement
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import LabelledImage, LabelledSet, Truth
from seatrial.errors import InvalidDataset
from seatrial.quantise.job import best_of
from seatrial.quantise.judge import Finding, Gate, LabelJudge, judge
from seatrial.quantise.report import Candidate


def finding(drop: float, low: float, high: float, **changes: Any) -> Finding:
    plain = Finding("ap", 0.44, 0.44 - drop, drop, low, high, 0.95, 53, -0.01, 0.03, 300, 2, 1)
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    ("drop", "low", "high", "outcome", "within"),
    [
        (0.001, -0.001, 0.003, "holds", True),
        (-0.02, -0.03, -0.01, "holds", True),
        (0.02, 0.01, 0.03, "fails", False),
        (0.001, -0.008, 0.009, "undecided", True),
        (0.007, -0.002, 0.015, "undecided", False),
        (0.005, 0.005, 0.005, "holds", True),
    ],
)
def test_the_interval_decides(
    drop: float, low: float, high: float, outcome: str, within: bool
) -> None:
    verdict = judge(finding(drop, low, high), Gate(0.005))
    assert (verdict.outcome, verdict.within) == (outcome, within)
    assert f"AP {'rises' if drop < 0 else 'drops'} by {abs(drop):.4f}" in verdict.statement
    assert "53 images" in verdict.statement


def test_a_set_that_is_too_small_says_so_and_how_large_it_should_be() -> None:
    verdict = judge(finding(0.001, -0.007, 0.009), Gate(0.005))
    assert "too small to decide" in verdict.statement
    assert verdict.images_needed == 210  # half as wide: four times 53, to two digits
    assert "210" in verdict.statement
    assert judge(finding(0.005, -0.004, 0.014), Gate(0.005)).images_needed is None


@pytest.mark.parametrize("shift", [-0.2, 0.2, None])
def test_confidences_that_moved_fail_the_gate_though_ap_holds(shift: float | None) -> None:
    verdict = judge(finding(0.0, -0.001, 0.001, mean_shift=shift), Gate(0.005, shift=0.03))
    assert (verdict.outcome, verdict.within) == ("fails", False)


def boxes(rows: list[tuple[int, int, float, float]]) -> Predictions:
    """(image, category, left, confidence); boxes are 10 x 10."""
    table = np.array(rows, np.float64).reshape(-1, 4)
    xywh = np.zeros((len(rows), 4))
    xywh[:, 0], xywh[:, 2:] = table[:, 2], 10
    return Predictions(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), xywh, table[:, 3]
    )


def test_agreement_counts_pairs_and_what_only_one_side_sees() -> None:
    parent = boxes([(0, 0, 0, 0.9), (0, 0, 50, 0.26), (1, 1, 0, 0.8), (1, 0, 80, 0.1)])
    child = boxes([(0, 0, 1, 0.7), (0, 0, 50, 0.2), (1, 0, 0, 0.8)])
    found = agreement(child, parent, images=3, categories=2)
    # 0.26 -> 0.20 is a pair; another class is none; 0.1 is seen by nobody.
    assert found.both.tolist() == [2, 0, 0]
    assert found.alone.tolist() == [0, 2, 0]
    assert found.share == pytest.approx(4 / 6)
    low, high = found.interval(samples=500, seed=0)
    assert low < found.share < high
    assert found.interval(samples=500, seed=0) == (low, high)


def test_a_box_that_all_but_vanished_is_no_agreement() -> None:
    parent, child = boxes([(0, 0, 0, 0.9)]), boxes([(0, 0, 0, 0.1)])
    found = agreement(child, parent, images=1, categories=1)
    assert (found.both.tolist(), found.alone.tolist()) == ([0], [1])


def test_equal_detectors_agree_as_surely_as_the_number_of_boxes_allows() -> None:
    for count, lowest in ((20, 0.85), (3000, 0.999)):
        one = boxes([(i, 0, 0, 0.9) for i in range(count)])
        found = agreement(one, one, images=count, categories=1)
        assert found.share == 1
        assert found.interval(samples=200, seed=0) == (pytest.approx(lowest), 1)


def test_the_drop_is_the_parents_ap_less_the_childs(labelled: LabelledSet) -> None:
    names = tuple(c.name for c in labelled.categories)
    truth = labelled.truth
    everything = Predictions(truth.image, truth.category, truth.xywh, np.full(len(truth), 0.9))
    half = everything.take(np.flatnonzero(truth.image < 8))
    by_labels = LabelJudge(labelled, names, Gate(samples=200))
    same = by_labels.find(everything, everything)
    assert (same.drop, same.low, same.high, same.mean_shift) == (0, 0, 0, 0)
    worse = by_labels.find(half, everything)
    assert worse.drop == pytest.approx(0.5, abs=0.05)
    assert worse.low < worse.drop < worse.high
    assert judge(worse, Gate()).outcome == "fails"


def test_five_thousand_pictures_are_judged_in_seconds(labelled: LabelledSet) -> None:
    chance, images, each = np.random.default_rng(3), 5000, 40
    truth = Truth.of(
        np.repeat(np.arange(images), 3),
        chance.integers(0, 3, 3 * images),
        np.tile([[0.0, 0, 20, 20], [40, 0, 20, 20], [80, 0, 20, 20]], (images, 1)),
    )
    many = replace(
        labelled,
        images=tuple(replace_id(labelled.images[0], index) for index in range(images)),
        truth=truth,
    )
    place = chance.integers(0, 3 * images, images * each)
    place.sort()
    parent = Predictions(
        truth.image[place],
        truth.category[place],
        truth.xywh[place] + chance.normal(0, 2, (len(place), 4)),
        chance.random(len(place)),
    )
    child = replace(parent, score=np.clip(parent.score + chance.normal(0, 0.02, len(place)), 0, 1))
    names = tuple(c.name for c in labelled.categories)
    told: list[int] = []
    begun = time.process_time()  # of this process: other work on the machine is not ours
    found = LabelJudge(many, names, Gate(samples=100)).find(
        child, parent, lambda what, done, total: told.append(done)
    )
    assert time.process_time() - begun < 20
    assert found.images == images
    assert found.high - found.low < 0.005  # what 53 pictures cannot do
    assert judge(found, Gate(0.005)).outcome != "undecided"
    assert told == [50, 100, 50, 100]


def replace_id(image: LabelledImage, number: int) -> LabelledImage:
    return msgspec.structs.replace(image, id=number, name=f"{number}.jpg")


def test_labels_of_another_world_are_an_error(labelled: LabelledSet) -> None:
    with pytest.raises(InvalidDataset):
        LabelJudge(replace(labelled, source="x"), ("cat", "dog"), Gate())


def test_of_equal_drops_the_calmest_confidences_win() -> None:
    def candidate(recipe: str, drop: float, size: float | None) -> Candidate:
        return Candidate(recipe, 3, finding(drop, 0, 0, mean_abs_shift=size))

    tried = [candidate("a", 0.000, 0.05), candidate("b", 0.004, 0.02), candidate("c", 0.006, 0.01)]
    assert best_of(tried, Gate(0.005)).recipe == "b"
    assert best_of(tried, Gate(0.001)).recipe == "a"
    assert best_of([candidate("x", 0, None), *tried], Gate(0.005)).recipe == "b"
