"""A run's folder: who holds it, which run resumes in it, what is refused before training."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.errors import (
    InvalidConfig,
    InvalidInput,
    MissingExtra,
    NotWritable,
    TrainingFailed,
)
from seatrial.manifest import Preprocessing
from seatrial.system.locks import locked
from seatrial.train import run as module
from seatrial.train.after_step import read_symptoms
from seatrial.train.diagnosis import Symptom
from seatrial.train.journal import Epoch, Journal, read_epochs
from seatrial.train.options import FinetuneOptions
from seatrial.train.plan import Base, Data, TrainingPlan, read_plan, read_sets, settle
from seatrial.train.read_recipe import read_recipe
from seatrial.train.run import TRAINED, alone, finetune, first_difference, resumes, saved

BASE = Base("base", "rt_detr", "somewhere", preprocessing=Preprocessing((96, 96), "stretch", 0))


@pytest.fixture
def plan_of(cells: str) -> Callable[..., TrainingPlan]:
    """Settles a plan whose recipe differs from the published one."""

    def make(**changes: object) -> TrainingPlan:
        recipe = msgspec.structs.replace(read_recipe(None, "rt_detr"), **changes)
        return settle("transformers", BASE, Data(cells), recipe, read_sets(cells, None))

    return make


def epoch_row(run: Path) -> None:
    Journal(run).epoch(Epoch(1, 3, 1.0, 0.1, 0.2, 0.1, 1.0, 1.0))


def test_a_run_resumes_with_its_own_plan_alone(
    plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    first, second = plan_of(), plan_of(epochs=3)
    assert not resumes(first, tmp_path)
    assert read_plan(tmp_path) == first
    assert not resumes(second, tmp_path)  # no epoch was trained yet
    epoch_row(tmp_path)
    assert resumes(second, tmp_path)
    with pytest.raises(InvalidInput, match=r"recipe\.epochs was 3 and is 72") as caught:
        resumes(first, tmp_path)
    assert "--restart" in caught.value.hint
    assert len(read_epochs(tmp_path)) == 1


@pytest.mark.parametrize(("key", "which"), [("train_digest", "training"), ("val_digest", "valid")])
def test_labels_that_have_changed_are_named(
    plan_of: Callable[..., TrainingPlan], tmp_path: Path, key: str, which: str
) -> None:
    plan = plan_of()
    resumes(plan, tmp_path)
    epoch_row(tmp_path)
    data = msgspec.structs.replace(plan.data, **{key: "sha256:0"})
    with pytest.raises(InvalidInput, match=f"those of the {which}.* have changed") as caught:
        resumes(msgspec.structs.replace(plan, data=data), tmp_path)
    assert "--restart" in caught.value.hint


def test_an_interrupted_run_says_what_is_saved(
    plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    assert "nothing is saved" in saved(tmp_path)
    resumes(plan_of(epochs=3), tmp_path)
    assert "the same command starts anew" in saved(tmp_path)
    epoch_row(tmp_path)
    Journal(tmp_path).epoch(Epoch(2, 6, 1.0, 0.05, 0.1, 0.1, 1.0, 1.0))
    text = saved(tmp_path)
    assert f"2 of 3 epochs are saved in {tmp_path} (best: epoch 1, mAP 0.1000)" in text
    assert "goes on from the last checkpoint" in text
    (tmp_path / TRAINED).touch()
    assert "all 2 epochs are saved" in saved(tmp_path)


def test_a_new_run_begins_in_an_empty_folder(
    plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    (tmp_path / "old").write_text("x")
    (tmp_path / "older").mkdir()
    assert not resumes(plan_of(), tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"plan.json"}


def test_epochs_of_another_version_are_refused_and_not_lost(
    plan_of: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    epoch_row(tmp_path)
    with pytest.raises(InvalidInput, match="without a plan"):
        resumes(plan_of(), tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(InvalidConfig, match="begun by another version"):
        resumes(plan_of(), tmp_path)
    assert len(read_epochs(tmp_path)) == 1


def test_the_first_difference_is_named_by_its_path(
    plan_of: Callable[..., TrainingPlan],
) -> None:
    assert first_difference(plan_of(), plan_of(epochs=3)) == "recipe.epochs was 72 and is 3"
    other = msgspec.structs.replace(plan_of(), trainer="lightning")
    assert first_difference(plan_of(), other) == "trainer was transformers and is lightning"


def hold(folder: str, held: object, end: object) -> None:
    with locked(Path(folder) / ".lock"):
        held.set()  # type: ignore[attr-defined]
        end.wait(60)  # type: ignore[attr-defined]


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, end = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), held, end))
    other.start()
    try:
        assert held.wait(60)
        with (
            pytest.raises(InvalidInput, match="another process trains in"),
            alone(tmp_path, restart=True),
        ):
            pass
    finally:
        end.set()
        other.join()
    with alone(tmp_path, restart=False):
        pass


def test_a_restart_empties_the_folder(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    with alone(run, restart=False):
        (run / "old").write_text("x")
    with alone(run, restart=False):
        assert (run / "old").is_file()
    with alone(run, restart=True):
        assert {entry.name for entry in run.iterdir()} == {".lock"}


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_that_is_no_run_is_not_emptied(tmp_path: Path, restart: bool) -> None:
    """SEATRIAL_HOME may be a project, whose runs/detect is Ultralytics'."""
    (tmp_path / "results.csv").write_text("weeks")
    with (
        pytest.raises(InvalidInput, match="is not a run of seatrial finetune"),
        alone(tmp_path, restart=restart),
    ):
        pass
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("results.csv", "weeks")]


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(NotWritable, match="cannot be written"),
        alone(tmp_path / "file", restart=False),
    ):
        pass


@pytest.mark.parametrize("taken", ["mine", "mine-checkpoint"])
def test_a_name_that_is_taken_is_refused_first(
    taken: str,
    tiny_artifact: Artifact,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(store), "names", lambda self: [taken])
    options = FinetuneOptions(trainer="transformers", data="yolo:nowhere")
    with pytest.raises(InvalidInput, match=f"already has another artifact named '{taken}'"):
        finetune(store, tmp_path, options, BASE, None, name="mine", environment={})


def test_labels_that_make_it_vain_end_it_before_the_processes_start(
    cells: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vain = Symptom("box-format", "boxes leave their images", "a cause", "a hint", fatal=True)
    monkeypatch.setattr(module, "preflight", lambda *given: [vain])
    monkeypatch.setattr(module, "launch", lambda *given, **named: pytest.fail("was started"))
    options = FinetuneOptions(trainer="transformers", data=cells)
    with pytest.raises(TrainingFailed, match="boxes leave their images: a cause"):
        finetune(store, tmp_path, options, BASE, None, name="mine", environment={})
    assert read_symptoms(tmp_path) == [vain]


def test_a_training_that_is_complete_is_not_started_again(
    cells: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    monkeypatch.setattr(module, "preflight", lambda *given: [])
    monkeypatch.setattr(module, "launch", lambda plan, run, *given, **named: started.append(run))

    def conclude(*given: object) -> None:
        epoch_row(tmp_path)
        raise TrainingFailed("as far as this test goes")

    monkeypatch.setattr(module, "conclude", conclude)
    options = FinetuneOptions(trainer="transformers", data=cells)
    for _ in range(2):
        with pytest.raises(TrainingFailed, match="as far as"):
            finetune(store, tmp_path, options, BASE, None, name="mine", environment={})
    assert started == [tmp_path]


@pytest.mark.parametrize(
    ("trainer", "package"),
    [("transformers", "accelerate"), ("transformers", "scipy"), ("lightning", "lightning")],
)
def test_a_package_that_a_trainer_lacks_is_named_before_the_work(
    trainer: str, package: str, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    options = FinetuneOptions(trainer=trainer, data=cells)  # type: ignore[arg-type]
    with pytest.raises(MissingExtra, match=f"{package} is not installed; .* {trainer}") as told:
        finetune(
            Store(tmp_path / "s"), tmp_path / "run", options, BASE, None, name="a", environment={}
        )
    assert "[train]" in told.value.hint
    assert not (tmp_path / "run").exists()
