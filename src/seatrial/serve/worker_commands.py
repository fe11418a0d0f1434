"""The commands that a server process takes from its supervisor: load beside, switch, let go."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from seatrial.artifact import Artifact
from seatrial.errors import InvalidInput, NotSwapped, SeatrialError, first_line
from seatrial.serve.canary import Canary
from seatrial.serve.control import ControlServer
from seatrial.serve.log import say
from seatrial.serve.served_state import ServedState
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.system.memory import memory_left_bytes

T = TypeVar("T")
SOCKET = "worker-"  # of a process: worker-PID.sock
SWITCH_S = 30.0  # for the event loop to come to it
LEAVE_S = 120.0
# Beside the model itself: buffers of the runtime, and requests of the one that leaves.
MEMORY_SHARE = 1.2
# Opens a service of an artifact beside that of the process.
OpenBeside = Callable[[Artifact, Service], Service]


class Prepare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Load an artifact beside the one that is served.

    Attributes:
        path: Its folder.
        digest: Its digest.
        memory_bytes: Memory that it takes.
        processes: Number of processes that share the memory.
    """

    path: str
    digest: str
    memory_bytes: int = 0
    processes: int = 1


class WorkerCommands:
    """Takes the commands of one server process, on its socket in the supervisor's folder.

    Args:
        serving: Holds what is served; this is called in its event loop.
        open_beside: Opens a second service.
        folder: The supervisor's.
    """

    def __init__(self, serving: Serving, open_beside: OpenBeside, folder: Path) -> None:
        self._serving = serving
        self._open = open_beside
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._prepared: Service | None = None
        self._commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "POST /prepare": self._prepare,
            "POST /drop": lambda body: self._drop(),
            "POST /switch": self._switch,
            "POST /canary": self._canary,
            "POST /promote": self._promote,
            "POST /abandon": lambda body: self._abandon(),
        }
        self.path = folder / f"{SOCKET}{os.getpid()}.sock"
        self._server = ControlServer(self.path, self._handle)
        # What was switched while this process started has not reached it.
        threading.Thread(target=self._catch_up, name="catch-up", daemon=True).start()

    def _handle(self, command: str, body: dict[str, Any]) -> Any:
        if command == "GET /status":  # also while a model is loaded
            return self._status()
        if command == "POST /count":  # the same
            return self._count(body)
        if command == "POST /fail":  # whatever else hangs
            self._serving.health.fail(str(body["reason"]))
            return {}
        if command not in self._commands:
            raise InvalidInput(f"unknown command {command[:60]!r}")
        with self._lock:
            try:
                return self._commands[command](body)
            except SeatrialError:
                raise
            except Exception as error:  # runtimes' errors share no base
                raise NotSwapped(f"{type(error).__name__}: {first_line(error)}") from error

    def _status(self) -> dict[str, Any]:
        serving = self._serving
        return {
            "pid": os.getpid(),
            "digest": serving.live.digest,
            "name": serving.live.description["name"],
            "served_as": serving.live.name,
            "leaving": serving.leaving,
            "canary": serving.canary.told() if serving.canary else None,
        }

    def _prepare(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = msgspec.convert(body, Prepare)
        self._drop()
        if not self._serving.wait_until_left(LEAVE_S):
            raise NotSwapped(
                "the model before the present one still answers requests",
                hint="try again when they have ended",
            )
        left = memory_left_bytes(asked.processes)
        needed = int(MEMORY_SHARE * asked.memory_bytes)
        if needed > left:
            raise NotSwapped(
                f"two models do not fit: another one takes {needed / 2**20:.0f} MiB, and process "
                f"{os.getpid()} may take {left / 2**20:.0f} MiB more",
                hint="give the service more memory, or start it anew with the other model",
            )
        artifact = Artifact.open(Path(asked.path))
        if artifact.digest != asked.digest:
            raise NotSwapped(f"{asked.path} is not the artifact that was tried: it has changed")
        opened = self._open(artifact, self._serving.live)
        try:
            for lane in opened.dispatcher.detector.engine.narrow:
                opened.dispatcher.detector.check(lane)
        except BaseException:
            opened.close()
            raise
        self._prepared = opened
        return {"digest": artifact.digest}

    def _drop(self) -> dict[str, Any]:
        if self._prepared is not None:
            prepared, self._prepared = self._prepared, None
            self._on_loop(lambda: self._serving.retire(prepared)).join()
        return {}

    def _take_prepared(self) -> Service:
        if self._prepared is None:
            raise NotSwapped("no model is prepared")
        prepared, self._prepared = self._prepared, None
        return prepared

    def _switch(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._serving.live.digest != body.get("digest") or self._prepared is not None:
            prepared = self._take_prepared()
            self._on_loop(lambda: self._serving.replace(prepared))
        return self._status()

    def _canary(self, body: dict[str, Any]) -> dict[str, Any]:
        prepared = self._take_prepared()
        share, shadow = float(body["share"]), bool(body["shadow"])
        second = Canary(prepared, share, shadow=shadow, metrics=self._serving.metrics)
        self._on_loop(lambda: self._serving.begin_canary(second))
        return self._status()

    def _promote(self, body: dict[str, Any]) -> dict[str, Any]:
        if self._serving.live.digest != body.get("digest"):
            self._on_loop(self._serving.promote_canary)
        return self._status()

    def _abandon(self) -> dict[str, Any]:
        self._on_loop(self._serving.abandon_canary)
        return self._status()

    def _count(self, body: dict[str, Any]) -> dict[str, Any]:
        self._serving.metrics.reloaded(str(body["result"]))
        return {}

    def _on_loop(self, call: Callable[[], T]) -> T:
        """Do something between two requests."""
        done: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(SWITCH_S)

    def _catch_up(self) -> None:
        """Serve what the others serve, where that changed while this process started."""
        with self._lock, contextlib.suppress(OSError):
            try:
                self._follow(ServedState.read(self._folder))
            except Exception as error:  # noqa: BLE001 - runtimes' errors share no base
                reason = first_line(error)
                say("error", "reload", f"this process does not serve what the others do: {reason}")

    def _follow(self, state: ServedState | None) -> None:
        if state is None:
            return
        if state.digest != self._serving.live.digest:
            self._prepare({"path": state.path, "digest": state.digest})
            self._switch({"digest": state.digest})
        second = state.second
        if second is not None and self._serving.canary is None:
            self._prepare({"path": second.path, "digest": second.digest})
            self._canary({"share": second.share, "shadow": second.shadow})
