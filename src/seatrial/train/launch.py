"""Starts the processes that train, and finds the batch that fits where one did not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from seatrial.errors import OutOfMemory, TrainingFailed
from seatrial.progress import Progress
from seatrial.system.hardware import usable_cores
from seatrial.train.plan import Plan, write_plan
from seatrial.train.worker import FAILURE, TRACK, TRIAL, end_with_parent, read_failure

WORKER = "seatrial.train.worker"
OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
REFINEMENTS = 3  # trials between a batch that fits and one that does not
END_S = 20.0


def launch(
    plan: Plan,
    run: Path,
    environment: Mapping[str, str],
    tell: Progress,
    *,
    track: str | None = None,
) -> None:
    """Train in processes of their own, by the trainer's launcher, until they end.

    Args:
        plan: Of the run; written in its folder already.
        run: Its folder.
        environment: For the processes.
        tell: Told in words what is going on.
        track: Where figures are shown while it runs.

    Raises:
        SeatrialError: What ended the training.
        OutOfMemory: With the batch that fits.
    """
    (run / FAILURE).unlink(missing_ok=True)
    before = _killed_for_memory()
    code = _run(plan, run, environment, *([TRACK, track] if track else []))
    if code == 0:
        return
    failure = read_failure(run)
    if failure is None and _killed_for_memory() > before:
        raise _advised(plan, run, environment, tell)
    if failure is None:
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        raise TrainingFailed(
            f"the training ended {how} without a word",
            hint="start the same command again: it goes on from the last checkpoint",
        )
    error = failure.error()
    if isinstance(error, OutOfMemory):
        raise _advised(plan, run, environment, tell) from error
    raise error


def _run(plan: Plan, run: Path, environment: Mapping[str, str], *options: str) -> int:
    """Start the processes and wait for their end; none is left behind."""
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
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _command(plan: Plan) -> list[str]:
    processes = plan.recipe.compute.processes
    if processes == 1 or plan.trainer == "lightning":  # which starts the others by itself
        return ["-m", WORKER]
    return [
        "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
        "--master-addr", "127.0.0.1", "--master-port", str(_free_port()), "-m", WORKER,
    ]  # fmt: skip


def _environment(plan: Plan, given: Mapping[str, str]) -> dict[str, str]:
    compute = plan.recipe.compute
    threads = compute.threads or max(1, usable_cores() // compute.processes)
    # Of several processes, PyTorch's C++ part tells each what it might do faster.
    own = {"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    own["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it reports its use to its makers
    if compute.processes > 1 and compute.device == "cpu":
        own["GLOO_SOCKET_IFNAME"] = "lo"
    if plan.trainer == "ultralytics":
        # It asks hosts for updates, weights and fonts, and installs packages, unless told not to.
        own |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    return {**given, **own}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _killed_for_memory() -> int:
    """Processes that the kernel has ended so far because memory had run out."""
    for file in OOM_COUNTERS:
        with contextlib.suppress(OSError):
            for line in file.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def _advised(plan: Plan, run: Path, environment: Mapping[str, str], tell: Progress) -> OutOfMemory:
    recipe = plan.recipe
    at_a_time = f", {recipe.micro_batch} at a time," if recipe.micro_batch != recipe.batch else ""
    what = f"out of memory: a batch of {recipe.batch}{at_a_time} does not fit"

    def fits(micro: int) -> bool:
        tell(f"trying a batch of {micro}")
        return _try(plan, run, environment, micro)

    best, tried = largest(recipe.micro_batch, fits)
    trials = ", ".join(f"{batch} {'fits' if ok else 'does not'}" for batch, ok in tried)
    if best is None:
        return OutOfMemory(
            f"{what}, nor does one picture at a time ({trials})",
            hint="a smaller image_size, a smaller model, or more memory",
        )
    processes = recipe.compute.processes
    parts = next(
        parts
        for parts in range(1, recipe.batch + 1)
        if recipe.batch % (parts * processes) == 0 and recipe.batch // (parts * processes) <= best
    )
    return OutOfMemory(
        f"{what}; {best} pictures at a time do ({trials})",
        hint=f"accumulate = {parts} keeps the batch of {recipe.batch} and takes it "
        f"{recipe.batch // (parts * processes)} at a time; or batch = {best * processes}",
    )


def largest(most: int, fits: Callable[[int], bool]) -> tuple[int | None, list[tuple[int, bool]]]:
    """Find a batch that fits, nearly the largest.

    Args:
        most: One that does not.
        fits: Tries one.

    Returns:
        The batch, None where not even 1 fits, and what was tried.
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


def _try(plan: Plan, run: Path, environment: Mapping[str, str], micro: int) -> bool:
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
