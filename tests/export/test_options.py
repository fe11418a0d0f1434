"""Options of an export: which go together, and what a canvas does to preprocessing."""

from __future__ import annotations

import msgspec
import pytest

from seatrial.artifact import Artifact
from seatrial.errors import InvalidInput
from seatrial.export.options import ExportOptions, check, resized
from seatrial.manifest import Preprocessing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ExportOptions("onnx", "bf16"), "no bf16 for onnx"),
        (ExportOptions("torch", "f16"), "no f16 for torch"),
        (ExportOptions("tensorrt", dynamic_batch=True), "one image at a time"),
        (ExportOptions("onnx", imgsz=(8, 640)), "a canvas of 8 pixels"),
        (ExportOptions("coreml"), "unknown format"),  # type: ignore[arg-type]
    ],
)
def test_options_that_do_not_go_together(options: ExportOptions, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check(options)


def test_a_canvas_of_a_detr_scales_its_edges(tiny_artifact: Artifact) -> None:
    padded = Preprocessing((1333, 1333), "shortest_edge", 0, True, True, (800, 1333))
    manifest = msgspec.structs.replace(tiny_artifact.manifest, family="detr", preprocessing=padded)
    assert resized(manifest, (640, 640)).edges_px == (384, 640)
    assert resized(manifest, (800, 1333)).edges_px == (800, 1333)
    assert resized(manifest, None) == padded
    with pytest.raises(InvalidInput, match="a YOLO canvas of 100 x 100"):
        resized(tiny_artifact.manifest, (100, 100))


@pytest.mark.parametrize(
    ("side", "fits"), [(31, False), (32, True), (4096, True), (4097, False)]
)  # fmt: skip
def test_a_canvas_has_32_to_4096_pixels(side: int, fits: bool) -> None:
    for size_hw in ((side, 640), (640, side)):
        options = ExportOptions("onnx", imgsz=size_hw)
        if fits:
            check(options)
        else:
            with pytest.raises(InvalidInput, match=f"a canvas of {side} pixels"):
                check(options)


@pytest.mark.parametrize(
    ("to", "precision"),
    [("onnx", "f16"), ("openvino", "f16"), ("openvino", "bf16"), ("tensorrt", "f16"),
     ("torch", "bf16"), ("torch", "f32")],
)  # fmt: skip
def test_precisions_that_a_format_has(to: str, precision: str) -> None:
    check(ExportOptions(to, precision))  # type: ignore[arg-type]


def test_the_hint_says_what_to_do_instead() -> None:
    with pytest.raises(InvalidInput) as refusal:
        check(ExportOptions("torch", "f16"))
    assert "serves it with --precision f16" in refusal.value.hint
    with pytest.raises(InvalidInput) as refusal:
        check(ExportOptions("tensorrt", "bf16"))
    assert refusal.value.hint == "use --precision f32, f16"


def test_the_options_go_into_the_manifest_as_plain_values() -> None:
    assert ExportOptions("onnx", "f16", imgsz=(480, 640)).config() == {
        "to": "onnx", "precision": "f16", "dynamic_batch": False, "imgsz": (480, 640),
        "fuse_nms": False,
    }  # fmt: skip


def test_a_yolo_canvas_is_a_multiple_of_the_stride(tiny_artifact: Artifact) -> None:
    found = resized(tiny_artifact.manifest, (96, 128))
    assert found.size_hw == (96, 128)
    assert msgspec.structs.replace(found, size_hw=(64, 64)) == tiny_artifact.manifest.preprocessing
