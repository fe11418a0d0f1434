"""A compression from start to end: what is kept, what is given back, what a kill leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.accuracy.limits import LossLimits
from seatrial.artifact import Artifact, Store
from seatrial.datasets.labels import LabelledSet
from seatrial.deployment import CoreLayout, Deployment, Thresholds
from seatrial.detect.opening import open_detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import (
    DeviceUnavailable,
    Diverged,
    InvalidConfig,
    InvalidInput,
)
from seatrial.quantise import measure
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.registry import BACKENDS
from seatrial.quantise.report import REPORT_FILE, QuantiseReport, Speed
from seatrial.quantise.run import compress_int8
from small_detector import OUTLIER, QUICK

pytestmark = pytest.mark.slow

pytest.importorskip("nncf", reason="NNCF is not installed")


@pytest.mark.parametrize("to", BACKENDS)
def test_a_harmless_detector_is_kept_and_says_what_it_is(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, QuantiseReport]],
    labelled: LabelledSet,
    to: str,
) -> None:
    parent = small()
    made, report = compress(parent, to, labelled=labelled)
    manifest = made.manifest
    assert manifest.precision == "int8"
    assert manifest.parent == parent.digest
    graph = {"openvino": "model.xml"} if to == "openvino" else {"onnx": "model.onnx"}
    assert manifest.formats == graph
    assert manifest.name == f"small-int8-{to}"
    assert manifest.labels == parent.manifest.labels
    assert report.verdict.outcome == "holds"
    assert report.restored == ()
    assert report.quantised == report.convolutions == 6
    config = manifest.step.config
    assert config["recipe"] == QUICK[to]
    assert config["calibration"]["seed"] == 0
    assert config["calibration"]["pictures"] == 6
    # The head: from the boxes' and scores' logits on, all is float.
    end = "output0" if to == "openvino" else "output0/Concat"
    assert {"dfl_softmax/Softmax", end} <= {*config["float_head"]}
    packages = {"nncf", "openvino"} if to == "openvino" else {"onnxruntime", "onnx"}
    assert packages <= {*manifest.step.versions}
    assert manifest.metrics["coco_ap"] == report.finding.child > 0.9
    assert manifest.metrics["ap_drop_low"] <= manifest.metrics["ap_drop"]
    assert ("speed_ratio" in manifest.metrics) == (to != "tensorrt")
    stored = msgspec.json.decode((made.path / REPORT_FILE).read_bytes(), type=QuantiseReport)
    assert stored == report


@pytest.mark.parametrize("to", ["openvino", "onnxruntime"])
def test_the_artifact_is_served_and_the_engine_says_int8(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, QuantiseReport]],
    photo: bytes,
    box_of: Callable[..., list[float]],
    to: str,
) -> None:
    made, _ = compress(small(), to)
    deployment = Deployment(str(made.path), engine=to, layout=CoreLayout(1, 1, 1, wide=False))
    with open_detector(made, deployment) as detector:
        found = detector.detect(photo, Thresholds()).detections
        assert detector.engine.precision == "int8"
    assert found.xyxy[0].tolist() == pytest.approx(box_of(2, 3), abs=1)
    if to == "onnxruntime":
        with pytest.raises(DeviceUnavailable):
            open_engine(made, to, EngineConfig(precision="bf16"))


@pytest.mark.parametrize("to", ["openvino", "onnxruntime"])
def test_the_layer_that_costs_accuracy_is_given_back_first_and_alone(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, QuantiseReport]],
    labelled: LabelledSet,
    to: str,
) -> None:
    made, report = compress(small(outlier=OUTLIER), to, labelled=labelled)
    assert report.candidates[0].finding.drop > 0.2  # the outlier's range leaves no step for colours
    assert report.verdict.outcome == "holds"
    assert len(report.restored) < report.convolutions
    spoilt = ("block1.up", "block1.down")
    assert report.restored[0].layer.startswith(spoilt)
    drops = [report.candidates[0].finding.drop, *(r.finding.drop for r in report.restored)]
    assert drops[-1] <= 0.005 < drops[0]
    assert all(step.speed.ratio > 0 for step in report.restored)
    assert report.quantised == report.convolutions - len(report.restored)
    assert made.manifest.step.config["float_layers"] == [r.layer for r in report.restored]


@pytest.mark.parametrize("to", BACKENDS)
def test_without_labels_agreement_with_the_parent_decides(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, QuantiseReport]],
    to: str,
) -> None:
    _, report = compress(small(), to)
    assert report.finding.metric == "agreement"
    assert report.finding.images == 10  # those of the 16 that calibration left over
    assert report.finding.child > 0.9
    assert any("without labels" in note for note in report.notes)


def test_a_detector_that_sees_other_things_fails_without_labels_too(
    small: Callable[..., Artifact], compress: Callable[..., tuple[Artifact, QuantiseReport]]
) -> None:
    with pytest.raises(Diverged):
        compress(small(outlier=OUTLIER), most_restored=0)


class Killed(BaseException):
    """What SIGKILL does, as far as the files go."""


def test_a_run_that_is_killed_at_every_step_ends_as_one_that_is_not(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, QuantiseReport]],
    labelled: LabelledSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def by_turns(*rest: Any) -> Speed:
        rest[-1]("comparing speed", 1, 1)
        return Speed(1.0, 2.0, 2.0, 1, 1)  # differs from run to run; all else must not

    monkeypatch.setattr(measure, "by_turns", by_turns)
    parent = small(outlier=OUTLIER)
    told: list[str] = []

    def kill_at(moment: str) -> Callable[..., None]:
        def watch(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
            told.append(what)
            if what.startswith(moment):
                raise Killed

        return watch

    steps = ("quantising", "detecting with the parent", "detecting with no", "measuring what",
             "restoring", "detecting with restored", "comparing")  # fmt: skip
    for before, moment in zip(("checking", *steps), steps, strict=False):
        told.clear()
        with pytest.raises(Killed):
            compress(parent, labelled=labelled, on_progress=kill_at(moment))
        # It came as far as that, and did not do again what was done before.
        assert told[-1].startswith(moment)
        if before in ("detecting with the parent", "detecting with no"):
            assert not any(what.startswith("quantising") for what in told)
        assert Store(tmp_path / "store").names() == ["small"]
    made, report = compress(parent, labelled=labelled)
    shutil.rmtree(made.path)
    again, whole = compress(parent, labelled=labelled)
    assert whole == report
    assert again.manifest == made.manifest
    assert again.digest == made.digest
    assert not [*(tmp_path / "store").glob(".*")]


def test_unknown_recipes_and_targets_are_named(
    small: Callable[..., Artifact], compress: Callable[..., tuple[Artifact, QuantiseReport]]
) -> None:
    with pytest.raises(InvalidConfig, match="kl"):
        compress(small(), recipes=("kl",))
    with pytest.raises(InvalidConfig, match="npu"):
        compress_int8(Store(Path()), small("other"), QuantiseOptions(to="npu"), calibration=Path())


def test_an_empty_name_is_refused(small: Callable[..., Artifact]) -> None:
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        compress_int8(Store(Path()), small(), QuantiseOptions(), calibration=Path(), name="")


def test_two_recipes_are_compared_and_the_report_says_that_this_biases(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, QuantiseReport]],
    labelled: LabelledSet,
) -> None:
    _, report = compress(small(), "onnxruntime", recipes=("minmax", "percentile"),
                         labelled=labelled, gate=LossLimits(0.05))  # fmt: skip
    assert [one.recipe for one in report.candidates] == ["minmax", "percentile"]
    assert report.recipe in ("minmax", "percentile")
    assert any("biased low" in note for note in report.notes)
