"""A detector from an artifact and a deployment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Batching, CoreLayout, Deployment
from seatrial.detect import opening
from seatrial.detect.detector import Detector
from seatrial.detect.families.yolo import Yolo
from seatrial.detect.opening import best_batch, layout, open_detector
from seatrial.engines.base import EngineConfig
from seatrial.errors import InvalidConfig
from seatrial.models.import_onnx import import_onnx


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


@pytest.mark.parametrize(
    ("image_s", "best"),
    [
        ({1: 0.07, 2: 0.071, 4: 0.072, 8: 0.074}, 1),
        ({1: 0.07, 2: 0.066, 4: 0.065, 8: 0.068}, 1),  # not worth the wait
        ({1: 0.010, 2: 0.006, 4: 0.0045, 8: 0.0046}, 4),
    ],
)
def test_the_batch_that_is_chosen_is_worth_its_wait(image_s: dict[int, float], best: int) -> None:
    assert best_batch(image_s) == best


@pytest.mark.parametrize(("gain", "size"), [(1.0, 1), (2.0, 8)])
def test_auto_takes_what_was_measured(
    store: Store, model_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
    gain: float, size: int,
) -> None:  # fmt: skip
    artifact = import_onnx(store, model_file(batch="batch"))
    monkeypatch.setattr(Detector, "image_s", lambda self, size: 0.01 / gain if size > 1 else 0.01)
    monkeypatch.setattr(opening, "best_batch", lambda image_s: 8 if image_s[8] < 0.01 else 1)
    deployment = Deployment("tiny", engine="onnxruntime", batching=Batching("auto", 3.0))
    with open_detector(artifact, deployment) as detector:
        assert detector.lanes.max_batch == size


def test_auto_leaves_a_graph_for_one_image_as_it_is(tiny_artifact: Artifact) -> None:
    deployment = Deployment("tiny", engine="onnxruntime", batching=Batching("auto"))
    with open_detector(tiny_artifact, deployment) as detector:
        assert detector.lanes.max_batch == 1
    with pytest.raises(InvalidConfig, match="takes one image at a time") as refusal:
        open_detector(tiny_artifact, Deployment("tiny", batching=Batching(2)))
    assert "--dynamic-batch" in refusal.value.hint


def test_outputs_that_do_not_keep_the_images_apart_are_refused(
    store: Store, model_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = import_onnx(store, model_file(batch="batch"))
    deployment = Deployment("tiny", engine="onnxruntime", batching=Batching(2))
    monkeypatch.setattr(Yolo, "one_by_one", lambda self: True)
    with pytest.raises(InvalidConfig, match="does not keep the images of a batch apart"):
        open_detector(artifact, deployment)
