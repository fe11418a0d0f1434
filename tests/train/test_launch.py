"""Processes that train: how they end, and the batch that fits where one did not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from seatrial.errors import OutOfMemory, TrainingFailed
from seatrial.progress import silent
from seatrial.train import launch as launching
from seatrial.train.launch import largest_fitting, launch
from seatrial.train.plan import Base, Data, TrainingPlan, write_plan
from seatrial.train.read_recipe import read_recipe

HUNGRY = """
import sys
from pathlib import Path
from seatrial.errors import OutOfMemory
from seatrial.train import worker
from seatrial.train.plan import read_plan

run = Path(sys.argv[1])
plan = read_plan(run)
worker.limit_memory(plan.recipe)
try:
    held = bytearray(plan.recipe.micro_batch * 64 * 2**20)
except MemoryError:
    worker.write_failure(run, OutOfMemory("too much"))
    sys.exit(10)
"""


@pytest.fixture
def plan() -> TrainingPlan:
    recipe = msgspec.structs.replace(read_recipe(None, "rt_detr"), batch=24)
    base = Base("nothing", "rt_detr", "nowhere", scratch=True)
    return TrainingPlan("transformers", base, Data("coco:nowhere"), recipe, ("a",), (0,), True)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, str]]:
    """Has another program started where trainings are, by the same launcher."""

    def write(text: str) -> dict[str, str]:
        (tmp_path / "stand_in.py").write_text(text)
        monkeypatch.setattr(launching, "WORKER", "stand_in")
        source = str(Path(launching.__file__).parents[2])
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), source])}

    return write


@pytest.fixture
def run(tmp_path: Path, plan: TrainingPlan) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    write_plan(plan, folder)
    return folder


@pytest.mark.parametrize("most", [2, 3, 8, 24, 100])
@pytest.mark.parametrize("limit", [0, 1, 2, 5, 11, 12, 23])
def test_the_largest_batch_that_fits_is_nearly_found(most: int, limit: int) -> None:
    found, tried = largest_fitting(most, lambda batch: batch <= min(limit, most - 1))
    limit = min(limit, most - 1)
    assert len(tried) <= most.bit_length() + launching.REFINEMENTS
    if limit == 0:
        assert found is None
    else:
        assert found is not None
        assert found <= limit
        assert found > limit * 0.7 - 1


def test_out_of_memory_says_which_batch_fits(
    program: Callable[[str], dict[str, str]], plan: TrainingPlan, run: Path
) -> None:
    # 24 parts of 64 MiB want 1.5 GiB; room is left for about ten of them.
    compute = msgspec.structs.replace(plan.recipe.compute, memory_gib=0.75)
    plan = msgspec.structs.replace(
        plan, recipe=msgspec.structs.replace(plan.recipe, compute=compute)
    )
    write_plan(plan, run)
    told: list[str] = []

    def note(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        told.append(what)

    with pytest.raises(OutOfMemory, match="a batch of 24 does not fit") as caught:
        launch(plan, run, program(HUNGRY), note)
    fitting = int(caught.value.message.split(";")[1].split()[0])
    assert 6 <= fitting < 12
    assert "12 does not" in caught.value.message
    assert "6 fits" in caught.value.message
    parts = next(n for n in (3, 4) if 24 // n <= fitting)
    assert f"accumulate = {parts} keeps the batch of 24" in caught.value.hint
    assert told[0] == "trying a batch of 12"
    assert not (run / "trial").exists()


def test_what_a_process_says_is_what_is_raised(
    program: Callable[[str], dict[str, str]], plan: TrainingPlan, run: Path
) -> None:
    text = HUNGRY.replace('OutOfMemory("too much")', 'TrainingFailed("it went", hint="do this")')
    text = text.replace("import OutOfMemory", "import TrainingFailed")
    text = text.replace("except MemoryError", "except BaseException")
    text = text.replace("held = bytearray", "raise ValueError or bytearray")
    with pytest.raises(TrainingFailed, match="it went") as caught:
        launch(plan, run, program(text), silent)
    assert caught.value.hint == "do this"


def test_what_reports_its_use_is_told_not_to(
    program: Callable[[str], dict[str, str]], plan: TrainingPlan, run: Path
) -> None:
    text = "import os, sys\nfrom pathlib import Path\n"
    text += "Path(sys.argv[1], 'seen').write_text(os.environ['MLFLOW_DISABLE_TELEMETRY'])\n"
    launch(plan, run, program(text), silent)
    assert (run / "seen").read_text() == "true"


def test_a_process_that_dies_without_a_word_is_said_so(
    program: Callable[[str], dict[str, str]], plan: TrainingPlan, run: Path
) -> None:
    environment = program("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(TrainingFailed, match="by signal 9") as caught:
        launch(plan, run, environment, silent)
    assert "it resumes from the last checkpoint" in caught.value.hint


def test_a_failure_of_an_earlier_start_is_not_taken_for_this_one(
    program: Callable[[str], dict[str, str]], plan: TrainingPlan, run: Path
) -> None:
    (run / "failure.json").write_text('{"kind": "TrainingFailed", "message": "old"}')
    launch(plan, run, program("pass\n"), silent)
    assert not (run / "failure.json").exists()
