"""What a supervisor asks its processes in a change: in which order, and where one of them cannot.

The commands go over real sockets; the processes only note what they are asked.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from led_processes import LedProcesses, with_canary
from seatrial.artifact import Artifact
from seatrial.errors import NotSwapped, NotWritable, ServiceFailed
from seatrial.serve import rehearsing
from seatrial.serve.changes import GIVEN_UP
from seatrial.serve.control import ControlServer
from seatrial.serve.reload import RELOADED
from seatrial.serve.served_state import ServedState
from seatrial.system.children import has_ended

pytestmark = pytest.mark.usefixtures("time_limit")
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


def test_all_have_it_before_one_switches_and_the_state_is_written_between(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    led.listen(os.getpid(), os.getppid())
    states: list[Any] = []
    ask_one = led.coordinator._processes.ask

    def noted(socket: Path, command: str, *rest: Any) -> Any:
        states.append((command, ServedState.read(led.sockets)))
        return ask_one(socket, command, *rest)

    led.coordinator._processes.ask = noted  # type: ignore[method-assign]
    told = led.coordinator.reload(str(other.path))
    assert (told["result"], told["model"], told["digest"]) == ("swapped", "other", other.digest)
    assert told["before"]["model"] == "tiny"
    assert led.asked == [
        (0, "POST /prepare"), (1, "POST /prepare"), (0, "POST /switch"), (1, "POST /switch"),
        (0, "POST /count"),
    ]  # fmt: skip
    after = ServedState(
        str(led.folder / RELOADED / other.digest), other.digest, "other", served_as="tiny"
    )
    assert [state for _, state in states] == [None, None, after, after, after]
    assert led.placed == [other.digest]


def test_where_one_cannot_load_it_all_let_go_of_it(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    led.listen(os.getpid(), os.getppid())
    led.refuses = {"POST /prepare": 1}
    with pytest.raises(NotSwapped, match="there is no room") as refused:
        led.coordinator.reload(str(other.path))
    assert refused.value.hint == "give it more memory"
    assert led.asked == [
        (0, "POST /prepare"), (1, "POST /prepare"), (0, "POST /drop"), (1, "POST /drop"),
        (0, "POST /count"),
    ]  # fmt: skip
    assert ServedState.read(led.sockets) is None
    assert led.placed == []


def test_what_is_loaded_for_somebody_who_has_left_is_dropped(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    rehearsed(other)
    led.listen(os.getpid(), os.getppid())
    with monkeypatch.context() as patch:
        patch.setattr("seatrial.serve.reload.asker_has_left", lambda: True)
        with pytest.raises(NotSwapped, match="has left before it was served"):
            led.coordinator.reload(str(other.path))
    assert led.asked == [
        (0, "POST /prepare"), (0, "POST /drop"), (1, "POST /drop"), (0, "POST /count"),
    ]  # fmt: skip
    assert ServedState.read(led.sockets) is None
    assert led.placed == []
    assert led.coordinator.reload(str(other.path))["result"] == "swapped"


@pytest.mark.parametrize("give_up", ["abandon_change", "abandon"])
def test_what_is_loaded_for_a_change_that_is_given_up_is_dropped(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None], give_up: str
) -> None:
    """Whoever began it: nobody's connection is closed here, as with SIGHUP."""
    rehearsed(other)
    coordinator = led.coordinator
    with ThreadPoolExecutor() as pool:
        given_up: list[Any] = []

        def load() -> None:
            given_up.append(pool.submit(getattr(coordinator, give_up)))
            while coordinator._changes._reason != GIVEN_UP:
                assert not given_up[0].done()
                time.sleep(0.001)

        led.meanwhile = {"POST /prepare": load}
        led.listen(os.getpid(), os.getppid())
        with pytest.raises(NotSwapped, match="is not served: it was given up"):
            coordinator.reload(str(other.path))
        assert given_up[0].result(60)["model"] == "tiny"
    asked = [one for one in led.asked if one[1] != "GET /status"]
    assert asked == [
        (0, "POST /prepare"), (0, "POST /drop"), (1, "POST /drop"), (0, "POST /count"),
    ]  # fmt: skip
    assert ServedState.read(led.sockets) is None
    assert led.placed == []
    with pytest.raises(NotSwapped, match="no change is under way"):
        coordinator.abandon_change()


def test_a_change_that_switches_is_not_given_up(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    refused: list[str] = []

    def switch() -> None:
        for give_up in (led.coordinator.abandon_change, led.coordinator.abandon):
            with pytest.raises(NotSwapped) as error:
                give_up()
            refused.append(error.value.message)

    led.meanwhile = {"POST /switch": switch}
    led.listen(os.getpid())
    assert led.coordinator.reload(str(other.path))["result"] == "swapped"
    assert refused == ["another change is under way, and it is too late to give it up"] * 2


def test_what_was_swapped_in_before_is_removed_with_the_next(
    led: LedProcesses, other: Artifact, tiny_artifact: Artifact,
    rehearsed: Callable[[Artifact], None],
) -> None:  # fmt: skip
    led.listen(os.getpid())
    for artifact in (other, tiny_artifact):
        rehearsed(artifact)
        led.coordinator.reload(str(artifact.path))
        assert led.placed == [artifact.digest]
    assert led.coordinator.reload(str(tiny_artifact.path)) == {
        "result": "unchanged", "model": "tiny", "digest": tiny_artifact.digest
    }  # fmt: skip


def test_a_process_that_does_not_switch_is_ended(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        led.listen(process.pid)
        led.refuses = {"POST /switch": 0, "POST /fail": 0}
        assert led.coordinator.reload(str(other.path))["result"] == "swapped"
        assert process.wait(20) == -signal.SIGTERM


def test_it_ends_by_itself_as_one_that_failed_where_it_can(
    led: LedProcesses,
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
        led.listen(process.pid)
        led.refuses = {"POST /switch": 0}
        assert led.coordinator.reload(str(other.path))["result"] == "swapped"
        asked = [command for _, command in led.asked]
        assert asked.index("POST /fail") == asked.index("POST /switch") + 1
        assert "does not switch and is ended: there is no room" in capsys.readouterr().err
        give_up = time.monotonic() + 60
        while not killed:  # it would, if it went on
            assert time.monotonic() < give_up
            time.sleep(0.01)
        os.close(killed[0])


def test_a_service_that_ends_as_it_does_not_switch_says_so(
    led: LedProcesses,
    other: Artifact,
    rehearsed: Callable[[Artifact], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone it is its own coordinator: none is left that would serve the other model."""
    monkeypatch.setattr("seatrial.serve.serving_processes._kill", os.close)  # it is the test
    rehearsed(other)
    failed: list[str] = []
    led.coordinator.serves_itself(failed.append)
    led.listen(os.getpid())
    led.refuses = {"POST /switch": 0, "POST /abandon": 0}
    why = f"process {os.getpid()} does not switch and is ended: there is no room"
    with pytest.raises(ServiceFailed, match=f"the service ends: {why}"):
        led.coordinator.reload(str(other.path))
    with_canary(led)
    with pytest.raises(ServiceFailed, match=f"the service ends: {why}"):
        led.coordinator.abandon()
    assert failed == [why, why]
    assert "POST /fail" not in [command for _, command in led.asked]


def test_a_full_disk_swaps_nothing_and_leaves_nothing(
    led: LedProcesses,
    other: Artifact,
    rehearsed: Callable[[Artifact], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsed(other)
    led.listen(os.getpid())
    monkeypatch.setattr("seatrial.serve.served_state.write_atomically", full)
    with pytest.raises(NotWritable, match="No space left"):
        led.coordinator.reload(str(other.path))
    assert [command for _, command in led.asked][:2] == ["POST /prepare", "POST /drop"]
    assert "POST /switch" not in [command for _, command in led.asked]
    assert led.placed == []


def test_a_full_disk_is_named_before_anything_is_tried(
    led: LedProcesses, other: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(NotWritable, match="No space left"):
        led.coordinator.reload(str(other.path))


def full(*given: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_one_change_at_a_time_and_the_other_is_counted_and_said(
    led: LedProcesses, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies: list[Any] = []
    ControlServer(
        led.sockets / f"worker-{os.getpid()}.sock",
        lambda command, body: bodies.append((command, body)),
    )
    with (
        led.coordinator._changes.alone(),
        pytest.raises(NotSwapped, match="another change is under way"),
    ):
        led.coordinator.reload("other")
    assert bodies == [("POST /count", {"result": "refused"})]
    assert "error: the model is not swapped: another change" in capsys.readouterr().err


@pytest.mark.parametrize("newest", ["abandon", "abandon_change", "reload"])
def test_the_newest_change_ends_the_trial_of_another(
    led: LedProcesses, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, newest: str
) -> None:
    """A trial that hangs would hold up all changes until it is given up."""
    monkeypatch.setattr(rehearsing, "COMMAND_LINE", HANGS)
    begun = tmp_path / "begun"
    monkeypatch.setenv("BEGUN", str(begun))
    coordinator = led.coordinator
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
    led: LedProcesses,
    tiny_artifact: Artifact,
    rehearsed: Callable[[Artifact], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A reload of it changes nothing, and is no failure."""
    rehearsed(tiny_artifact)
    led.listen(os.getpid())
    assert led.coordinator.reload("tiny")["result"] == "unchanged"
    assert "POST /count" not in [command for _, command in led.asked]
    with pytest.raises(NotSwapped, match="is what is served already") as refused:
        led.coordinator.start_canary("tiny", 0.5, shadow=False)
    assert type(refused.value) is NotSwapped
    assert [command for _, command in led.asked] == ["POST /count"]
    assert "error: the canary is not started: tiny is what is served" in capsys.readouterr().err


def test_without_a_process_that_is_ready_nothing_is_swapped(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None]
) -> None:
    rehearsed(other)
    (led.sockets / "worker-999999999.sock").touch()  # of one that has ended
    with pytest.raises(NotSwapped, match="no server process is ready"):
        led.coordinator.reload(str(other.path))
