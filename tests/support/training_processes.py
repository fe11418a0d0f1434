"""Trainings in separate processes that start at once, forked off a server that has the imports.

Importing PyTorch, transformers' trainer and Lightning takes ten seconds; a forked process takes
none of them, and can be killed like any other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torchvision_operators
from forked_program import fork_for_each, write_program


class Trainings:
    """Starts trainings; use it as a context manager."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["training_preload", __name__])
        # The server finds modules by the environment alone.
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        try:
            self._start_server()
        finally:
            os.environ["PYTHONPATH"] = before

    def _start_server(self) -> None:
        from multiprocessing import forkserver

        forkserver.ensure_running()

    @contextlib.contextmanager
    def python(self, file: Path) -> Iterator[None]:
        """Write a program to a file that is ``python -m MODULE`` for as long as the block lasts.

        Its processes fork off the server, and are Python's own for those that they start.
        """
        with (
            tempfile.TemporaryDirectory() as folder,  # short: a socket's name has 107 characters
            socket.socket(socket.AF_UNIX) as listener,
        ):
            address = Path(folder) / "socket"
            write_program(file, address)
            listener.bind(str(address))
            listener.listen()
            process = self._context.Process(target=_fork_for_each, args=(listener, str(file)))
            process.start()
            try:
                yield
            finally:
                process.kill()
                process.join()

    @property
    def memory_gib(self) -> float:
        """What a process takes before it trains: data, as RLIMIT_DATA counts it."""
        process = self._context.Process(target=_tell_memory, args=(queue := self._context.Queue(),))
        process.start()
        found: float = queue.get(timeout=60)
        process.join()
        return found

    def train(self, run: Path, **options: Any) -> int:
        """Train what a run's folder says; 0, or minus the signal that ended it.

        Args:
            run: Its folder, with a plan.
            options: ``die``: name of a point of `POINTS`, and how often it is passed alive;
                ``environment``: variables to set.
        """
        process = self._context.Process(target=_train, args=(run, options))
        process.start()
        process.join(600)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"{run} trains too long")
        return process.exitcode


def _fork_for_each(listener: socket.socket, executable: str) -> None:
    sys.executable = executable
    fork_for_each(listener)


def _tell_memory(queue: Any) -> None:
    lines = Path("/proc/self/status").read_text().splitlines()
    data = next(line for line in lines if line.startswith("VmData:"))
    queue.put(int(data.split()[1]) / 2**20)


def _train(run: Path, options: dict[str, Any]) -> None:
    log = (run / "log").open("a")
    os.dup2(log.fileno(), 2)
    os.environ.update(options.get("environment", {}))
    if "environment" in options:  # of Ultralytics, which the server has not imported
        torchvision_operators.provide()
    from seatrial.train import worker
    from seatrial.train.plan import read_plan

    if "die" in options:
        point, alive = options["die"]
        POINTS[point](alive)
    plan = read_plan(run)
    assert plan is not None
    try:
        worker.train(plan, run, track=options.get("track"))
    except BaseException as error:
        worker.write_failure(run, error)
        traceback.print_exc()
        raise


def _die_after(place: Any, name: str, alive: int) -> None:
    """Kill this process, by the kernel, when a method is called once more than so often."""
    method = getattr(place, name)
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > alive:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **named)

    setattr(place, name, counted)


def _at_step(alive: int) -> None:
    from seatrial.train.after_step import AfterStep

    _die_after(AfterStep, "step", alive)


def _while_saving(alive: int) -> None:
    """After the trainer has written most of a checkpoint, before it is whole."""
    from seatrial.train.weight_average import WeightAverage

    _die_after(WeightAverage, "state", alive)


def _while_keeping(alive: int) -> None:
    """After the best weights were written, before they are in their place."""
    from seatrial.train import network

    _die_after(network, "preprocessor", alive)


POINTS: dict[str, Callable[[int], None]] = {
    "step": _at_step,
    "saving": _while_saving,
    "keeping": _while_keeping,
}
