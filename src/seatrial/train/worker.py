"""A process that trains: ``python -m seatrial.train.worker RUN``.

The trainers' launchers start it, once for each process. What goes wrong is written into the run's
folder for whoever started it.
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
from seatrial.system.extras import require
from seatrial.system.hardware import usable_cores
from seatrial.train.after_step import Enough
from seatrial.train.plan import Plan, read_plan, read_sets
from seatrial.train.recipe import Recipe

FAILURE = "failure.json"
TRIAL = "--trial"  # take two steps and end
TRIAL_STEPS = 2
TRACK = "--track"  # followed by where figures are shown
PR_SET_PDEATHSIG = 1
TRAINED = {
    "transformers": "seatrial.train.transformers_trainer",
    "lightning": "seatrial.train.lightning_trainer",
    "ultralytics": "seatrial.train.ultralytics_trainer",
}
# PyTorch's CPU allocator, oneDNN and the C++ library say it each in their own words.
NO_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "could not create a memory")


class Failure(msgspec.Struct, frozen=True):
    """Why a run ended: the error's class, its message and hint."""

    kind: str
    message: str
    hint: str = ""

    def error(self) -> SeatrialError:
        """As it was raised."""
        kind = getattr(errors, self.kind, errors.TrainingFailed)
        found: SeatrialError = kind(self.message, hint=self.hint)
        return found


def train(
    plan: Plan, run: Path, *, most_steps: int | None = None, track: str | None = None
) -> None:
    """Train in this process, to the end or on from the last checkpoint.

    Args:
        plan: Of the run.
        run: Its folder.
        most_steps: Take so many steps and end.
        track: Where figures are shown: see `seatrial.train.tracking`.

    Raises:
        SeatrialError: Whatever ends a training; memory that does not suffice among it.
    """
    with _in_words(plan):
        sets = read_sets(plan.data.train, plan.data.val)
        torch = require("torch", extra="train", purpose="finetuning")
        processes = plan.recipe.compute.processes
        torch.set_num_threads(plan.recipe.compute.threads or max(1, usable_cores() // processes))
        _limit_memory(plan.recipe)
        module = importlib.import_module(TRAINED[plan.trainer])
        with contextlib.suppress(Enough):
            module.train(plan, run, sets, most_steps=most_steps, track=track)


@contextlib.contextmanager
def _in_words(plan: Plan) -> Iterator[None]:
    try:
        yield
    except SeatrialError:
        raise
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY):
            raise _no_memory(plan) from error
        raise


def _no_memory(plan: Plan) -> OutOfMemory:
    recipe = plan.recipe
    each = f", {recipe.micro_batch} at a time," if recipe.micro_batch != recipe.batch else ""
    return OutOfMemory(f"a batch of {recipe.batch} pictures{each} does not fit into memory")


def _limit_memory(recipe: Recipe) -> None:
    if recipe.compute.memory_gib and recipe.compute.device == "cpu":
        most = int(recipe.compute.memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def end_with_parent() -> None:
    """Have the kernel end this process when whoever started it is gone; see prctl(2)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def write_failure(run: Path, error: BaseException) -> None:
    """Write down why a run ended; the first process that fails is the one that counts."""
    known = isinstance(error, SeatrialError)
    failure = Failure(
        type(error).__name__ if known else errors.TrainingFailed.__name__,
        str(error) if known else f"training failed: {type(error).__name__}: {error}",
        error.hint if isinstance(error, SeatrialError) else "",
    )
    with contextlib.suppress(FileExistsError), (run / FAILURE).open("xb") as file:
        file.write(msgspec.json.encode(failure))


def read_failure(run: Path) -> Failure | None:
    """Why a run ended; None where it did not say."""
    file = run / FAILURE
    return msgspec.json.decode(file.read_bytes(), type=Failure) if file.is_file() else None


def main(arguments: list[str]) -> int:
    """Train what the run's folder says."""
    run, trial = Path(arguments[0]), TRIAL in arguments
    track = arguments[arguments.index(TRACK) + 1] if TRACK in arguments else None
    plan = read_plan(run)
    if plan is None:
        sys.stderr.write(f"{run} holds no plan\n")
        return 2
    end_with_parent()
    # Libraries talk on standard output, which is for data.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            train(plan, run, most_steps=TRIAL_STEPS if trial else None, track=track)
        except SeatrialError as error:
            write_failure(run, error)
            return error.exit_code
        except Exception as error:
            write_failure(run, error)
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
