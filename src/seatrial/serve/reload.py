"""Another artifact for all processes of a service: tried first, then loaded beside, then switched.

One coordinator leads the processes of a service, from their supervisor. The artifact is tried in a
process of its own. Then each process loads it beside the one that it serves, one after the other;
where one of them cannot, all drop it again. Once all have it, the state is written, which a process
that starts later reads, and each process switches between two of its requests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import InvalidInput, NotSwapped, NotWritable, SeatrialError, ServiceFailed
from seatrial.report.numbers import counted, percent
from seatrial.serve.changes import Changes
from seatrial.serve.control import asker_has_left
from seatrial.serve.log import say
from seatrial.serve.origin import Origin
from seatrial.serve.rehearsing import left, rehearse_apart, without_comparison
from seatrial.serve.served_state import SecondState, ServedState
from seatrial.serve.service_folder import place_artifact
from seatrial.serve.serving_processes import ServingProcesses, pid_of
from seatrial.serve.worker_commands import LEAVE_S

RELOADED = "reloaded"  # folder of artifacts that were swapped in, in the service folder
PREPARE_S, SWITCH_S = 600.0, 60.0


class Unchanged(NotSwapped):
    """The wanted model is served already."""

    @property
    def code(self) -> str:
        """That of its base: to whoever asks it is no kind of its own."""
        return NotSwapped.__name__


class Coordinator:
    """Leads the processes of one service from one artifact to another.

    Args:
        deployment_file: The deployment; a relative model path in it starts at the file's folder.
        folder: The supervisor's, in which the processes have their sockets.
        origin: What it was started with; None: the service folder alone.

    Attributes:
        folder: The same folder.
        server: The address of the service, from its deployment.
    """

    def __init__(self, deployment_file: Path, folder: Path, origin: Origin | None) -> None:
        self._file = deployment_file.absolute()
        self._service_folder = self._file.parent
        self.folder = folder
        self._deployment = Deployment.read(deployment_file)
        self.server = self._deployment.server
        self._processes = ServingProcesses(folder, self._deployment.limits.drain_s)
        self._origin = origin
        self._changes = Changes()

    def serves_itself(self, fail: Callable[[str], object]) -> None:
        """Note that this process is the service, without a supervisor.

        Args:
            fail: Ends it as one that failed, with a reason.
        """
        self._processes.fail_here = fail

    def reload_soon(self) -> None:
        """Reload on a thread of its own, and say what became of it in the log; for a signal."""
        threading.Thread(target=self._reload_and_say, name="reload", daemon=True).start()

    def status(self) -> dict[str, Any]:
        """The model of each process, and the canary's counts of all of them."""
        with self._processes.few:
            workers = [told for _, told in self._processes.ask_all("GET /status", {}, SWITCH_S)]
        state = self._state()
        second = state.second
        canaries = [told["canary"] for told in workers if told["canary"]]
        summed = {
            kind: {
                key: sum(one[kind][key] for one in canaries)
                for key in (canaries[0][kind] if canaries else ())
            }
            for kind in ("images", "boxes", "requests", "seconds")
        }
        boxes = summed["boxes"]
        all_boxes = sum(boxes.values()) + boxes.get("matched", 0)
        return {
            "model": state.name,
            "digest": state.digest,
            "processes": [
                {key: told[key] for key in ("pid", "name", "digest", "leaving")} for told in workers
            ],
            "canary": second
            and {
                "model": second.name,
                "digest": second.digest,
                "share": second.share,
                "shadow": second.shadow,
                "failure": next((one["failure"] for one in canaries if one["failure"]), ""),
                **summed,
                "agreement": 2 * boxes["matched"] / all_boxes if all_boxes else None,
            },
        }

    def reload(self, model: str | None = None) -> dict[str, Any]:
        """Serve another artifact, if nothing is wrong with it.

        Args:
            model: Its name, or a path; None: what the service was started with, looked up anew.

        Returns:
            The new name and digest, those before, and the report of the rehearsal.

        Raises:
            NotSwapped: It is not served; the message says why.
        """
        try:
            with self._counted():
                before = self._state()
                if before.second is not None:
                    raise NotSwapped("there is a canary", hint="promote or abandon it first")
                tried = self._prepare(model, before)
                after = self._after(before, tried)
                self._write(after, before)
                self._switch("POST /switch", {"digest": after.digest})
                self._remove_others(after)
        except Unchanged:
            return {"result": "unchanged", "model": before.name, "digest": before.digest}
        _say(f"serving {after.name} ({after.digest[:12]}) in place of {before.name}")
        return {
            "result": "swapped",
            "model": after.name,
            "digest": after.digest,
            "before": {"model": before.name, "digest": before.digest},
            "rehearsal": tried,
        }

    def start_canary(self, model: str, share: float, *, shadow: bool) -> dict[str, Any]:
        """Serve another artifact beside the present one.

        Args:
            model: Its name, or a path.
            share: Share of the requests, above 0 and up to 1.
            shadow: Whether its answers are compared and discarded.

        Raises:
            NotSwapped: It is not served; the message says why.
            InvalidInput: The share is none.
        """
        if not 0 < share <= 1:
            raise InvalidInput(f"a share of {100 * share:g} % is not above 0 % and up to 100 %")
        with self._counted("the canary is not started"):
            before = self._state()
            if before.second is not None:
                raise NotSwapped("there is a canary already", hint="promote or abandon it first")
            try:
                tried = self._prepare(model, before)
            except Unchanged as error:  # of a reload that is no failure
                raise NotSwapped(error.message, hint="name another model") from error
            placed = self._after(before, tried)
            second = SecondState(placed.path, placed.digest, placed.name, share, shadow)
            self._write(msgspec.structs.replace(before, second=second), before)
            self._switch("POST /canary", {"share": share, "shadow": shadow})
        what = "images, as a shadow" if shadow else "requests"
        beside = f"beside {before.name}: {percent(share)} of the {what}"
        _say(f"serving {placed.name} ({placed.digest[:12]}) {beside}")
        return self.status()

    def promote(self, *, force: bool = False) -> dict[str, Any]:
        """Serve the canary alone.

        Args:
            force: Whether one may be promoted that nothing is known of yet.

        Raises:
            NotSwapped: There is none, or it failed; or it has answered no request, or compared no
                image where it is a shadow.
        """
        with self._counted("the canary is not promoted", newest=False, tries=False):
            before = self._state()
            second = self._second(before)
            canary = self.status()["canary"]
            if canary["failure"]:
                raise NotSwapped(
                    f"the canary serves no more: {canary['failure']}", hint="abandon it"
                )
            answers, words = _experience(canary)
            if not answers and not force:
                raise NotSwapped(
                    f"the canary {second.name} {words}: nothing is known of it",
                    hint="wait for its answers (seatrial canary status), or promote it by --force",
                )
            after = ServedState(second.path, second.digest, second.name, before.served_as)
            self._write(after, before)
            self._switch("POST /promote", {"digest": after.digest})
            self._remove_others(after)
        _say(f"serving {after.name} ({after.digest[:12]}) in place of {before.name}: it {words}")
        return self.status()

    def abandon(self) -> dict[str, Any]:
        """Let the canary go; a model that is to be served and is tried or loaded so far, too.

        Returns:
            The status after that: there is no canary.

        Raises:
            NotSwapped: There is neither; or it is too late for that.
            ServiceFailed: The service ends, as it could not let it go.
        """
        with self._changes.instead() as gave_up:
            before = self._state()
            if gave_up and before.second is None:
                return self.status()
            second = self._second(before)
            after = msgspec.structs.replace(before, second=None)
            self._write(after, before)
            self._switch("POST /abandon", {})
            self._remove_others(after)
        _say(f"the canary {second.name} is abandoned: {after.name} serves alone")
        return self.status()

    def abandon_change(self) -> dict[str, Any]:
        """Have a reload or a canary's start end, whoever asked for it: a command, or a signal.

        Raises:
            NotSwapped: There is none, or the processes switch already.
        """
        if not self._changes.give_up():
            raise NotSwapped(
                "no change is under way",
                hint="seatrial canary status shows what is served; seatrial reload --model goes "
                "back to another model",
            )
        return self.status()

    def _reload_and_say(self) -> None:
        with contextlib.suppress(SeatrialError):  # `_counted` has said it
            self.reload()

    @contextlib.contextmanager
    def _counted(
        self,
        refused: str = "the model is not swapped",
        *,
        newest: bool = True,
        tries: bool = True,
    ) -> Iterator[None]:
        """One change at a time; its result is counted, and what was refused is said.

        Args:
            refused: What has not happened then, for the log.
            newest: See `Changes.alone`.
            tries: The same.
        """
        try:
            with self._changes.alone(newest=newest, tries=tries):
                yield
        except Unchanged as error:
            _say(error.message)
            raise
        except SeatrialError as error:
            _say(f"error: {refused}: {error.message}")
            self._count("refused")
            raise
        self._count("swapped")

    def _count(self, result: str) -> None:
        """Have one of the processes count it: the metrics are theirs."""
        # Outsiders can have any number refused; what was swapped is one at a time.
        with self._processes.few if result == "refused" else contextlib.nullcontext():
            for socket in self._processes.sockets():
                with contextlib.suppress(SeatrialError):
                    self._processes.ask(socket, "POST /count", {"result": result}, SWITCH_S)
                    return

    def _state(self) -> ServedState:
        found = ServedState.read(self.folder)
        if found is not None:
            return found
        artifact = Artifact.open(self._service_folder / self._deployment.model, verify=False)
        name = artifact.manifest.name
        return ServedState(str(artifact.path), artifact.digest, name, name)

    def _write(self, state: ServedState, before: ServedState) -> None:
        """From here on a process that starts serves this."""
        try:
            state.write(self.folder)
        except NotWritable:
            self._forget_prepared(before)
            raise

    def _forget_prepared(self, before: ServedState) -> None:
        self._processes.ask_all("POST /drop", {}, LEAVE_S)
        self._remove_others(before)

    def _second(self, state: ServedState) -> SecondState:
        if state.second is None:
            raise NotSwapped(
                "there is no canary", hint="start one: seatrial canary start MODEL --share 5%"
            )
        return state.second

    def _prepare(self, model: str | None, before: ServedState) -> dict[str, Any]:
        """Try an artifact, and have each process load it beside; none keeps it if one cannot.

        Nor if who asked has left: nothing is served that somebody has given up.
        """
        named, folder = self._named(model)
        with self._changes.trial(named, asker_has_left) as gives_way:
            tried = rehearse_apart(
                named, folder, before.path, self._deployment, self.folder, gives_way
            )
        if tried["digest"] == before.digest:
            raise Unchanged(f"{before.name} is what is served already: nothing is changed")
        path = place_artifact(
            Artifact.open(Path(tried["path"])), self._service_folder / RELOADED / tried["digest"]
        )
        tried = {**tried, "path": str(path)}
        sockets = self._processes.sockets()
        if not sockets:
            raise NotSwapped("no server process is ready", hint="try again when the service is")
        asked = {
            "path": tried["path"],
            "digest": tried["digest"],
            "memory_bytes": tried["memory_bytes"],
            "processes": len(sockets),
        }
        try:
            with self._changes.loading(named) as check:
                for socket in sockets:
                    self._processes.ask(socket, "POST /prepare", asked, PREPARE_S)
                    check()
                    if asker_has_left():
                        raise left(named)
        except SeatrialError:
            self._forget_prepared(before)
            raise
        if words := without_comparison(tried):
            _say(f"{tried['name']} was {words}")
        return tried

    def _named(self, model: str | None) -> tuple[str, Path]:
        """The name of the wanted model, and the folder where a relative path begins."""
        origin = self._origin
        if origin is None:
            again = Deployment.read(self._file).model
            return model or str(self._service_folder / again), self._service_folder
        folder = Path(origin.folder)
        if model is None and origin.model is None and origin.deployment is not None:
            model = Deployment.read(folder / origin.deployment).model
        return model or origin.model or "", folder

    def _after(self, before: ServedState, tried: dict[str, Any]) -> ServedState:
        return ServedState(tried["path"], tried["digest"], tried["name"], before.served_as)

    def _switch(self, command: str, body: dict[str, Any]) -> None:
        """Have each process switch. One that does not is ended: the next one reads the state.

        Raises:
            ServiceFailed: It is this process: the service ends, and there is no next one.
        """
        for socket in self._processes.sockets():
            try:
                self._processes.ask(socket, command, body, SWITCH_S)
            except SeatrialError as error:
                reason = f"process {pid_of(socket)} does not switch and is ended: {error.message}"
                _say(f"error: {reason}")
                self._processes.end(socket, reason)
                if pid_of(socket) == os.getpid():
                    raise ServiceFailed(
                        f"the service ends: {reason}", hint="start it anew"
                    ) from error

    def _remove_others(self, state: ServedState) -> None:
        """Remove the artifacts that are served no more."""
        kept = {state.path, state.second.path if state.second else ""}
        for other in (self._service_folder / RELOADED).glob("*"):
            if str(other) not in kept:
                shutil.rmtree(other, ignore_errors=True)


def _experience(canary: dict[str, Any]) -> tuple[int, str]:
    """The number of a canary's answers, and in words what it has done."""
    if canary["shadow"]:
        count = canary["images"].get("compared", 0)
        return count, f"compared {counted(count, 'image')} as a shadow"
    count = canary["requests"].get("canary_answered", 0)
    return count, f"answered {counted(count, 'request')} as a canary"


def _say(line: str) -> None:
    wrong = line.startswith("error: ")
    say("error" if wrong else "info", "reload", line.removeprefix("error: "))
