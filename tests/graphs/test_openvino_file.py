"""OpenVINO IR files: refused where damaged, described, cut to the outputs that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

import exported_heads as heads
from seatrial.errors import InvalidArtifact
from seatrial.graphs import openvino_file

ov = pytest.importorskip("openvino", reason="seatrial[openvino] is not installed")
SIZE_HW = (96, 128)


@pytest.fixture
def ir(tmp_path: Path) -> Path:
    source = heads.rf_detr(tmp_path / "rf.onnx", size_hw=SIZE_HW, classes=3)
    ov.save_model(ov.Core().read_model(source), tmp_path / "rf.xml", compress_to_fp16=True)
    return tmp_path / "rf.xml"


def test_signature_and_precision(ir: Path) -> None:
    model = openvino_file.load(ir)
    found = openvino_file.signature(model, {"task": "detect"})
    assert [(s.name, s.dtype, s.shape) for s in found.inputs] == [
        ("images", "float32", (1, 3, 96, 128))
    ]
    assert {s.name: s.shape for s in found.outputs} == {
        "dets": (1, 48, 4), "labels": (1, 48, 3),
    }  # fmt: skip
    assert found.metadata == {"task": "detect"}
    assert found.operators["Sigmoid"] == 1
    assert openvino_file.weights_precision(model) == "f16"


def test_outputs_that_are_kept_get_their_new_names(ir: Path) -> None:
    model = openvino_file.load(ir)
    openvino_file.keep_outputs(model, {"labels": "logits"})
    assert [s.name for s in openvino_file.signature(model, {}).outputs] == ["logits"]


def test_a_file_without_its_weights_or_cut_off(ir: Path) -> None:
    whole = ir.read_bytes()
    ir.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidArtifact, match="not a readable OpenVINO IR"):
        openvino_file.load(ir)
    ir.write_bytes(whole)
    ir.with_suffix(".bin").unlink()
    with pytest.raises(InvalidArtifact, match=r"rf\.bin does not exist") as refusal:
        openvino_file.load(ir)
    assert ".xml and .bin" in refusal.value.hint
