"""A process that trains: what it says when memory has run out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from seatrial.errors import OutOfMemory
from seatrial.train import worker
from seatrial.train.plan import Base, Data, TrainingPlan
from seatrial.train.read_recipe import read_recipe


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
