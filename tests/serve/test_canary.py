"""A second service of a process: its share, its end, its copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Thresholds
from seatrial.engines.places import Place
from seatrial.serve import canary as module
from seatrial.serve.canary import PATIENCE_S, SHADOW_PIXELS, Canary
from seatrial.serve.startup import open_service
from served_application import Running

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def second(running: Running, tiny_artifact: Artifact) -> Callable[..., Canary]:
    """Makes a canary beside the running service."""

    def made(share: float, *, shadow: bool = False) -> Canary:
        layout = CoreLayout(1, 1, 1, wide=False)
        deployment = Deployment("tiny", engine="onnxruntime", layout=layout)
        service = open_service(tiny_artifact, deployment, beside=running.service)
        return Canary(service, share, shadow=shadow, metrics=running.service.metrics)

    return made


def test_its_share_until_it_fails(second: Callable[..., Canary]) -> None:
    canary = second(0.25)
    chosen = sum(canary.chosen() for _ in range(2000))
    assert chosen == pytest.approx(500, abs=5 * (0.25 * 0.75 * 2000) ** 0.5)
    assert canary.service.variant == "canary"
    canary.service.watchdog.on_hopeless("no lane works")
    assert not any(canary.chosen() for _ in range(100))
    assert canary.told()["failure"] == "no lane works"
    canary.end()
    canary.service.close()


def test_none_is_chosen_while_it_has_no_lane(second: Callable[..., Canary]) -> None:
    canary = second(1.0)
    assert canary.chosen()
    lanes = canary.service.dispatcher.detector.lanes
    with Place(lanes) as place:
        place.ready()
        assert lanes.acquire(place) is not None
        assert len(lanes.overdue(2.0, 1.0)) == 1
    assert not canary.chosen()
    canary.end()
    canary.service.close()


def test_a_shadow_gets_its_share_and_no_large_image(
    second: Callable[..., Canary], running: Running, photo: bytes
) -> None:
    shadow = second(0.25, shadow=True)  # which follows nobody: a copy stays where it is
    found = running.detector.detect(photo, Thresholds())

    def offered(result: Any, times: int) -> int:
        before = shadow.told()["images"]["skipped"]
        for _ in range(times):
            shadow._offer(photo, Thresholds(), result)
        return int(shadow.told()["images"]["skipped"] - before)

    side = int(SHADOW_PIXELS**0.5)
    large = np.broadcast_to(np.uint8(0), (side + 1, side + 1, 3))
    assert offered(dataclasses.replace(found, image=large), 100) > 0
    assert shadow._copies.empty()
    skipped = offered(found, 2000)
    assert not shadow._copies.empty()
    assert skipped + 1 == pytest.approx(500, abs=5 * (0.25 * 0.75 * 2000) ** 0.5)
    shadow.end()
    shadow.service.close()


def test_a_shadow_that_has_failed_takes_no_copy(
    second: Callable[..., Canary], running: Running, photo: bytes
) -> None:
    shadow = second(1.0, shadow=True)  # which follows nobody: a copy stays where it is
    found = running.detector.detect(photo, Thresholds())
    shadow.service.watchdog.on_hopeless("no lane works")
    shadow._offer(photo, Thresholds(), found)
    assert shadow._copies.empty()
    assert shadow.told()["images"] == {"compared": 0, "skipped": 1, "failed": 0}
    shadow.end()
    shadow.service.close()


def test_a_shadow_answers_none_and_compares_copies_while_a_lane_is_idle(
    second: Callable[..., Canary],
    running: Running,
    photo: bytes,
    until: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow = second(1.0, shadow=True)
    shadow.follow(running.service)
    assert not shadow.chosen()
    batch: list[bool] = []
    detect = shadow.service.dispatcher.detector.detect

    def noted(*args: Any, ticket: Any) -> Any:
        batch.append(ticket.batch)
        return detect(*args, ticket=ticket)

    monkeypatch.setattr(shadow.service.dispatcher.detector, "detect", noted)
    found = running.detector.detect(photo, Thresholds())
    running.client.post("/detect", content=photo).raise_for_status()
    until(lambda: shadow.told()["images"]["compared"] == 1)
    assert shadow.told()["boxes"] == {"matched": 1, "lost": 0, "gained": 0}
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    with running.lanes_held():  # no lane is idle: one copy waits, one is being looked after
        for _ in range(4):
            shadow._offer(photo, Thresholds(), found)
        assert shadow.told()["images"]["skipped"] >= 2
        until(lambda: shadow.told()["images"]["skipped"] == 4)
    assert batch == [True]
    shadow.end()
    assert running.service.dispatcher.on_detected is None
    running.client.post("/detect", content=photo).raise_for_status()
    until(lambda: not shadow.service.dispatcher.running)
    shadow.service.close()


def test_a_box_that_the_live_artifact_has_alone_is_lost(
    second: Callable[..., Canary],
    running: Running,
    photo: bytes,
    until: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow = second(1.0, shadow=True)
    nothing = running.detector.detect(photo, Thresholds(confidence=1.0))
    detector = shadow.service.dispatcher.detector
    monkeypatch.setattr(detector, "detect", lambda *args, **options: nothing)
    shadow.follow(running.service)
    running.client.post("/detect", content=photo).raise_for_status()
    until(lambda: shadow.told()["images"]["compared"] == 1)
    assert shadow.told()["boxes"] == {"matched": 0, "lost": 1, "gained": 0}
    shadow.end()
    until(lambda: not shadow.service.dispatcher.running)
    shadow.service.close()


def test_a_shadow_goes_on_after_a_copy_for_which_there_is_no_memory(
    second: Callable[..., Canary],
    running: Running,
    photo: bytes,
    until: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow = second(1.0, shadow=True)
    shadow.follow(running.service)
    detector = shadow.service.dispatcher.detector

    def fails(*args: Any, **options: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(detector, "detect", fails)
        running.client.post("/detect", content=photo).raise_for_status()
        until(lambda: shadow.told()["images"]["failed"] == 1)
    running.client.post("/detect", content=photo).raise_for_status()
    until(lambda: shadow.told()["images"]["compared"] == 1)
    shadow.end()
    until(lambda: not shadow.service.dispatcher.running)
    shadow.service.close()
    running.client.post("/detect", content=photo).raise_for_status()


def test_a_shadow_goes_on_after_a_copy_that_cannot_be_counted(
    second: Callable[..., Canary], running: Running, photo: bytes, until: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    shadow = second(1.0, shadow=True)
    shadow.follow(running.service)

    def fails(*counts: int) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(shadow._metrics, "compared", fails)
        running.client.post("/detect", content=photo).raise_for_status()
        until(lambda: "ZeroDivisionError" in caplog.text)
    running.client.post("/detect", content=photo).raise_for_status()
    until(lambda: shadow.told()["images"]["compared"] == 1)
    shadow.end()
    until(lambda: not shadow.service.dispatcher.running)
    shadow.service.close()


def test_a_copy_never_reaches_a_service_whose_shadow_has_ended(
    second: Callable[..., Canary], running: Running, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed as soon as no request is here: the copy would find a closed engine."""
    shadow = second(1.0, shadow=True)
    reached: list[int] = []
    monkeypatch.setattr(
        shadow.service.dispatcher.detector, "detect", lambda *args, **options: reached.append(1)
    )
    shadow._live = running.service
    found = running.detector.detect(photo, Thresholds()).detections
    shadow._copies.put((photo, Thresholds(), found))

    def ends() -> bool:  # between the wait for a lane and the run
        shadow._copies.put(None)
        shadow._ended = True
        return True

    monkeypatch.setattr(shadow, "_wait_for_idle_lane", ends)
    shadow._compare()
    assert reached == []
    shadow.service.close()


def test_the_reference_names_why_copies_are_skipped() -> None:
    page = Path(__file__).parents[2] / "docs/reference/metrics.md"
    (row,) = [
        line for line in page.read_text().splitlines() if "seatrial_shadow_images_total" in line
    ]
    for words in (
        f"no lane was idle within {PATIENCE_S:g} s",
        "another copy waited already",
        f"more than {SHADOW_PIXELS / 1e6:g} megapixels",
        "the shadow failed or ended",
    ):
        assert words in row
