"""A process that trains: its arguments, and the error that it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.errors import OutOfMemory, SeatrialError, TrainingFailed
from seatrial.train import worker
from seatrial.train.plan import Base, Data, TrainingPlan, write_plan
from seatrial.train.read_recipe import read_recipe
from training_runs import brief

pytestmark = pytest.mark.slow


@pytest.fixture
def plan() -> TrainingPlan:
    recipe = msgspec.structs.replace(read_recipe(None, "rt_detr"), batch=24, accumulate=3)
    base = Base("nothing", "rt_detr", "nowhere", scratch=True)
    return TrainingPlan("transformers", base, Data("coco:nowhere"), recipe, ("a",), (0,), True)


def on_a_gpu(torch: Any) -> Exception:
    error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    return error


def on_a_cpu(torch: Any) -> Exception:
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError("there is an exbibyte of memory")


def in_onednn(torch: Any) -> Exception:
    return RuntimeError("could not create a memory object")


def in_python(torch: Any) -> Exception:
    return MemoryError()


@pytest.mark.parametrize("error", [on_a_gpu, on_a_cpu, in_onednn, in_python])
def test_memory_that_has_run_out_is_told_by_whoever_says_so(
    plan: TrainingPlan, error: Callable[[Any], Exception]
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: seatrial[train]")
    with (
        pytest.raises(OutOfMemory, match="a batch of 24 images, 8 at a time, does not fit"),
        worker.memory_errors(plan),
    ):
        raise error(torch)


def test_other_errors_are_left_as_they_are(plan: TrainingPlan) -> None:
    with pytest.raises(RuntimeError, match="shape mismatch"), worker.memory_errors(plan):
        raise RuntimeError("shape mismatch")


def test_memory_that_does_not_suffice_is_said_so(
    trainings: Any, settle_plan: Callable[..., TrainingPlan], start: Callable[..., Path]
) -> None:
    small = brief(1).replace("batch = 4\nimage_size = 64", "batch = 24\nimage_size = 640")
    small = small.replace("threads = 1", f"threads = 1\nmemory_gib = {trainings.memory_gib + 0.5}")
    run = start(settle_plan("transformers", "rt_detr", small))
    assert trainings.train(run) == 1
    failure = worker.read_failure(run)
    assert failure is not None
    assert isinstance(failure.error(), OutOfMemory)
    assert "24 images" in failure.message


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (TrainingFailed("it went", hint="do this"), TrainingFailed, "it went"),
        (OutOfMemory("too much"), OutOfMemory, "too much"),
        (ValueError("odd"), TrainingFailed, "training failed: ValueError: odd"),
    ],
)
def test_the_first_error_of_a_run_is_the_one_that_is_read(
    error: Exception, kind: type[SeatrialError], message: str, tmp_path: Path
) -> None:
    assert worker.read_failure(tmp_path) is None
    worker.write_failure(tmp_path, error)
    worker.write_failure(tmp_path, RuntimeError("later, of another process"))
    failure = worker.read_failure(tmp_path)
    assert failure is not None
    found = failure.error()
    assert type(found) is kind
    assert found.message == message
    assert found.hint == getattr(error, "hint", "")


def test_a_folder_without_a_plan_is_not_trained_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main([str(tmp_path)]) == 2
    assert "does not hold a plan" in capsys.readouterr().err


def test_arguments_reach_the_training_and_an_error_its_exit_code(
    plan: TrainingPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []

    def train(plan: TrainingPlan, run: Path, **options: Any) -> None:
        given.append(options)
        if options["most_steps"] is None:
            raise TrainingFailed("vain")

    monkeypatch.setattr(worker, "train", train)
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    write_plan(plan, tmp_path)
    assert worker.main([str(tmp_path), "--trial"]) == 0
    assert worker.main([str(tmp_path), "--track", "mlflow"]) == TrainingFailed.exit_code
    assert [(one["most_steps"], one["track"]) for one in given] == [(2, None), (None, "mlflow")]
    failure = worker.read_failure(tmp_path)
    assert failure is not None
    assert failure.message == "vain"
