"""Checks of the labels before the first step, with and without a base model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.errors import InvalidDataset
from seatrial.train import preflight as module
from seatrial.train.diagnosis import Symptom
from seatrial.train.plan import TrainingPlan, read_sets
from seatrial.train.preflight import PROBED, preflight
from seatrial.train.validation import Validation


@pytest.fixture
def plan(settle_plan: Callable[..., TrainingPlan]) -> TrainingPlan:
    return settle_plan("lightning", "rt_detr", "")


def corners(dataset: Any) -> Any:
    """The set with its boxes as [left, top, right, bottom], as a wrong converter writes them."""
    xywh = dataset.truth.xywh
    wrong = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
    images = tuple(replace_size(image) for image in dataset.images)
    truth = replace(dataset.truth, xywh=wrong)
    return replace(dataset, source="coco:here", images=images, truth=truth)


def replace_size(image: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(image, width=96, height=96)


def test_sound_sets_have_no_symptom(plan: TrainingPlan) -> None:
    assert preflight(plan, read_sets(plan.data.train, None), None) == []


@pytest.mark.parametrize("which", [0, 1])
def test_damage_in_either_set_is_found_before_the_first_step(
    plan: TrainingPlan, which: int, tmp_path: Path
) -> None:
    sets = list(read_sets(plan.data.train, None))
    images = list(sets[which].images)
    data = images[3].path.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:-300])
    images[3] = msgspec.structs.replace(images[3], path=tmp_path / "cut.png")
    sets[which] = replace(sets[which], images=tuple(images))
    with pytest.raises(InvalidDataset, match=r"cut\.png: the PNG is damaged"):
        preflight(plan, (sets[0], sets[1]), None)


@pytest.mark.parametrize(("which", "name"), [(0, "training"), (1, "validation")])
def test_a_symptom_names_its_set_and_the_base_is_not_asked(
    plan: TrainingPlan, which: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = list(read_sets(plan.data.train, None))
    sets[which] = corners(sets[which])
    monkeypatch.setattr(module, "_base_detections", lambda *given: pytest.fail("was asked"))
    base: Any = object()
    (symptom,) = preflight(plan, (sets[0], sets[1]), base)
    assert symptom.code == "box-format"
    assert f"of the {name} set" in symptom.seen


def test_a_base_that_knows_the_classes_is_asked(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = read_sets(plan.data.train, None)
    found = Symptom("labels-off-by-one", "a", "b", "c", fatal=True)
    seen: Any = object()
    monkeypatch.setattr(module, "_base_detections", lambda base, training, path: (training, seen))
    monkeypatch.setattr(
        module.diagnosis,
        "of_known_classes",
        lambda dataset, validation: found if (dataset, validation) == (sets[0], seen) else None,
    )
    base: Any = object()
    assert preflight(plan, sets, base) == [found]
    monkeypatch.setattr(module, "_base_detections", lambda *given: None)
    assert preflight(plan, sets, base) == []


def test_a_subset_has_the_objects_of_its_images(plan: TrainingPlan) -> None:
    dataset = read_sets(plan.data.train, None)[0]
    chosen = np.array([3, 7, 20])
    part = module._subset(dataset, chosen)
    assert [image.name for image in part.images] == [dataset.images[i].name for i in chosen]
    for place, image in enumerate(chosen.tolist()):
        ours = part.truth.xywh[part.truth.image == place]
        theirs = dataset.truth.xywh[dataset.truth.image == image]
        assert np.array_equal(ours, theirs)
    assert len(part.truth) == np.isin(dataset.truth.image, chosen).sum()


def test_a_base_detects_on_some_training_images_if_it_knows_three_classes(
    plan: TrainingPlan, tmp_path: Any, transformers: Any
) -> None:
    from seatrial.artifact import Store
    from seatrial.models.import_checkpoint import import_transformers
    from seatrial.train import network as networks

    networks.save(networks.build(plan)[0], plan, tmp_path / "saved")
    base = import_transformers(
        Store(tmp_path / "store"), tmp_path / "saved", name="mine", uri="here", licence="unknown"
    )
    training = read_sets(plan.data.train, None)[0]
    found = module._base_detections(base, training, tmp_path / "saved")
    assert found is not None
    dataset, validation = found
    assert isinstance(validation, Validation)
    assert len(dataset.images) == min(PROBED, len(training.images))
    one_class = replace(training, categories=training.categories[:1])
    few = replace(
        one_class, truth=training.truth.take(np.flatnonzero(training.truth.category == 0))
    )
    assert module._base_detections(base, few, tmp_path / "saved") is None
