"""Starts the processes that train; where a batch does not fit into memory, finds one that does."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from seatrial.errors import OutOfMemory, TrainingFailed
from seatrial.progress import Progress
from seatrial.system.children import end
from seatrial.system.hardware import usable_cores
from seatrial.train.plan import TrainingPlan, write_plan
from seatrial.train.worker import FAILURE, TRACK, TRIAL, end_with_parent, read_failure

WORKER = "seatrial.train.worker"
OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
REFINEMENTS = 3  # trials between a batch that fits and one that does not
END_S = 20.0  # between SIGTERM and SIGKILL


def launch(
    plan: TrainingPlan,
    run: Path,
    environment: Mapping[str, str],
    on_progress: Progress,
    *,
    track: str | None = None,
) -> None:
    """Train in separate processes, by the trainer's launcher, until they end.

    Args:
        plan: TrainingPlan of the run; its folder holds it already.
        run: Folder of the run.
        environment: Environment of the processes.
        on_progress: Takes messages.
        track: Name of a tracker.

    Raises:
        SeatrialError: The error that ended the training.
        OutOfMemory: The batch does not fit; the message names one that does.
    """
    (run / FAILURE).unlink(missing_ok=True)
    before = _killed_for_memory()
    code = _run(plan, run, environment, *([TRACK, track] if track else []))
    if code == 0:
        return
    failure = read_failure(run)
    if failure is None and _killed_for_memory() > before:
        raise _with_advice(plan, run, environment, on_progress)
    if failure is None:
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise TrainingFailed(
            f"the training ended {how} and gave no reason",
            hint="start the same command again: it resumes from the last checkpoint",
        )
    error = failure.error()
    if isinstance(error, OutOfMemory):
        raise _with_advice(plan, run, environment, on_progress) from error
    raise error


def _run(plan: TrainingPlan, run: Path, environment: Mapping[str, str], *options: str) -> int:
    """Start the processes and wait until all of them have ended; the exit code of the first."""
    process = subprocess.Popen(
        [sys.executable, *_command(plan), str(run), *options],
        env=_environment(plan, environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    try:
        return process.wait()
    finally:
        end(process, grace_s=END_S, group=True)


def _command(plan: TrainingPlan) -> list[str]:
    processes = plan.recipe.compute.processes
    if processes == 1 or plan.trainer == "lightning":  # it starts the others by itself
        return ["-m", WORKER]
    return [
        "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
        "--master-addr", "127.0.0.1", "--master-port", str(_free_port()), "-m", WORKER,
    ]  # fmt: skip


def _environment(plan: TrainingPlan, given: Mapping[str, str]) -> dict[str, str]:
    compute = plan.recipe.compute
    threads = compute.threads or max(1, usable_cores() // compute.processes)
    # PyTorch's C++ part logs advice from each of several processes.
    own = {"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    own["MLFLOW_DISABLE_TELEMETRY"] = "true"  # MLflow reports its use to its makers
    if compute.processes > 1 and compute.device == "cpu":
        own["GLOO_SOCKET_IFNAME"] = "lo"
    if plan.trainer == "ultralytics":
        # Without these, Ultralytics fetches updates, weights and fonts, and installs packages.
        own |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    return {**given, **own}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _killed_for_memory() -> int:
    """Number of processes that the kernel has ended so far because memory had run out."""
    for file in OOM_COUNTERS:
        with contextlib.suppress(OSError):
            for line in file.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def _with_advice(
    plan: TrainingPlan, run: Path, environment: Mapping[str, str], on_progress: Progress
) -> OutOfMemory:
    """The error of a batch that does not fit, with one that does."""
    recipe = plan.recipe
    at_a_time = f", {recipe.micro_batch} at a time," if recipe.micro_batch != recipe.batch else ""
    what = f"out of memory: a batch of {recipe.batch}{at_a_time} does not fit"

    def fits(micro: int) -> bool:
        on_progress(f"trying a batch of {micro}")
        return _try(plan, run, environment, micro)

    best, tried = largest_fitting(recipe.micro_batch, fits)
    trials = ", ".join(f"{batch} {'fits' if ok else 'does not'}" for batch, ok in tried)
    if best is None:
        return OutOfMemory(
            f"{what}, nor does one image at a time ({trials})",
            hint="a smaller image_size, a smaller model, or more memory",
        )
    processes = recipe.compute.processes
    parts = next(
        parts
        for parts in range(1, recipe.batch + 1)
        if recipe.batch % (parts * processes) == 0 and recipe.batch // (parts * processes) <= best
    )
    return OutOfMemory(
        f"{what}; {best} images at a time do ({trials})",
        hint=f"accumulate = {parts} keeps the batch of {recipe.batch} and takes it "
        f"{recipe.batch // (parts * processes)} at a time; or batch = {best * processes}",
    )


def largest_fitting(
    most: int, fits: Callable[[int], bool]
) -> tuple[int | None, list[tuple[int, bool]]]:
    """Find a batch that fits, close to the largest.

    Args:
        most: A batch that does not fit.
        fits: Tries a batch.

    Returns:
        The batch, None where not even 1 fits; and each trial with its outcome.
    """
    tried: list[tuple[int, bool]] = []
    low, high = most // 2, most
    while low >= 1:
        tried.append((low, fits(low)))
        if tried[-1][1]:
            break
        low, high = low // 2, low
    if low < 1:
        return None, tried
    for _ in range(REFINEMENTS):
        middle = (low + high) // 2
        if middle in (low, high):
            break
        tried.append((middle, fits(middle)))
        low, high = (middle, high) if tried[-1][1] else (low, middle)
    return low, tried


def _try(plan: TrainingPlan, run: Path, environment: Mapping[str, str], micro: int) -> bool:
    folder = run / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    batch = micro * plan.recipe.compute.processes
    recipe = msgspec.structs.replace(plan.recipe, batch=batch, accumulate=1)
    try:
        write_plan(msgspec.structs.replace(plan, recipe=recipe), folder)
        return _run(msgspec.structs.replace(plan, recipe=recipe), folder, environment, TRIAL) == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
