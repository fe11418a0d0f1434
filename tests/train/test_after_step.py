"""After a step and an epoch: the journal, the best weights, patience, and symptoms that end it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.errors import TrainingFailed
from seatrial.report.numbers import duration
from seatrial.train import after_step
from seatrial.train.after_step import (
    AfterStep,
    EnoughSteps,
    best_folder,
    read_symptoms,
    record_symptom,
)
from seatrial.train.diagnosis import Symptom
from seatrial.train.journal import StepRecord, read_epochs, read_steps
from seatrial.train.plan import Base, Data, TrainingPlan, read_sets
from seatrial.train.read_recipe import read_recipe
from seatrial.train.recipe import Diagnosis
from seatrial.train.validation import Validation


class ScriptedValidator:
    """Gives the next mAP of a list; finds every object under its name."""

    def __init__(self, dataset: Any, maps: list[float]) -> None:
        self.dataset = dataset
        self._maps = iter(maps)

    def measure(self, network: Any) -> Validation:
        truth = self.dataset.truth
        found = Predictions(truth.image, truth.category, truth.xywh, np.full(len(truth), 0.9))
        matches, scores = score(self.dataset, found)
        ap = next(self._maps)
        figures = msgspec.structs.replace(scores.figures, ap=ap, ap50=ap, ap75=ap)
        return Validation(msgspec.structs.replace(scores, figures=figures), matches, found)


@pytest.fixture
def after(cells: str, tmp_path: Path) -> Callable[..., AfterStep]:
    """Builds `AfterStep` for a recipe, with a scripted mAP of each epoch."""
    dataset = read_sets(cells, None)[1]

    def build(maps: list[float] | None = None, *, rank: int = 0, **changes: Any) -> AfterStep:
        options = {k: changes.pop(k) for k in ("most_steps", "on_progress") if k in changes}
        recipe = msgspec.structs.replace(read_recipe(None, "rt_detr"), **changes)
        plan = TrainingPlan(
            trainer="lightning",
            base=Base("nothing", "rt_detr", "nowhere", scratch=True),
            data=Data(cells),
            recipe=recipe,
            labels=("red", "green", "blue"),
            classes=(0, 1, 2),
            new_head=True,
        )
        validator: Any = ScriptedValidator(dataset, maps or [])
        return AfterStep(plan, tmp_path, validator, rank=rank, **options)

    return build


def save_as(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "weights").write_text(text) and None


def run_epochs(after: AfterStep, count: int) -> list[bool]:
    """Ends so many epochs of one step each; what `epoch` returned."""
    ended = []
    for number in range(1, count + 1):
        after.step(StepRecord(number, number, 3.0 / number, 1e-4))
        ended.append(after.epoch(number, number, object(), save_as(f"epoch {number}")))
    return ended


def test_the_best_network_is_kept_and_of_equals_the_first(
    after: Callable[..., AfterStep], tmp_path: Path
) -> None:
    one = after([0.2, 0.5, 0.5, 0.4])
    assert run_epochs(one, 4) == [False] * 4
    best = best_folder(tmp_path)
    assert best is not None
    assert (best / "weights").read_text() == "epoch 2"
    rows = read_epochs(tmp_path)
    assert [row.ap for row in rows] == [0.2, 0.5, 0.5, 0.4]
    assert [row.loss for row in rows] == pytest.approx([3.0, 1.5, 1.0, 0.75])


def test_older_networks_are_needed_until_a_checkpoint_is_sealed(
    after: Callable[..., AfterStep], tmp_path: Path
) -> None:
    one = after([0.2, 0.5])
    run_epochs(one, 2)
    assert {folder.name for folder in tmp_path.glob("best-*")} == {"best-0001", "best-0002"}
    one.sealed()
    assert {folder.name for folder in tmp_path.glob("best-*")} == {"best-0002"}


def test_there_is_no_best_network_before_a_validation(tmp_path: Path) -> None:
    assert best_folder(tmp_path) is None


def test_patience_counts_epochs_since_the_best(after: Callable[..., AfterStep]) -> None:
    told: list[str] = []

    def note(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        told.append(what)

    one = after([0.2, 0.5, 0.5, 0.4, 0.3], patience=2, on_progress=note)
    assert run_epochs(one, 5) == [False, False, False, True, True]
    assert [text for text in told if "ending early" in text] == [
        "no better mAP since epoch 2: ending early"
    ]
    assert run_epochs(after([0.5, 0.1, 0.1], patience=0), 3) == [False] * 3


def test_what_a_kill_left_half_written_is_removed_at_the_start(
    after: Callable[..., AfterStep], tmp_path: Path
) -> None:
    (tmp_path / ".best-0003-abc").mkdir()
    (tmp_path / "best-0001").mkdir()
    after().begin(0)
    assert {entry.name for entry in tmp_path.iterdir() if "best" in entry.name} == {"best-0001"}


def test_a_run_that_resumes_forgets_later_steps_and_says_so(
    after: Callable[..., AfterStep], tmp_path: Path
) -> None:
    run_epochs(after([0.1, 0.2]), 2)
    told: list[str] = []
    one = after(on_progress=lambda what, *_, **__: told.append(what))
    one.begin(1)
    assert told == ["resuming after step 1, epoch 1"]
    assert [row.step for row in read_steps(tmp_path)] == [1]


def test_only_the_first_process_writes_and_speaks(
    after: Callable[..., AfterStep], tmp_path: Path
) -> None:
    told: list[str] = []
    one = after([0.3], rank=1, on_progress=lambda what, *_, **__: told.append(what))
    one.begin(0)
    run_epochs(one, 1)
    one.symptom(Symptom("blind", "a", "b", "c", fatal=False))
    one.sealed()
    assert told == []
    assert list(tmp_path.iterdir()) == []
    assert one.journal.epochs[0].ap == 0.3


FATAL = Symptom("blind", "mAP is 0", "a cause", "a hint", fatal=True)


def test_a_fatal_symptom_ends_a_training_unless_the_recipe_only_warns(
    after: Callable[..., AfterStep], tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="mAP is 0: a cause") as caught:
        after().symptom(FATAL)
    assert caught.value.hint == "a hint"
    told: list[str] = []
    lenient = after(
        diagnosis=Diagnosis(action="warn"), on_progress=lambda what, *_, **__: told.append(what)
    )
    lenient.symptom(FATAL)
    lenient.symptom(None)
    assert told == ["warning: mAP is 0: a cause"]
    assert read_symptoms(tmp_path) == [FATAL]  # once, although it was seen twice
    after().symptom(msgspec.structs.replace(FATAL, fatal=False))


def test_a_loss_that_is_not_a_number_ends_it_even_where_the_recipe_warns(
    after: Callable[..., AfterStep],
) -> None:
    with pytest.raises(TrainingFailed, match="the loss is nan at step 1"):
        after(diagnosis=Diagnosis(action="warn")).step(StepRecord(1, 1, math.nan, 1e-4))


def test_a_trial_ends_after_its_steps(after: Callable[..., AfterStep], tmp_path: Path) -> None:
    one = after(most_steps=2)
    one.step(StepRecord(1, 1, 3.0, 1e-4))
    with pytest.raises(EnoughSteps):
        one.step(StepRecord(2, 1, 3.0, 1e-4))
    assert len(read_steps(tmp_path)) == 2


def test_trackers_get_every_step_and_epoch(
    after: Callable[..., AfterStep], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from seatrial.train import tracking

    logged: list[tuple[int, dict[str, float]]] = []
    closed: list[bool] = []
    stand_in = SimpleNamespace(
        log=lambda step, figures: logged.append((step, figures)), close=lambda: closed.append(True)
    )
    monkeypatch.setitem(tracking.TRACKERS, "tensorboard", lambda run, plan: stand_in)
    plan = after().plan
    validator: Any = ScriptedValidator(read_sets(plan.data.train, None)[1], [0.25])
    one = AfterStep(plan, tmp_path, validator, track="tensorboard")
    one.step(StepRecord(1, 1, 3.0, 1e-4, {"loss_ce": 1.0}))
    one.epoch(1, 1, object(), save_as("x"))
    one.close()
    assert logged == [
        (1, {"loss": 3.0, "learning_rate": 1e-4, "loss_ce": 1.0}),
        (1, {"val/ap": 0.25, "val/ap50": 0.25, "val/ap75": 0.25}),
    ]
    assert closed == [True]


def test_symptoms_are_read_back(tmp_path: Path) -> None:
    assert read_symptoms(tmp_path) == []
    other = msgspec.structs.replace(FATAL, code="labels-off-by-one")
    for symptom in (FATAL, other, FATAL):
        record_symptom(tmp_path, symptom)
    assert read_symptoms(tmp_path) == [FATAL, other]


def test_messages_within_an_epoch_are_ten_seconds_apart(
    after: Callable[..., AfterStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(after_step, "time", SimpleNamespace(monotonic=lambda: now))
    told: list[str] = []
    one = after(on_progress=lambda what, *_, **__: told.append(what))
    for number, now in enumerate((109.0, 110.0, 110.5, 120.0, 120.5), 1):  # noqa: B007
        one.step(StepRecord(number, 1, 3.0, 1e-4))
    epochs, batch = one.plan.recipe.epochs, one.plan.recipe.batch
    assert told == [f"epoch 1 of {epochs}, step 3: loss 3, {batch * 3 / 10.5:.2f} images/s"]
    now = 121.0
    one.steps_per_epoch = 10
    one.step(StepRecord(6, 1, 2.5, 1e-4))
    left = duration((10 * epochs - 6) * 21 / 6)
    assert told[1:] == [
        f"epoch 1 of {epochs}, step 6 of {10 * epochs}: loss 2.5, {batch * 6 / 21:.2f} images/s, "
        f"about {left} left"
    ]


def test_times_of_an_epoch(
    after: Callable[..., AfterStep], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter(float(second) for second in (0, 10, 20, 50, 57, 60, 100, 109, 110))
    monkeypatch.setattr(after_step, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    one = after([0.1, 0.2])
    one.begin(0)  # at 10
    one.step(StepRecord(1, 1, 3.0, 1e-4))
    for epoch in (1, 2):
        one.epoch(epoch, epoch, object(), save_as("x"))
    assert [(row.train_s, row.val_s) for row in read_epochs(tmp_path)] == [(40, 7), (40, 9)]


def test_an_epoch_without_a_figure_or_a_step_counts_as_zero(
    after: Callable[..., AfterStep], tmp_path: Path
) -> None:
    nothing: Any = None
    after([nothing]).epoch(1, 0, object(), save_as("x"))
    (row,) = read_epochs(tmp_path)
    assert (row.loss, row.ap, row.ap50, row.ap75) == (0, 0, 0, 0)
