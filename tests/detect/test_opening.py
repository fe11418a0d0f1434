"""A detector from an artifact and a deployment."""

from __future__ import annotations

import os

import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.detect.detector import Detector
from seatrial.detect.opening import layout, open_detector
from seatrial.engines.base import EngineConfig


def test_layout_counts_the_cores_of_this_process() -> None:
    deployment = Deployment("m", device="cpu", precision="bf16", layout=CoreLayout(instances=2))
    workers, config = layout(deployment, cores=8)
    assert (workers, config.instances, config.threads, config.wide_threads) == (1, 2, 4, 8)
    assert (config.device, config.precision) == ("cpu", "bf16")
    assert layout(Deployment("m")) == layout(Deployment("m"), len(os.sched_getaffinity(0)))


def test_a_detector_is_warm_when_it_is_handed_out(tiny_artifact: Artifact, photo: bytes) -> None:
    deployment = Deployment("tiny", engine="onnxruntime", layout=CoreLayout(1, 1, 1, wide=False))
    with open_detector(tiny_artifact, deployment) as detector:
        rules = deployment.detection.of(tiny_artifact.manifest)
        assert len(detector.detect(photo, rules).detections) == 1


def test_the_configuration_is_the_share_of_a_process_or_the_given_one(
    tiny_artifact: Artifact,
) -> None:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 3, 1, wide=False))
    with open_detector(tiny_artifact, deployment) as detector:
        assert len(detector.engine.narrow) == 3
    with open_detector(tiny_artifact, deployment, EngineConfig(instances=2)) as detector:
        assert len(detector.engine.narrow) == 2


def test_a_detector_that_does_not_warm_up_is_closed(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def refuse(self: Detector) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Detector, "warm_up", refuse)
    monkeypatch.setattr(Detector, "close", lambda self: closed.append(self))
    with pytest.raises(KeyboardInterrupt):
        open_detector(tiny_artifact, Deployment("tiny", engine="null"))
    assert len(closed) == 1
