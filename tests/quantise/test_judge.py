"""The images that an INT8 version is judged on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.loss import judge_loss
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import LabelledImage, LabelledSet, Truth
from seatrial.errors import InvalidDataset
from seatrial.quantise.judge import Judge


def names(labelled: LabelledSet) -> tuple[str, ...]:
    return tuple(category.name for category in labelled.categories)


def everything(labelled: LabelledSet, confidence: float = 0.9) -> Predictions:
    truth = labelled.truth
    return Predictions(truth.image, truth.category, truth.xywh, np.full(len(truth), confidence))


def test_with_labels_the_drop_is_the_parents_ap_less_the_childs(labelled: LabelledSet) -> None:
    judge = Judge.by_labels(labelled, names(labelled), LossLimits(samples=200))
    parent = judge.boxes(everything(labelled))
    same = judge.loss(judge.boxes(everything(labelled)), parent)
    assert same.metric == "ap"
    assert (same.drop, same.low, same.high, same.mean_shift) == (0, 0, 0, 0)
    half = everything(labelled).take(np.flatnonzero(labelled.truth.image < 8))
    worse = judge.loss(judge.boxes(half), parent)
    assert worse.drop == pytest.approx(0.5, abs=0.05)
    assert worse.low < worse.drop < worse.high
    assert judge_loss(worse, LossLimits()).outcome == "fails"


def test_without_labels_agreement_decides(labelled: LabelledSet) -> None:
    files = tuple(image.path for image in labelled.images)
    judge = Judge.by_agreement(files, names(labelled), LossLimits(samples=50), key="k")
    assert (judge.key, judge.labelled) == ("k", False)
    assert [(c.id, c.name) for c in judge.dataset.categories] == list(enumerate(names(labelled)))
    assert judge.matched.tolist() == list(range(len(names(labelled))))
    parent = judge.boxes(everything(labelled))
    got = judge.loss(parent, parent)
    assert (got.metric, got.child, got.images) == ("agreement", 1, len(files))
    with pytest.raises(InvalidDataset, match="sees nothing"):
        judge.loss(parent, judge.boxes(everything(labelled, confidence=0.2)))


def test_many_images_decide_what_a_few_cannot(labelled: LabelledSet) -> None:
    chance, images, each = np.random.default_rng(3), 5000, 12
    truth = Truth.of(
        np.repeat(np.arange(images), 3),
        chance.integers(0, 3, 3 * images),
        np.tile([[0.0, 0, 20, 20], [40, 0, 20, 20], [80, 0, 20, 20]], (images, 1)),
    )
    many = replace(
        labelled,
        images=tuple(numbered(labelled.images[0], index) for index in range(images)),
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
    told: list[int] = []
    judge = Judge.by_labels(many, names(labelled), LossLimits(samples=100))
    found = judge.loss(
        judge.boxes(child),
        judge.boxes(parent),
        lambda what, done=0, total=0, unit="": told.append(done),
    )
    assert found.images == images
    assert found.high - found.low < 0.005  # 53 images have an interval ten times as wide
    assert judge_loss(found, LossLimits(0.005)).outcome != "undecided"
    assert told == [50, 100, 50, 100]


def numbered(image: LabelledImage, number: int) -> LabelledImage:
    return msgspec.structs.replace(image, id=number, name=f"{number}.jpg")


def test_labels_of_another_world_are_an_error(labelled: LabelledSet) -> None:
    with pytest.raises(InvalidDataset):
        Judge.by_labels(replace(labelled, source="x"), ("cat", "dog"), LossLimits())


def test_the_key_changes_with_labels_and_images(labelled: LabelledSet, tmp_path: Path) -> None:
    file = tmp_path / "one.jpg"
    file.write_bytes(b"one")
    image = msgspec.structs.replace(labelled.images[0], path=file)
    one = replace(labelled, images=(image, *labelled.images[1:]))

    def key(dataset: LabelledSet) -> str:
        return Judge.by_labels(dataset, names(labelled), LossLimits()).key

    first = key(one)
    assert key(one) == first
    file.write_bytes(b"three")
    os.utime(file, ns=(1, 1))
    assert key(one) != first
    fewer = replace(one, truth=one.truth.take(np.arange(3)))
    assert key(fewer) != key(one)
    file.unlink()
    assert key(one) != first
