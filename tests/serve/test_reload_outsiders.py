"""Changes go on, however often others ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from led_processes import LedProcesses
from seatrial.artifact import Artifact
from seatrial.errors import NotSwapped
from seatrial.serve.control import MOST
from seatrial.serve.serving_processes import FEW

pytestmark = pytest.mark.usefixtures("time_limit")


def test_however_often_outsiders_ask_a_process_has_a_place_for_a_change(
    led: LedProcesses, other: Artifact, rehearsed: Callable[[Artifact], None], child: int
) -> None:
    """More ask here than it takes connections, and it answers none of them for now."""
    rehearsed(other)
    go_on, waits = threading.Event(), list[bool]()
    led.meanwhile = {"GET /status": lambda: waits.append(go_on.wait(60))}
    led.listen(child)
    with ThreadPoolExecutor(MOST + 8) as pool:
        told = [pool.submit(led.coordinator.status) for _ in range(MOST + 8)]
        while len(led.asked) < FEW:
            time.sleep(0.001)
        assert led.coordinator.reload(str(other.path))["result"] == "swapped"
        assert [command for _, command in led.asked].count("GET /status") == FEW
        go_on.set()
        assert {len(one.result(60)["processes"]) for one in told} == {1}


def test_changes_go_on_while_outsiders_ask_without_a_pause(
    led: LedProcesses, other: Artifact, tiny_artifact: Artifact,
    rehearsed: Callable[[Artifact], None], capsys: pytest.CaptureFixture[str], child: int,
) -> None:  # fmt: skip
    coordinator, over = led.coordinator, threading.Event()
    led.listen(child)
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
