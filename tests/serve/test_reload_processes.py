"""What a supervisor asks its processes in a change: in which order, and where one of them cannot.

The commands go over real sockets; the processes only note what they are asked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dimmed_artifacts import dimmed_artifact
from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.errors import InvalidInput, NotSwapped, NotWritable, ServiceFailed
from seatrial.serve import rehearsing
from seatrial.serve.changes import GIVEN_UP
from seatrial.serve.control import MOST, ControlServer
from seatrial.serve.reload import RELOADED, Coordinator
from seatrial.serve.served_state import SecondState, ServedState
from seatrial.serve.service_folder import write_service
from seatrial.serve.serving_processes import FEW
from seatrial.system.children import has_ended

pytestmark = pytest.mark.usefixtures("time_limit")
NOBODY = {"requests": {"live_answered": 0}, "seconds": {"live": 0.0}}
# In the place of a rehearsal: one that never ends, but for the model ``third``.
HANGS = """
import os, sys, time
if sys.argv[-1] == "third":
    sys.exit("error: no third")
with open(os.environ["BEGUN"] + "-", "w") as file:
    file.write(str(os.getpid()))
os.rename(os.environ["BEGUN"] + "-", os.environ["BEGUN"])
time.sleep(1000)
"""


class Service:
    """A supervisor's part, and what its processes were asked.

    Attributes:
        folder: The service folder.
        sockets: The supervisor's folder.
        coordinator: Leads the processes.
        asked: Number of each process and command, in their order.
        refuses: Command -> number of the process that refuses it.
        told: What each process says of its canary, by its number.
        meanwhile: Command -> what is done while a process does it.
    """

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder, self.sockets = folder, sockets
        self.coordinator = Coordinator(folder / "deployment.toml", sockets, None)
        self.asked: list[tuple[int, str]] = []
        self.refuses: dict[str, int] = {}
        self.told: dict[int, dict[str, Any]] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}

    def listen(self, *pids: int) -> None:
        """Have processes take commands; they are numbered in the order of their sockets."""
        for number, name in enumerate(sorted(f"worker-{pid}.sock" for pid in pids)):
            ControlServer(self.sockets / name, self._process(number))

    def _process(self, number: int) -> Callable[[str, dict[str, Any]], Any]:
        def answer(command: str, body: dict[str, Any]) -> Any:
            self.asked.append((number, command))
            if command in self.meanwhile:
                self.meanwhile[command]()
            if self.refuses.get(command) == number:
                raise NotSwapped("there is no room", hint="give it more memory")
            if command == "GET /status":
                told = {"pid": number, "name": "tiny", "digest": "0" * 64, "leaving": 0}
                return {**told, "canary": self.told.get(number)}
            return {}

        return answer

    @property
    def placed(self) -> list[str]:
        """Digests of the artifacts that were put beside the first one."""
        return sorted(path.name for path in (self.folder / RELOADED).glob("*"))


@pytest.fixture
def other(tiny_model: Callable[..., Any], tmp_path: Path) -> Artifact:
    return dimmed_artifact(tiny_model, tmp_path, 0.6, "other")


@pytest.fixture
def service(tiny_artifact: Artifact, tmp_path: Path) -> Service:
    folder = write_service(tmp_path / "service", tiny_artifact, Deployment("tiny", engine="null"))
    sockets = tmp_path / "supervisor"
    sockets.mkdir()
    return Service(folder, sockets)


@pytest.fixture
def rehearsed(service: Service, monkeypatch: pytest.MonkeyPatch) -> Callable[[Artifact], None]:
    """Has the trial of an artifact pass; `tests/test_rehearsal.py` has real ones."""

    def passes(artifact: Artifact) -> None:
        tried = {
            "path": str(artifact.path), "digest": artifact.digest,
            "name": artifact.manifest.name, "memory_bytes": 1, "images": 4,
            "comparison": {"agreement": {"share": 1.0}},
        }  # fmt: skip
        monkeypatch.setattr("seatrial.serve.reload.rehearse_apart", lambda *given: tried)

    return passes


@pytest.fixture
def child() -> Iterator[int]:
    """Number of a process that may be ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid


def test_all_have_it_before_one_switches_and_the_state_is_written_between(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    service.listen(os.getpid(), os.getppid())
    states: list[Any] = []
    ask_one = service.coordinator._processes.ask

    def noted(socket: Path, command: str, *rest: Any) -> Any:
        states.append((command, ServedState.read(service.sockets)))
        return ask_one(socket, command, *rest)

    service.coordinator._processes.ask = noted  # type: ignore[method-assign]
    told = service.coordinator.reload(str(other.path))
    assert (told["result"], told["model"], told["digest"]) == ("swapped", "other", other.digest)
    assert told["before"]["model"] == "tiny"
    assert service.asked == [
        (0, "POST /prepare"), (1, "POST /prepare"), (0, "POST /switch"), (1, "POST /switch"),
        (0, "POST /count"),
    ]  # fmt: skip
    after = ServedState(
        str(service.folder / RELOADED / other.digest), other.digest, "other", served_as="tiny"
    )
    assert [state for _, state in states] == [None, None, after, after, after]
    assert service.placed == [other.digest]


def test_where_one_cannot_load_it_all_let_go_of_it(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    service.listen(os.getpid(), os.getppid())
    service.refuses = {"POST /prepare": 1}
    with pytest.raises(NotSwapped, match="there is no room") as refused:
        service.coordinator.reload(str(other.path))
    assert refused.value.hint == "give it more memory"
    assert service.asked == [
        (0, "POST /prepare"), (1, "POST /prepare"), (0, "POST /drop"), (1, "POST /drop"),
        (0, "POST /count"),
    ]  # fmt: skip
    assert ServedState.read(service.sockets) is None
    assert service.placed == []


def test_what_is_loaded_for_somebody_who_has_left_is_dropped(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rehearsed(other)
    service.listen(os.getpid(), os.getppid())
    with monkeypatch.context() as patch:
        patch.setattr("seatrial.serve.reload.asker_has_left", lambda: True)
        with pytest.raises(NotSwapped, match="has left before it was served"):
            service.coordinator.reload(str(other.path))
    assert service.asked == [
        (0, "POST /prepare"), (0, "POST /drop"), (1, "POST /drop"), (0, "POST /count"),
    ]  # fmt: skip
    assert ServedState.read(service.sockets) is None
    assert service.placed == []
    assert service.coordinator.reload(str(other.path))["result"] == "swapped"


@pytest.mark.parametrize("give_up", ["abandon_change", "abandon"])
def test_what_is_loaded_for_a_change_that_is_given_up_is_dropped(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None], give_up: str
) -> None:
    """Whoever began it: nobody's connection is closed here, as with SIGHUP."""
    rehearsed(other)
    coordinator = service.coordinator
    with ThreadPoolExecutor() as pool:
        given_up: list[Any] = []

        def load() -> None:
            given_up.append(pool.submit(getattr(coordinator, give_up)))
            while coordinator._changes._reason != GIVEN_UP:
                assert not given_up[0].done()
                time.sleep(0.001)

        service.meanwhile = {"POST /prepare": load}
        service.listen(os.getpid(), os.getppid())
        with pytest.raises(NotSwapped, match="is not served: it was given up"):
            coordinator.reload(str(other.path))
        assert given_up[0].result(60)["model"] == "tiny"
    asked = [one for one in service.asked if one[1] != "GET /status"]
    assert asked == [
        (0, "POST /prepare"), (0, "POST /drop"), (1, "POST /drop"), (0, "POST /count"),
    ]  # fmt: skip
    assert ServedState.read(service.sockets) is None
    assert service.placed == []
    with pytest.raises(NotSwapped, match="no change is under way"):
        coordinator.abandon_change()


def test_a_change_that_switches_is_not_given_up(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    refused: list[str] = []

    def switch() -> None:
        for give_up in (service.coordinator.abandon_change, service.coordinator.abandon):
            with pytest.raises(NotSwapped) as error:
                give_up()
            refused.append(error.value.message)

    service.meanwhile = {"POST /switch": switch}
    service.listen(os.getpid())
    assert service.coordinator.reload(str(other.path))["result"] == "swapped"
    assert refused == ["another change is under way, and it is too late to give it up"] * 2


def test_what_was_swapped_in_before_is_removed_with_the_next(
    service: Service, other: Artifact, tiny_artifact: Artifact,
    rehearsed: Callable[[Artifact], None],
) -> None:  # fmt: skip
    service.listen(os.getpid())
    for artifact in (other, tiny_artifact):
        rehearsed(artifact)
        service.coordinator.reload(str(artifact.path))
        assert service.placed == [artifact.digest]
    assert service.coordinator.reload(str(tiny_artifact.path)) == {
        "result": "unchanged", "model": "tiny", "digest": tiny_artifact.digest
    }  # fmt: skip


def test_a_process_that_does_not_switch_is_ended(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        service.listen(process.pid)
        service.refuses = {"POST /switch": 0, "POST /fail": 0}
        assert service.coordinator.reload(str(other.path))["result"] == "swapped"
        assert process.wait(20) == -signal.SIGTERM


def test_it_ends_by_itself_as_one_that_failed_where_it_can(
    service: Service,
    other: Artifact,
    rehearsed: Callable[[Artifact], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its supervisor starts another one."""
    killed: list[int] = []
    monkeypatch.setattr("seatrial.serve.serving_processes._kill", killed.append)
    monkeypatch.setattr("seatrial.serve.serving_processes.DEAF_S", -1e9)  # at once
    rehearsed(other)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        service.listen(process.pid)
        service.refuses = {"POST /switch": 0}
        assert service.coordinator.reload(str(other.path))["result"] == "swapped"
        asked = [command for _, command in service.asked]
        assert asked.index("POST /fail") == asked.index("POST /switch") + 1
        assert "does not switch and is ended: there is no room" in capsys.readouterr().err
        give_up = time.monotonic() + 60
        while not killed:  # it would, if it went on
            assert time.monotonic() < give_up
            time.sleep(0.01)
        os.close(killed[0])


def test_a_service_that_ends_as_it_does_not_switch_says_so(
    service: Service,
    other: Artifact,
    rehearsed: Callable[[Artifact], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone it is its own coordinator: none is left that would serve the other model."""
    monkeypatch.setattr("seatrial.serve.serving_processes._kill", os.close)  # it is the test
    rehearsed(other)
    failed: list[str] = []
    service.coordinator.serves_itself(failed.append)
    service.listen(os.getpid())
    service.refuses = {"POST /switch": 0, "POST /abandon": 0}
    why = f"process {os.getpid()} does not switch and is ended: there is no room"
    with pytest.raises(ServiceFailed, match=f"the service ends: {why}"):
        service.coordinator.reload(str(other.path))
    with_canary(service)
    with pytest.raises(ServiceFailed, match=f"the service ends: {why}"):
        service.coordinator.abandon()
    assert failed == [why, why]
    assert "POST /fail" not in [command for _, command in service.asked]


def test_however_often_outsiders_ask_a_process_has_a_place_for_a_change(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None], child: int
) -> None:
    """More ask here than it takes connections, and it answers none of them for now."""
    rehearsed(other)
    go_on, waits = threading.Event(), list[bool]()
    service.meanwhile = {"GET /status": lambda: waits.append(go_on.wait(60))}
    service.listen(child)
    with ThreadPoolExecutor(MOST + 8) as pool:
        told = [pool.submit(service.coordinator.status) for _ in range(MOST + 8)]
        while len(service.asked) < FEW:
            time.sleep(0.001)
        assert service.coordinator.reload(str(other.path))["result"] == "swapped"
        assert [command for _, command in service.asked].count("GET /status") == FEW
        go_on.set()
        assert {len(one.result(60)["processes"]) for one in told} == {1}


def test_changes_go_on_while_outsiders_ask_without_a_pause(
    service: Service, other: Artifact, tiny_artifact: Artifact,
    rehearsed: Callable[[Artifact], None], capsys: pytest.CaptureFixture[str], child: int,
) -> None:  # fmt: skip
    coordinator, over = service.coordinator, threading.Event()
    service.listen(child)
    artifacts = [other, tiny_artifact] * 5

    def without_a_pause() -> None:
        while not over.is_set():
            coordinator.status()
            with pytest.raises(NotSwapped):
                coordinator.promote()

    with ThreadPoolExecutor(12) as pool:
        outsiders = [pool.submit(without_a_pause) for _ in range(12)]
        try:
            for artifact in artifacts:
                rehearsed(artifact)
                while True:
                    try:
                        told = coordinator.reload(str(artifact.path))
                        break
                    except NotSwapped as error:
                        assert error.message == "another change is under way"  # noqa: PT017
                assert told["result"] == "swapped"
        finally:
            over.set()
        for one in outsiders:
            one.result(60)
    assert "is ended" not in capsys.readouterr().err


def test_abandon_lets_the_canary_go_whatever_else_is_under_way(
    service: Service, tiny_artifact: Artifact, rehearsed: Callable[[Artifact], None], child: int
) -> None:
    """Such as reloads, each of which is about to be refused as there is a canary."""
    rehearsed(tiny_artifact)
    service.listen(child)
    coordinator, changes = service.coordinator, service.coordinator._changes
    begun, over = threading.Event(), threading.Event()
    with_canary(service, tiny_artifact.digest)

    def under_way() -> None:
        with changes.alone(tries=True):
            begun.set()
            while changes._reason != GIVEN_UP:
                time.sleep(0.001)

    def without_a_pause() -> None:
        while not over.is_set():
            with contextlib.suppress(NotSwapped):
                coordinator.reload("tiny")

    with ThreadPoolExecutor(5) as pool:
        other = pool.submit(under_way)
        assert begun.wait(60)
        assert coordinator.abandon()["canary"] is None
        assert (0, "POST /abandon") in service.asked
        other.result(60)
        outsiders = [pool.submit(without_a_pause) for _ in range(4)]
        try:
            for _ in range(10):
                with changes.instead():
                    with_canary(service, tiny_artifact.digest)
                assert coordinator.abandon()["canary"] is None
        finally:
            over.set()
        for one in outsiders:
            one.result(60)


def test_a_full_disk_swaps_nothing_and_leaves_nothing(
    service: Service,
    other: Artifact,
    rehearsed: Callable[[Artifact], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsed(other)
    service.listen(os.getpid())
    monkeypatch.setattr("seatrial.serve.served_state.write_atomically", full)
    with pytest.raises(NotWritable, match="No space left"):
        service.coordinator.reload(str(other.path))
    assert [command for _, command in service.asked][:2] == ["POST /prepare", "POST /drop"]
    assert "POST /switch" not in [command for _, command in service.asked]
    assert service.placed == []


def test_a_full_disk_is_named_before_anything_is_tried(
    service: Service, other: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NotWritable, match="No space left"):
        service.coordinator.reload(str(other.path))


def full(*given: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_one_change_at_a_time_and_the_other_is_counted_and_said(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies: list[Any] = []
    ControlServer(
        service.sockets / f"worker-{os.getpid()}.sock",
        lambda command, body: bodies.append((command, body)),
    )
    with (
        service.coordinator._changes.alone(),
        pytest.raises(NotSwapped, match="another change is under way"),
    ):
        service.coordinator.reload("other")
    assert bodies == [("POST /count", {"result": "refused"})]
    assert "error: the model is not swapped: another change" in capsys.readouterr().err


@pytest.mark.parametrize("newest", ["abandon", "abandon_change", "reload"])
def test_the_newest_change_ends_the_trial_of_another(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, newest: str
) -> None:
    """A trial that hangs would hold up all changes until it is given up."""
    monkeypatch.setattr(rehearsing, "COMMAND_LINE", HANGS)
    begun = tmp_path / "begun"
    monkeypatch.setenv("BEGUN", str(begun))
    coordinator = service.coordinator
    with ThreadPoolExecutor() as pool:
        hangs = pool.submit(coordinator.reload, "second")
        while not begun.exists():
            assert not hangs.done()
            time.sleep(0.01)
        with pytest.raises(NotSwapped, match="another change is under way"):
            coordinator.promote()  # there is no canary that it could be of
        if newest == "reload":
            with pytest.raises(NotSwapped, match="no third"):
                coordinator.reload("third")
        else:
            assert getattr(coordinator, newest)()["canary"] is None
        why = "another change was asked for" if newest == "reload" else "it was given up"
        with pytest.raises(NotSwapped, match=f"second is tried no more: {why}"):
            hangs.result()
    assert has_ended(int(begun.read_text()))
    with pytest.raises(NotSwapped, match="there is no canary"):
        coordinator.abandon()


def test_a_canary_of_the_served_model_is_refused_and_counted(
    service: Service,
    tiny_artifact: Artifact,
    rehearsed: Callable[[Artifact], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A reload of it changes nothing, and is no failure."""
    rehearsed(tiny_artifact)
    service.listen(os.getpid())
    assert service.coordinator.reload("tiny")["result"] == "unchanged"
    assert "POST /count" not in [command for _, command in service.asked]
    with pytest.raises(NotSwapped, match="is what is served already") as refused:
        service.coordinator.start_canary("tiny", 0.5, shadow=False)
    assert type(refused.value) is NotSwapped
    assert [command for _, command in service.asked] == ["POST /count"]
    assert "error: the canary is not started: tiny is what is served" in capsys.readouterr().err


def test_without_a_process_that_is_ready_nothing_is_swapped(
    service: Service, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    (service.sockets / "worker-999999999.sock").touch()  # of one that has ended
    with pytest.raises(NotSwapped, match="no server process is ready"):
        service.coordinator.reload(str(other.path))


def with_canary(service: Service, live: str = "1" * 64) -> None:
    second = SecondState("/other", "2" * 64, "other", 0.5, shadow=True)
    ServedState("/tiny", live, "tiny", "tiny", second).write(service.sockets)


def canary(matched: int, lost: int, failure: str = "") -> dict[str, Any]:
    return {
        "failure": failure, **NOBODY, "images": {"compared": 1},
        "boxes": {"matched": matched, "lost": lost, "gained": 0},
    }  # fmt: skip


def test_the_status_of_a_canary_is_that_of_all_processes(service: Service) -> None:
    assert service.coordinator.status()["canary"] is None
    with_canary(service)
    service.listen(os.getpid(), os.getppid())
    service.told = {0: canary(4, 1), 1: canary(2, 3)}
    told = service.coordinator.status()["canary"]
    assert (told["model"], told["digest"], told["share"]) == ("other", "2" * 64, 0.5)
    assert told["images"] == {"compared": 2}
    assert told["boxes"] == {"matched": 6, "lost": 4, "gained": 0}
    assert told["agreement"] == 2 * 6 / (2 * 6 + 4)
    assert told["failure"] == ""


def test_a_canary_that_failed_in_one_process_is_not_promoted(service: Service) -> None:
    with_canary(service)
    service.listen(os.getpid(), os.getppid())
    service.told = {0: canary(1, 0), 1: canary(1, 0, "no lane works")}
    with pytest.raises(NotSwapped, match="the canary serves no more: no lane works"):
        service.coordinator.promote()
    assert "POST /promote" not in [command for _, command in service.asked]
    with pytest.raises(NotSwapped, match="there is a canary already"):
        service.coordinator.start_canary("other", 0.5, shadow=False)
    with pytest.raises(NotSwapped, match=r"^there is a canary$"):
        service.coordinator.reload("other")
    assert service.coordinator.abandon()["canary"] is None


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_a_share_is_above_nothing_and_up_to_all(service: Service, share: float) -> None:
    with pytest.raises(InvalidInput, match="is not above 0 % and up to 100 %"):
        service.coordinator.start_canary("other", share, shadow=False)


def test_a_canary_without_an_answer_is_promoted_by_force_alone(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    second = SecondState("/other", "2" * 64, "other", 0.5, shadow=False)
    ServedState("/tiny", "1" * 64, "tiny", "tiny", second).write(service.sockets)
    service.listen(os.getpid(), os.getppid())
    answered = {**canary(0, 0), "requests": {"canary_answered": 0}}
    service.told = {0: answered, 1: answered}
    with pytest.raises(NotSwapped, match="other answered 0 requests as a canary") as caught:
        service.coordinator.promote()
    assert "--force" in caught.value.hint
    assert "POST /promote" not in [command for _, command in service.asked]
    assert service.coordinator._state().second == second
    assert "error: the canary is not promoted: " in capsys.readouterr().err
    service.coordinator.promote(force=True)
    assert "in place of tiny: it answered 0 requests as a canary" in capsys.readouterr().err
    ServedState("/tiny", "1" * 64, "tiny", "tiny", second).write(service.sockets)
    service.told[1] = {**canary(0, 0), "requests": {"canary_answered": 1}}
    service.coordinator.promote()
    assert "in place of tiny: it answered 1 request as a canary" in capsys.readouterr().err


def test_a_shadow_that_compared_nothing_is_not_promoted(service: Service) -> None:
    with_canary(service)
    service.listen(os.getpid())
    service.told = {0: {**canary(0, 0), "images": {"compared": 0}}}
    with pytest.raises(NotSwapped, match="other compared 0 images as a shadow"):
        service.coordinator.promote()


def test_the_log_says_what_was_refused(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotSwapped):
        service.coordinator.promote()
    assert capsys.readouterr().err == "error: the canary is not promoted: there is no canary\n"
    with_canary(service)
    with pytest.raises(NotSwapped):
        service.coordinator.start_canary("other", 0.5, shadow=False)
    assert capsys.readouterr().err == (
        "error: the canary is not started: there is a canary already\n"
    )
