"""The outcome of a run: the gain over the base, and which engine measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.accuracy.bootstrap import Difference
from seatrial.artifact import Artifact, Store
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset, InvalidInput, TrainingFailed
from seatrial.progress import silent
from seatrial.train import result
from seatrial.train.journal import Epoch, Journal
from seatrial.train.plan import Base, Data, TrainingPlan, read_sets
from seatrial.train.recipe import Recipe
from seatrial.train.result import (
    NOTHING_IN_COMMON,
    TrainingResult,
    _proof,
    conclude,
    gain_verdict,
    publish,
)


def difference(gain: float, low: float, high: float) -> Difference:
    return Difference(
        a=0.4, b=0.4 + gain, difference=gain, low=low, high=high, level=0.95, images=50,
        samples=1000, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "low", "high", "outcome"),
    [
        (0.1, 0.02, 0.2, "holds"),
        (0.1, -0.005, 0.2, "holds"),
        (0.1, -0.0051, 0.2, "undecided"),
        (-0.01, -0.1, 0.05, "undecided"),
        (-0.1, -0.2, -0.005, "undecided"),
        (-0.1, -0.2, -0.0051, "fails"),
    ],
)
def test_a_finetuned_model_may_lose_what_every_child_may(
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


def renamed(tmp_path: Path, artifact: Artifact, name: str, *labels: str) -> Artifact:
    """The artifact with other names for its classes, in a store of its own."""
    store = Store(tmp_path / f"store of {name}")
    with store.staging() as folder:
        for entry in artifact.manifest.files:
            (folder / entry.path).write_bytes((artifact.path / entry.path).read_bytes())
        return store.commit(
            folder, msgspec.structs.replace(artifact.manifest, name=name, labels=labels)
        )


@pytest.fixture
def validation(scenes: Path) -> LabelledSet:
    """Labels that are what the tiny detector sees."""
    return read_labelled(f"coco:{scenes}")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Folder of a run whose third epoch was the best."""
    folder = tmp_path / "run"
    folder.mkdir()
    journal = Journal(folder)
    for epoch, ap in ((2, 0.25), (3, 0.5), (4, 0.125)):
        journal.epoch(Epoch(epoch, 10 * epoch, 1.0, ap, 0.75, 0.4, 1.0, 1.0))
    for number in range(5):
        (folder / f"best-{number:04}").mkdir()
    return folder


@pytest.fixture
def concluded(
    tiny_artifact: Artifact,
    validation: LabelledSet,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Concludes a run whose weights and export are the tiny detector."""
    seen: dict[str, Any] = {"said": []}

    def import_transformers(store: Store, folder: Path, **options: Any) -> Artifact:
        seen.update(weights=folder, imported=options)
        return tiny_artifact

    def export(store: Store, checkpoint: Artifact, options: Any, **checks: Any) -> Artifact:
        seen.update(options=options, checks=checks)
        return tiny_artifact

    monkeypatch.setattr(result, "import_transformers", import_transformers)
    monkeypatch.setattr(result, "export", export)
    plan = TrainingPlan(
        trainer="lightning",
        base=Base("old", "rt_detr", "nowhere", digest="abc", licence="MIT"),
        data=Data("scenes", train_digest="t", val_digest="v"),
        recipe=msgspec.structs.replace(Recipe(), seed=7),
        labels=tiny_artifact.manifest.labels,
        classes=(2, 1, 0),
        new_head=True,
    )

    def run_it(base: Artifact | None) -> tuple[TrainingResult, dict[str, Any]]:
        found = conclude(plan, run, validation, base, "new", lambda what: seen["said"].append(what))
        return found, seen

    return run_it


def test_a_run_is_exported_verified_and_measured_against_its_base(
    concluded: Any, tiny_artifact: Artifact, run: Path, tmp_path: Path
) -> None:
    base = renamed(tmp_path, tiny_artifact, "old", "red", "green", "none")  # it knows no blue
    found, seen = concluded(base)
    assert seen["weights"].name == "best-0003"
    assert seen["imported"]["name"] == "new-checkpoint"
    assert (seen["imported"]["uri"], seen["imported"]["licence"]) == ("finetuned:old", "MIT")
    made = seen["imported"]["lineage"]
    assert (made.parent, made.metrics) == ("abc", {"val_ap": 0.5, "val_ap50": 0.75})
    assert made.step.config["best_epoch"] == 3
    assert made.step.config["recipe"]["seed"] == 7
    proof = seen["checks"]["images"]
    assert seen["checks"]["annotations"] == proof / "instances.json"
    assert proof.parent == run
    assert len(read_labelled(f"coco:{proof}").images) == 4
    assert found.child.scores.figures.ap == pytest.approx(1)
    assert found.base.scores.figures.ap == pytest.approx(2 / 3)
    assert found.difference.difference == pytest.approx(1 / 3)
    assert (found.child.name, found.base.name) == (tiny_artifact.manifest.name, "old")
    assert found.child.engine.endswith(", cpu, f32")
    assert found.verdict == gain_verdict(found.difference)
    assert [what.split(" ")[0] for what in seen["said"]] == ["measuring", "measuring"]


def test_from_scratch_there_is_no_base_to_compare_with(concluded: Any) -> None:
    found, _ = concluded(None)
    assert (found.base, found.difference, found.verdict) == (None, None, None)


def test_a_base_that_knows_none_of_the_classes_finds_nothing(
    concluded: Any, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    found, _ = concluded(renamed(tmp_path, tiny_artifact, "old", "a", "b", "c"))
    assert found.base.note == NOTHING_IN_COMMON
    assert found.child.note == ""
    assert found.base.scores.figures.ap == 0
    assert len(found.base.predictions) == len(found.base.predictions.score) == 0
    assert found.base.predictions.xywh.shape == (0, 4)


def test_a_base_with_two_classes_of_one_name_is_refused(
    concluded: Any, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(InvalidDataset):
        concluded(renamed(tmp_path, tiny_artifact, "old", "red", "Red", "c"))


def test_what_is_published_holds_its_files_and_its_figures(
    concluded: Any, tiny_artifact: Artifact, store: Store, tmp_path: Path
) -> None:
    found, _ = concluded(renamed(tmp_path, tiny_artifact, "old", "red", "green", "none"))
    weights = renamed(tmp_path, tiny_artifact, "new-checkpoint", "red", "green", "blue")
    found = replace(found, checkpoint=weights)
    checkpoint, artifact = publish(found, store, {"report.html": b"text"}, replace_old=False)
    assert checkpoint.manifest.files == weights.manifest.files
    assert (artifact.path / "report.html").read_bytes() == b"text"
    for made, source in ((checkpoint, weights), (artifact, tiny_artifact)):
        for entry in source.manifest.files:
            wanted = (source.path / entry.path).read_bytes()
            assert (made.path / entry.path).read_bytes() == wanted
    low, high = found.difference.low, found.difference.high
    assert artifact.manifest.metrics == pytest.approx(
        {
            "coco_ap": 1, "coco_ap50": 1, "coco_ap.base": 2 / 3,
            "coco_ap.gain_low": low, "coco_ap.gain_high": high,
        }
    )  # fmt: skip
    assert checkpoint.manifest.metrics == {}
    publish(found, store, {"report.html": b"text"}, replace_old=False)  # the same content
    with pytest.raises(InvalidInput):
        publish(found, store, {"report.html": b"other"}, replace_old=False)
    publish(found, store, {"report.html": b"other"}, replace_old=True)
    assert (store.open(artifact.manifest.name).path / "report.html").read_bytes() == b"other"


def test_without_a_base_no_gain_is_published(
    concluded: Any, tiny_artifact: Artifact, store: Store, tmp_path: Path
) -> None:
    found, _ = concluded(None)
    found = replace(found, checkpoint=renamed(tmp_path, tiny_artifact, "weights", "a"))
    _, artifact = publish(found, store, {}, replace_old=False)
    assert set(artifact.manifest.metrics) == {"coco_ap", "coco_ap50"}
