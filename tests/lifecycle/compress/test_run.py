"""A compression from start to end: what is kept, what is given back, what a kill leaves behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.contract import Deployment, Detection, Layout
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import (
    DeviceUnavailable,
    Diverged,
    InvalidArtifact,
    InvalidConfig,
    InvalidDataset,
    NotWritable,
)
from seatrial.lifecycle.compress import measure
from seatrial.lifecycle.compress.backend import BACKENDS
from seatrial.lifecycle.compress.gate import Gate
from seatrial.lifecycle.compress.job import Options
from seatrial.lifecycle.compress.report import REPORT_FILE, Report, Speed
from seatrial.lifecycle.compress.run import compress_int8
from seatrial.lifecycle.data.labelled import LabelledSet
from seatrial.serve.runtime import open_detector

pytest.importorskip("nncf", reason="NNCF is not installed")

OUTLIER = 3000.0
QUICK = {"openvino": "no-bias-correction", "onnxruntime": "minmax", "tensorrt": "minmax"}


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUND_S", 0.01)


@pytest.fixture
def compress(tmp_path: Path, scene: Path) -> Callable[..., tuple[Artifact, Report]]:
    """Compresses with few pictures and one recipe."""

    def run(artifact: Artifact, to: str = "openvino", **given: Any) -> tuple[Artifact, Report]:
        options = {"to": to, "recipes": (QUICK[to],), "calibration": 6} | {
            key: given.pop(key) for key in Options.__struct_fields__ if key in given
        }
        store = Store(tmp_path / "store")
        given = {"calibration": scene} | given.pop("run", {}) | given
        return compress_int8(store, artifact, Options(**options), **given)  # type: ignore[arg-type]

    return run


def contents(store: Path) -> set[str]:
    return {str(p.relative_to(store)) for p in store.rglob("*")}


@pytest.mark.parametrize("to", BACKENDS)
def test_a_harmless_detector_is_kept_and_says_what_it_is(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
    labelled: LabelledSet,
    to: str,
) -> None:
    parent = small()
    made, report = compress(parent, to, labelled=labelled)
    manifest = made.manifest
    assert manifest.precision == "int8"
    assert manifest.parent == parent.digest
    assert manifest.formats == {BACKENDS[to] and ("openvino" if to == "openvino" else "onnx"):
                                "model.xml" if to == "openvino" else "model.onnx"}  # fmt: skip
    assert manifest.name == f"small-int8-{to}"
    assert manifest.labels == parent.manifest.labels
    assert report.verdict.outcome == "holds"
    assert report.restored == ()
    assert report.quantised == report.convolutions == 6
    config = manifest.step.config
    assert config["recipe"] == QUICK[to]
    assert config["calibration"]["seed"] == 0
    assert config["calibration"]["pictures"] == 6
    assert "output0/Concat" in config["float_head"] or "output0" in config["float_head"]
    assert (
        {"nncf", "openvino"} if to == "openvino" else {"onnxruntime"} <= {*manifest.step.versions}
    )
    assert manifest.metrics["coco_ap"] == report.finding.child > 0.9
    assert manifest.metrics["ap_drop_low"] <= manifest.metrics["ap_drop"]
    assert ("speed_ratio" in manifest.metrics) == (to != "tensorrt")
    stored = msgspec.json.decode((made.path / REPORT_FILE).read_bytes(), type=Report)
    assert stored == report


@pytest.mark.parametrize("to", ["openvino", "onnxruntime"])
def test_the_artifact_is_served_and_the_engine_says_int8(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
    photo: bytes,
    box_of: Callable[..., list[float]],
    to: str,
) -> None:
    made, _ = compress(small(), to)
    deployment = Deployment(str(made.path), engine=to, layout=Layout(1, 1, 1, wide=False))
    with open_detector(made, deployment) as detector:
        found = detector.detect(photo, Detection()).detections
        assert detector.engine.precision == "int8"
    assert found.xyxy[0].tolist() == pytest.approx(box_of(2, 3), abs=1)
    with pytest.raises(DeviceUnavailable) if to == "onnxruntime" else _nothing():
        open_engine(made, to, EngineConfig(precision="bf16")).close()


def _nothing() -> Any:
    import contextlib

    return contextlib.suppress(DeviceUnavailable)  # a CPU without bf16


@pytest.mark.parametrize("to", ["openvino", "onnxruntime"])
def test_the_layer_that_costs_accuracy_is_given_back_first_and_alone(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
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


def test_a_gate_that_cannot_be_met_leaves_the_store_as_it_was(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
    labelled: LabelledSet,
    tmp_path: Path,
) -> None:
    parent = small(outlier=OUTLIER)
    before = contents(tmp_path / "store")
    with pytest.raises(Diverged, match="gate fails") as refusal:
        compress(parent, labelled=labelled, most_restored=0)
    assert isinstance(refusal.value.report, Report)
    assert refusal.value.report.verdict.outcome == "fails"
    assert refusal.value.exit_code == 3
    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("to", BACKENDS)
def test_without_labels_agreement_with_the_parent_decides(
    small: Callable[..., Artifact], compress: Callable[..., tuple[Artifact, Report]], to: str
) -> None:
    _, report = compress(small(), to)
    assert report.finding.metric == "agreement"
    assert report.finding.images == 10  # those of the 16 that calibration left over
    assert report.finding.child > 0.9
    assert any("without labels" in note for note in report.notes)


def test_a_detector_that_sees_other_things_fails_without_labels_too(
    small: Callable[..., Artifact], compress: Callable[..., tuple[Artifact, Report]]
) -> None:
    with pytest.raises(Diverged):
        compress(small(outlier=OUTLIER), most_restored=0)


class Killed(BaseException):
    """What SIGKILL does, as far as the files go."""


@pytest.mark.parametrize(
    "moment", ["quantising", "detecting with no", "measuring what", "restoring", "comparing"]
)
def test_a_killed_run_goes_on_and_ends_the_same(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
    labelled: LabelledSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    # Speed differs from run to run; all else must not.
    monkeypatch.setattr(measure, "by_turns", lambda *_: Speed(1.0, 2.0, 2.0, 1, 1))
    told: list[str] = []
    parent = small(outlier=OUTLIER)

    def watch(what: str, done: int, total: int) -> None:
        told.append(what)
        if what.startswith(moment) and killing:
            raise Killed

    if moment == "comparing":  # speed is not measured here
        monkeypatch.setattr(measure, "by_turns", lambda *rest: rest[-1]("comparing", 1, 1) or
                            Speed(1.0, 2.0, 2.0, 1, 1))  # fmt: skip
    killing = True
    with pytest.raises(Killed):
        compress(parent, labelled=labelled, on_progress=watch)
    assert [*(tmp_path / "store").glob("small-int8*")] == []
    killing = False
    first = len(told)
    made, report = compress(parent, labelled=labelled, on_progress=watch)
    resumed = [what for what in told[first:] if not what.startswith("checking")]
    if moment != "quantising":
        assert not any(what.startswith("quantising") for what in resumed)
    shutil.rmtree(made.path)
    again, whole = compress(parent, labelled=labelled, on_progress=watch)
    assert whole == report
    assert again.manifest == made.manifest
    assert again.digest == made.digest
    assert whole == report
    assert not [*(tmp_path / "store").glob(".*")]


def test_a_broken_picture_stops_it_and_is_named(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
    scene: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(scene, tmp_path / "broken")
    (tmp_path / "broken" / "03.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    parent = small()
    before = contents(tmp_path / "store")
    with pytest.raises(InvalidDataset, match=r"03\.jpg"):
        compress(parent, run={"calibration": tmp_path / "broken"}, calibration=16)
    assert contents(tmp_path / "store") == before


def test_a_full_disk_is_one_error(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = small()
    before = contents(tmp_path / "store")
    from seatrial.lifecycle.compress import workspace

    def full(path: Path, arrays: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(workspace, "_save", full)
    with pytest.raises(NotWritable, match="No space left"):
        compress(parent)
    assert contents(tmp_path / "store") == before


def test_only_float32_is_quantised(
    model_file: Callable[..., Path], compress: Callable[..., tuple[Artifact, Report]],
    tmp_path: Path,
) -> None:  # fmt: skip
    from seatrial.lifecycle.acquire import import_onnx

    half = import_onnx(Store(tmp_path / "store"), model_file(half=True))
    with pytest.raises(InvalidArtifact, match="f16"):
        compress(half)


def test_unknown_recipes_and_targets_are_named(
    small: Callable[..., Artifact], compress: Callable[..., tuple[Artifact, Report]]
) -> None:
    with pytest.raises(InvalidConfig, match="kl"):
        compress(small(), recipes=("kl",))
    with pytest.raises(InvalidConfig, match="npu"):
        compress_int8(Store(Path()), small("other"), Options(to="npu"), calibration=Path())


def test_two_recipes_are_compared_and_the_report_says_that_this_flatters(
    small: Callable[..., Artifact],
    compress: Callable[..., tuple[Artifact, Report]],
    labelled: LabelledSet,
) -> None:
    _, report = compress(small(), "onnxruntime", recipes=("minmax", "percentile"),
                         labelled=labelled, gate=Gate(0.05))  # fmt: skip
    assert [one.recipe for one in report.candidates] == ["minmax", "percentile"]
    assert report.recipe in ("minmax", "percentile")
    assert any("flattered" in note for note in report.notes)
