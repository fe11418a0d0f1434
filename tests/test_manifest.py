"""A manifest as it lies on disk."""

from __future__ import annotations

import json

import msgspec
import pytest

from seatrial.config import decode_json
from seatrial.errors import InvalidConfig
from seatrial.manifest import Manifest

# As version 0.1 wrote it.
PLAIN = {
    "schema": 1,
    "name": "tiny",
    "family": "yolo",
    "variant": "anchors",
    "task": "object-detection",
    "formats": {"onnx": "model.onnx"},
    "precision": "f32",
    "inputs": [{"name": "images", "dtype": "uint8", "shape": [1, 64, 64, 3], "layout": "NHWC"}],
    "outputs": [{"name": "output0", "dtype": "float32", "shape": [1, 7, 64], "layout": ""}],
    "preprocessing": {
        "size_hw": [64, 64],
        "resize": "letterbox",
        "pad_value": 114,
        "half_pixel_centers": True,
        "antialias": False,
        "edges_px": None,
        "align": "center",
        "interpolation": "linear",
    },
    "labels": ["red", "green", "blue"],
    "confidence": 0.25,
    "iou": 0.7,
    "licence": "unknown",
    "source": {"uri": "tiny.onnx", "sha256": "00"},
    "parent": None,
    "step": {"name": "import", "config": {"scale": 255.0}, "versions": {"seatrial": "0.1.0"}},
    "metrics": {"coco_ap": 0.5},
    "files": [{"path": "model.onnx", "sha256": "11", "size_bytes": 3}],
}


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = decode_json(json.dumps(PLAIN).encode(), Manifest, origin="manifest.json")
    assert manifest.source.uri == "tiny.onnx"
    assert manifest.inputs[0].shape == (1, 64, 64, 3)
    assert json.loads(msgspec.json.encode(manifest)) == PLAIN


@pytest.mark.parametrize(
    ("change", "said"),
    [({"schema": 2}, "schema"), ({"task": "segmentation"}, "task"), ({"label": []}, "'label'")],
)
def test_what_another_version_wrote_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        decode_json(json.dumps(PLAIN | change).encode(), Manifest, origin="manifest.json")
