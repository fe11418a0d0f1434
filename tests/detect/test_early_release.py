"""When a lane is given back before its outputs are read."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from tests.support.lane_requests import ready

from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector, Ticket
from seatrial.detect.early_release import EarlyRelease
from seatrial.engines.base import EngineConfig
from seatrial.engines.lanes import LONGEST
from seatrial.engines.registry import open_engine

PATIENCE_S = 20.0
PLAIN, LOW = Thresholds(), Thresholds(confidence=0.001, multi_label=True)


def test_a_copy_pays_where_it_gains_more_than_it_costs() -> None:
    early = EarlyRelease()
    early.copied(0.4e-3)
    early.read(PLAIN, 0.6e-3)
    early.read(LOW, 2.6e-3)
    assert not early.pays(PLAIN)
    assert early.pays(LOW)


def test_each_class_of_confidences_is_learnt_apart() -> None:
    early = EarlyRelease()
    early.copied(0.4e-3)
    early.read(Thresholds(confidence=0.25), 0.6e-3)
    early.read(Thresholds(confidence=0.001), 2.6e-3)
    assert not early.pays(Thresholds(confidence=0.3))
    assert early.pays(Thresholds(confidence=0.0011))
    for number in range(1, 2000):  # clients choose them: there are few classes all the same
        early.read(Thresholds(confidence=number / 2000), 1e-3)
    assert len(early._read_s) < 20


def test_what_nobody_has_read_yet_is_copied() -> None:
    early = EarlyRelease()
    early.copied(1.0)
    assert early.pays(Thresholds(confidence=0.0))


def test_what_is_learnt_changes_and_a_stall_is_no_measure() -> None:
    early = EarlyRelease()
    early.copied(1e-3)
    early.read(PLAIN, 1e-3)
    early.read(PLAIN, 3600.0)
    assert early._read_s[early_kind(early)] == pytest.approx(1e-3 + 0.1 * (LONGEST - 1) * 1e-3)
    for _ in range(50):
        early.read(PLAIN, 5e-3)
    assert early.pays(PLAIN)


def early_kind(early: EarlyRelease) -> tuple[bool, int]:
    (kind,) = early._read_s
    return kind


def test_thresholds_of_clients_make_few_kinds() -> None:
    early = EarlyRelease()
    for confidence in np.random.default_rng(0).random(500) ** 30:
        early.read(Thresholds(confidence=float(confidence)), 1e-3)
    assert len(early._read_s) <= 20


@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "null"])
@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("company", [True, False])
def test_a_lane_is_free_while_its_outputs_are_read_where_that_pays(
    tiny_artifact: Artifact,
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    pays: bool,
    company: bool,
) -> None:
    """Somebody waits for it, and a copy pays; or the outputs are the caller's without one."""
    with Detector(tiny_artifact, open_engine(tiny_artifact, name, EngineConfig())) as detector:
        expected = detector.detect(photo, Thresholds()).detections
        (lane,) = detector.engine.narrow
        monkeypatch.setattr(detector._early, "pays", lambda options: pays)
        free: list[bool] = []
        read, infer = detector._family.detections, detector._infer
        place = ready(detector.lanes)
        waiting = threading.Thread(target=lambda: got.append(detector.lanes.acquire(place)))
        got: list[Any] = []

        def inferred(lane: Any, feeds: Any) -> Any:
            if company:
                waiting.start()
                while not detector.lanes.waiting:
                    time.sleep(0.001)
            return infer(lane, feeds)

        def noted(*args: Any) -> Any:
            free.append(id(lane) not in detector.lanes._held or bool(got) or company_has_it())
            return read(*args)

        def company_has_it() -> bool:
            held = detector.lanes._held[id(lane)]
            return held.places == [place]

        monkeypatch.setattr(detector._runs, "_infer", inferred)
        monkeypatch.setattr(detector._family, "detections", noted)
        with Ticket(detector.lanes) as ticket:
            ticket.ready()
            found = detector.detect(photo, Thresholds(), ticket=ticket).detections
        assert free == [not lane.lends or (pays and company)]
        np.testing.assert_array_equal(found.xyxy, expected.xyxy)
        np.testing.assert_array_equal(found.score, expected.score)
        if company:
            waiting.join(PATIENCE_S)
            assert got == [lane]


def test_outputs_that_are_no_detections_count_against_the_lane_that_was_given_back(
    tiny_artifact: Artifact, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(tiny_artifact, "onnxruntime", EngineConfig())
    with Detector(tiny_artifact, engine) as detector:
        suspects: list[Any] = []
        detector.lanes.on_suspect = suspects.append

        def broken(*args: Any) -> Any:
            raise ValueError("no detections")

        monkeypatch.setattr(detector._family, "detections", broken)
        for _ in range(4):  # the fourth finds that three have failed
            with pytest.raises(ValueError, match="no detections"):
                detector.detect(photo, Thresholds())
        assert [held.lane for held in suspects] == [*engine.narrow]
