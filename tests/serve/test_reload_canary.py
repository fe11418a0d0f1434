"""A canary over all processes of a service: its figures, its promotion and its end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from led_processes import LedProcesses, canary, with_canary
from seatrial.artifact import Artifact
from seatrial.errors import InvalidInput, NotSwapped
from seatrial.serve.changes import GIVEN_UP
from seatrial.serve.served_state import SecondState, ServedState

pytestmark = pytest.mark.usefixtures("time_limit")


def test_the_status_of_a_canary_is_that_of_all_processes(led: LedProcesses) -> None:
    assert led.coordinator.status()["canary"] is None
    with_canary(led)
    led.listen(os.getpid(), os.getppid())
    led.told = {0: canary(4, 1), 1: canary(2, 3)}
    told = led.coordinator.status()["canary"]
    assert (told["model"], told["digest"], told["share"]) == ("other", "2" * 64, 0.5)
    assert told["images"] == {"compared": 2}
    assert told["boxes"] == {"matched": 6, "lost": 4, "gained": 0}
    assert told["agreement"] == 2 * 6 / (2 * 6 + 4)
    assert told["failure"] == ""


def test_a_canary_that_failed_in_one_process_is_not_promoted(led: LedProcesses) -> None:
    with_canary(led)
    led.listen(os.getpid(), os.getppid())
    led.told = {0: canary(1, 0), 1: canary(1, 0, "no lane works")}
    with pytest.raises(NotSwapped, match="the canary serves no more: no lane works"):
        led.coordinator.promote()
    assert "POST /promote" not in [command for _, command in led.asked]
    with pytest.raises(NotSwapped, match="there is a canary already"):
        led.coordinator.start_canary("other", 0.5, shadow=False)
    with pytest.raises(NotSwapped, match=r"^there is a canary$"):
        led.coordinator.reload("other")
    assert led.coordinator.abandon()["canary"] is None


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_a_share_is_above_nothing_and_up_to_all(led: LedProcesses, share: float) -> None:
    with pytest.raises(InvalidInput, match="is not above 0 % and up to 100 %"):
        led.coordinator.start_canary("other", share, shadow=False)


def test_a_canary_without_an_answer_is_promoted_by_force_alone(
    led: LedProcesses, capsys: pytest.CaptureFixture[str]
) -> None:
    second = SecondState("/other", "2" * 64, "other", 0.5, shadow=False)
    ServedState("/tiny", "1" * 64, "tiny", "tiny", second).write(led.sockets)
    led.listen(os.getpid(), os.getppid())
    answered = {**canary(0, 0), "requests": {"canary_answered": 0}}
    led.told = {0: answered, 1: answered}
    with pytest.raises(NotSwapped, match="other answered 0 requests as a canary") as caught:
        led.coordinator.promote()
    assert "--force" in caught.value.hint
    assert "POST /promote" not in [command for _, command in led.asked]
    assert led.coordinator._state().second == second
    assert "error: the canary is not promoted: " in capsys.readouterr().err
    led.coordinator.promote(force=True)
    assert "in place of tiny: it answered 0 requests as a canary" in capsys.readouterr().err
    ServedState("/tiny", "1" * 64, "tiny", "tiny", second).write(led.sockets)
    led.told[1] = {**canary(0, 0), "requests": {"canary_answered": 1}}
    led.coordinator.promote()
    assert "in place of tiny: it answered 1 request as a canary" in capsys.readouterr().err


def test_a_shadow_that_compared_nothing_is_not_promoted(led: LedProcesses) -> None:
    with_canary(led)
    led.listen(os.getpid())
    led.told = {0: {**canary(0, 0), "images": {"compared": 0}}}
    with pytest.raises(NotSwapped, match="other compared 0 images as a shadow"):
        led.coordinator.promote()


def test_the_log_says_what_was_refused(
    led: LedProcesses, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotSwapped):
        led.coordinator.promote()
    assert capsys.readouterr().err == "error: the canary is not promoted: there is no canary\n"
    with_canary(led)
    with pytest.raises(NotSwapped):
        led.coordinator.start_canary("other", 0.5, shadow=False)
    assert capsys.readouterr().err == (
        "error: the canary is not started: there is a canary already\n"
    )


def test_abandon_lets_the_canary_go_whatever_else_is_under_way(
    led: LedProcesses, tiny_artifact: Artifact, rehearsed: Callable[[Artifact], None], child: int
) -> None:
    """Such as reloads, each of which is about to be refused as there is a canary."""
    rehearsed(tiny_artifact)
    led.listen(child)
    coordinator, changes = led.coordinator, led.coordinator._changes
    begun, over = threading.Event(), threading.Event()
    with_canary(led, tiny_artifact.digest)

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
        assert (0, "POST /abandon") in led.asked
        other.result(60)
        outsiders = [pool.submit(without_a_pause) for _ in range(4)]
        try:
            for _ in range(10):
                with changes.instead():
                    with_canary(led, tiny_artifact.digest)
                assert coordinator.abandon()["canary"] is None
        finally:
            over.set()
        for one in outsiders:
            one.result(60)
