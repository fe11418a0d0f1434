"""Additions to BentoML's supervisor; all that is private of BentoML and circus.

BentoML's supervisor is circus. By itself it looks after its processes every 10 s, says nothing of
one that died, waits a day for one that does not end, forgets a SIGTERM that comes while it starts
one, and keeps the listening socket open, so that clients connect to a service that nobody answers
for. Its processes are started from
``circus.watcher.Watcher``, which a subclass takes the place of here; hooks are circus' own way of
adding to it. The processes that it starts are those of `seatrial.serve.runtimes.worker`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import circus.watcher  # type: ignore[import-untyped]
from circus.client import make_json  # type: ignore[import-untyped]
from circus.exc import ConflictError  # type: ignore[import-untyped]
from circus.sighandler import SysHandler  # type: ignore[import-untyped]

from seatrial.deployment import Deployment
from seatrial.serve.log import say
from seatrial.serve.origin import Origin
from seatrial.serve.reload import Coordinator
from seatrial.serve.reload_commands import listen_or_say
from seatrial.serve.runtimes import starts
from seatrial.serve.runtimes.draining import LEAVE_S
from seatrial.serve.runtimes.ending import say_ending
from seatrial.serve.runtimes.hangup import hangup
from seatrial.serve.runtimes.held_port import hold_ports

KILL_S = 0.5  # after a process should have left
AGAIN_S = 0.1
QUIT = make_json("quit")
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
SERVICE = "service.py"
WORKER = "_bentoml_impl.worker.service"  # BentoML's server process
# Options of it that our server process does not have: it is left in its place then.
NOT_OURS = ("--ssl-certfile", "--development-mode")


def take_over(deployment_file: Path, deployment: Deployment, metrics: Path) -> None:
    """Have the supervisor that this process becomes start its processes in our way.

    Args:
        deployment_file: File in a service folder.
        deployment: What it says.
        metrics: Folder for the metrics of the processes.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer

    # What it gives its processes as PROMETHEUS_MULTIPROC_DIR, whatever the environment says.
    BentoMLContainer.prometheus_multiproc_dir.set(str(metrics))
    service = deployment_file.absolute().with_name(SERVICE)
    coordinator = Coordinator(deployment_file, starts.own_folder(), Origin.of(os.environ))

    def listen(arbiter: Any, **facts: object) -> bool:
        _look_at_once(arbiter)
        listen_or_say(coordinator)
        return True

    # By itself it ends all processes and starts others.
    hangup().reload = coordinator.reload_soon
    SysHandler.handle_hup = lambda self: hangup().take()
    SysHandler.quit = _quit
    SysHandler.signal = _noting(SysHandler.signal)

    hold_ports(deployment.server)  # ``bentoml serve FOLDER`` has no other place for it

    class Watcher(circus.watcher.Watcher):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            if service.is_file():
                failed_starts = starts.MOST if options.get("respawn", True) else 1
                options["args"] = _own_words(options.get("args", ()), service, failed_starts)
            options["graceful_timeout"] = deployment.limits.drain_s + LEAVE_S + KILL_S
            options["hooks"] = {
                "before_start": (listen, False),
                "after_reap": (_report, True),
                "before_stop": (_close_listeners, True),
            }
            super().__init__(*args, **options)

    circus.watcher.Watcher = Watcher


def _own_words(words: Sequence[str], service: Path, failed_starts: int) -> Sequence[str]:
    """The arguments of a server process of ours in the place of BentoML's."""
    if WORKER not in words or not set(words).isdisjoint(NOT_OURS):
        return words
    given = {name: words[words.index(name) + 1] for name in ("--fd", "--worker-id", "--backlog")}
    # circus puts the number of the descriptor, and that of the process, in place of its names.
    own = [service, given["--fd"], given["--worker-id"], given["--backlog"], failed_starts]
    return ["-m", "seatrial.serve.runtimes.worker", *map(str, own)]


def _look_at_once(arbiter: Any, **facts: object) -> bool:
    """Look after the processes when one of them ends, not only from time to time."""

    def look() -> None:
        try:
            arbiter.manage_watchers()
        except ConflictError:  # it does something else at this moment
            arbiter.loop.call_later(AGAIN_S, look)

    def ended(number: int, frame: object) -> None:
        if not arbiter._stopping:
            arbiter.loop.add_callback_from_signal(look)

    signal.signal(signal.SIGCHLD, ended)
    return True


def _noting(handle: Callable[..., None]) -> Callable[..., None]:
    """A handler of signals that has those told which end the service."""

    def told(handler: Any, number: int, frame: object = None) -> None:
        if number in ENDING and not starts.has_failed():  # a worker ends it so, whose error is told
            handler.controller.loop.add_callback_from_signal(say_ending, number)
        handle(handler, number, frame)

    return told


def _quit(handler: Any) -> None:
    """End the service, as soon as the supervisor has done what it does at this moment.

    By itself it forgets a signal that comes while it starts a process or looks after them.
    """
    controller = handler.controller
    arbiter = controller.arbiter

    def ask() -> None:
        if not arbiter._stopping:
            controller.dispatch((None, QUIT))
        if not arbiter._stopping:
            arbiter.loop.call_later(AGAIN_S, ask)

    arbiter.loop.add_callback_from_signal(ask)


def _report(watcher: Any, process_pid: int, exit_code: int | None, **facts: object) -> bool:
    """Say and count that a process died."""
    if watcher.is_stopping() or watcher.is_stopped() or watcher.arbiter._stopping:
        return True
    then = "another one is started" if watcher.respawn else "none takes its place"
    said = f"server process {process_pid} {_cause(exit_code)}: {then}"
    say("error", "worker_died", said, pid=process_pid)
    starts.note_death(process_pid)
    return True


def _cause(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"ended with code {exit_code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"was ended by signal {-exit_code}"


def _close_listeners(watcher: Any, **facts: object) -> bool:
    """Leave the listening socket to the processes: it is closed when the last of them closes it."""
    for listener in watcher.sockets.values():
        listener.close()
    return True
