"""The pixel mask of a DETR from elsewhere, computed in the graph from the picture's size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from seatrial.artifact import Store
from seatrial.graphs.image_input import add_image_input
from seatrial.models.import_onnx import import_onnx

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.25, 0.25)


def model(mask_hw: tuple[int | str, int | str]) -> onnx.ModelProto:
    """Gives back its two inputs as it gets them."""
    nodes = [
        helper.make_node("Identity", ["pixel_values"], ["logits"]),
        helper.make_node("Identity", ["pixel_mask"], ["pred_boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mirror",
        [
            helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["N", 3, 8, 12]),
            helper.make_tensor_value_info("pixel_mask", TensorProto.INT64, ["N", *mask_hw]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, 8, 12]),
            helper.make_tensor_value_info(
                "pred_boxes", TensorProto.INT64, ["N", "rows", "columns"]
            ),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9)


@pytest.mark.parametrize("mask_hw", [(8, 12), ("h", "w"), (4, 6)])
def test_the_mask_says_where_the_picture_is_and_padding_is_zero(
    mask_hw: tuple[int | str, int | str],
) -> None:
    proto = model(mask_hw)
    add_image_input(
        proto, scale=255.0, size_hw=(8, 12), mean_std=(MEAN, STD), mask_input="pixel_mask"
    )
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    assert [value.name for value in session.get_inputs()] == ["image", "valid_hw"]
    image = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    valid = np.array([[8, 5], [3, 12]], np.int64)
    pixels, mask = session.run(None, {"image": image, "valid_hw": valid})
    wanted = (image / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    for index, (height, width) in enumerate(valid.tolist()):
        inside = np.zeros((8, 12), bool)
        inside[:height, :width] = True
        padded = wanted[index] * inside[..., None]
        np.testing.assert_allclose(pixels[index].transpose(1, 2, 0), padded, atol=1e-6)
        step = 2 if mask_hw == (4, 6) else 1
        np.testing.assert_array_equal(mask[index], inside[::step, ::step])


def test_its_config_is_read_from_beside_it(store: Store, tmp_path: Path) -> None:
    proto = model((8, 12))
    for output, shape in zip(proto.graph.output, ([1, 5, 3], [1, 5, 4]), strict=True):
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))
    del proto.graph.node[:]
    constants = [
        helper.make_node("ConstantOfShape", [f"{name}_shape"], [name])
        for name in ("logits", "pred_boxes")
    ]
    proto.graph.node.extend(constants)
    for name, shape in (("logits", [1, 5, 3]), ("pred_boxes", [1, 5, 4])):
        proto.graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape")
        )
    onnx.save(proto, tmp_path / "model.onnx")
    names = {"0": "cat", "1": "dog"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "detr", "id2label": names}))
    manifest = import_onnx(store, tmp_path / "model.onnx", name="beside").manifest
    assert (manifest.family, manifest.variant, manifest.labels) == ("detr", "detr", ("cat", "dog"))
    assert [spec.name for spec in manifest.inputs] == ["image", "valid_hw"]
    assert manifest.preprocessing.size_hw == (8, 12)
