"""A process that trains: ``python -m seatrial.train.worker RUN``.

The trainers' launchers start it once for each process. It writes an error into the run's folder,
where the process that started it reads it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from seatrial import errors
from seatrial.errors import OutOfMemory, SeatrialError
from seatrial.progress import Progress, silent
from seatrial.system.extras import require
from seatrial.system.hardware import usable_cores
from seatrial.train.after_step import EnoughSteps
from seatrial.train.plan import TrainingPlan, read_plan, read_sets
from seatrial.train.recipe import Recipe

FAILURE = "failure.json"
TRIAL = "--trial"  # two steps, to see whether a batch fits
TRIAL_STEPS = 2
TRACK = "--track"  # followed by the name of a tracker
PR_SET_PDEATHSIG = 1
TRAINED = {
    "transformers": "seatrial.train.transformers_trainer",
    "lightning": "seatrial.train.lightning_trainer",
    "ultralytics": "seatrial.train.ultralytics_trainer",
}
# Messages of PyTorch's CPU allocator, oneDNN and the C++ library.
NO_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "could not create a memory")


class Failure(msgspec.Struct, frozen=True):
    """The error that ended a run."""

    kind: str
    message: str
    hint: str = ""

    def error(self) -> SeatrialError:
        """The error, to be raised again."""
        kind = getattr(errors, self.kind, errors.TrainingFailed)
        found: SeatrialError = kind(self.message, hint=self.hint)
        return found


def train(
    plan: TrainingPlan,
    run: Path,
    *,
    most_steps: int | None = None,
    track: str | None = None,
    on_progress: Progress = silent,
) -> None:
    """Train in this process to the end, from the start or from the last checkpoint.

    Args:
        plan: TrainingPlan of the run.
        run: Folder of the run.
        most_steps: Number of steps to end after; None for all.
        track: Name of a tracker, see `seatrial.train.tracking`.
        on_progress: Takes messages.

    Raises:
        SeatrialError: Any error that ends a training; `OutOfMemory` among them.
    """
    with memory_errors(plan):
        sets = read_sets(plan.data.train, plan.data.val, look=False)
        torch = require("torch", extra="train", purpose="finetuning")
        processes = plan.recipe.compute.processes
        torch.set_num_threads(plan.recipe.compute.threads or max(1, usable_cores() // processes))
        limit_memory(plan.recipe)
        module = importlib.import_module(TRAINED[plan.trainer])
        with contextlib.suppress(EnoughSteps):
            module.train(
                plan, run, sets, most_steps=most_steps, track=track, on_progress=on_progress
            )


@contextlib.contextmanager
def memory_errors(plan: TrainingPlan) -> Iterator[None]:
    """Raise `OutOfMemory` for the errors that libraries raise when memory has run out."""
    try:
        yield
    except SeatrialError:
        raise
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY):
            recipe = plan.recipe
            each = (
                f", {recipe.micro_batch} at a time," if recipe.micro_batch != recipe.batch else ""
            )
            raise OutOfMemory(
                f"a batch of {recipe.batch} images{each} does not fit into memory"
            ) from error
        raise


def limit_memory(recipe: Recipe) -> None:
    """Limit the data of this process to the recipe's `memory_gib`, on a CPU."""
    if recipe.compute.memory_gib and recipe.compute.device == "cpu":
        most = int(recipe.compute.memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def end_with_parent() -> None:
    """Have the kernel end this process when its parent ends; see prctl(2)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def write_failure(run: Path, error: BaseException) -> None:
    """Write the error that ended a run; the first process that fails writes it."""
    known = isinstance(error, SeatrialError)
    failure = Failure(
        kind=type(error).__name__ if known else errors.TrainingFailed.__name__,
        message=str(error) if known else f"training failed: {type(error).__name__}: {error}",
        hint=error.hint if isinstance(error, SeatrialError) else "",
    )
    with contextlib.suppress(FileExistsError), (run / FAILURE).open("xb") as file:
        file.write(msgspec.json.encode(failure))


def read_failure(run: Path) -> Failure | None:
    """The error that ended a run; None where none was written."""
    file = run / FAILURE
    return msgspec.json.decode(file.read_bytes(), type=Failure) if file.is_file() else None


def print_message(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    """Print a message on standard error, at once."""
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Train by the plan in the run's folder; the exit code."""
    run, trial = Path(arguments[0]), TRIAL in arguments
    track = arguments[arguments.index(TRACK) + 1] if TRACK in arguments else None
    plan = read_plan(run)
    if plan is None:
        sys.stderr.write(f"{run} does not hold a plan\n")
        return 2
    end_with_parent()
    # Libraries print on standard output, which is for data.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            train(
                plan,
                run,
                most_steps=TRIAL_STEPS if trial else None,
                track=track,
                on_progress=print_message,
            )
        except SeatrialError as error:
            write_failure(run, error)
            return error.exit_code
        except Exception as error:
            write_failure(run, error)
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
