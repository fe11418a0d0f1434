"""Weights in half precision: the layers' own, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.graphs.float16 import narrow_weights

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((8, 3, 3, 3)).astype(np.float32)
PRIORS = RNG.random((1, 8, 6, 6), np.float32)


def graph(kernel: np.ndarray) -> Any:
    """One layer, whose answer is moved by priors as an SSD's is."""
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["distances"]),
        helper.make_node("Add", ["distances", "priors"], ["boxes"]),
    ]
    constants = [
        numpy_helper.from_array(values, name)
        for name, values in (("kernel", kernel), ("priors", PRIORS))
    ]
    shapes = {"image": [1, 3, 8, 8], "boxes": [1, 8, 6, 6]}
    image, boxes = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    made = helper.make_graph(nodes, "boxes", [image], [boxes], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def test_weights_are_halved_and_priors_are_not() -> None:
    model = narrow_weights(graph(KERNEL))
    onnx.checker.check_model(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds == {"kernel_f16": TensorProto.FLOAT16, "priors": TensorProto.FLOAT}
    picture = RNG.random((1, 3, 8, 8), np.float32)
    (boxes,) = ort.InferenceSession(model.SerializeToString()).run(None, {"image": picture})
    rounded = graph(KERNEL.astype(np.float16).astype(np.float32))
    (expected,) = ort.InferenceSession(rounded.SerializeToString()).run(None, {"image": picture})
    np.testing.assert_array_equal(boxes, expected)


@pytest.mark.parametrize("kernel", [KERNEL * 1e6, KERNEL[:2, :, :1, :1]])
def test_weights_that_half_precision_cannot_hold_and_few_ones_stay(kernel: np.ndarray) -> None:
    before = graph(kernel)
    assert narrow_weights(before) == before
