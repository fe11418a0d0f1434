"""The prologue that lets an ONNX graph take images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from seatrial.graphs.image_input import add_image_input
from seatrial.graphs.onnx_file import signature

PICTURE = np.random.default_rng(4).integers(0, 256, (1, 64, 64, 3), np.uint8)


def run(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "variant",
    [{}, {"layout": "end_to_end"}, {"input_name": "image"}, {"output_name": "image"}],
    ids=str,
)
def test_the_prologue_does_what_the_caller_had_to(
    tiny_model: Callable[..., Any], variant: dict[str, Any], half: bool
) -> None:
    plain, prepared = tiny_model(half=half, **variant), tiny_model(half=half, **variant)
    dtype = np.float16 if half else np.float32
    blob = (PICTURE.transpose(0, 3, 1, 2).astype(dtype) / dtype(255)).astype(dtype)
    (before,) = run(plain, {plain.graph.input[0].name: blob})

    add_image_input(prepared, scale=255.0, size_hw=(64, 64))

    onnx.checker.check_model(prepared, full_check=True)
    (image,) = signature(prepared).inputs
    assert (image.dtype, image.shape) == ("uint8", (1, 64, 64, 3))
    (after,) = run(prepared, {image.name: PICTURE})
    assert after.dtype == np.float32
    # Fused in one case, with roundings to half precision in between in the other.
    np.testing.assert_allclose(after, before.astype(np.float32), rtol=0, atol=2e-4 * half)
    assert [v.name for v in prepared.graph.output] == [v.name for v in plain.graph.output]
    assert signature(prepared).metadata == signature(plain).metadata


def test_bytes_are_cast_first_and_channels_stay_last_until_the_end(
    tiny_model: Callable[..., Any],
) -> None:
    model = tiny_model()
    add_image_input(model, scale=255.0, size_hw=(64, 64), mean_std=((0.5,) * 3, (0.25,) * 3))
    operators = [node.op_type for node in model.graph.node]
    assert operators[:6] == ["Cast", "Div", "Sub", "Div", "Transpose", "Conv"]


def test_the_division_is_not_folded_into_weights_that_bf16_rounds(
    tiny_model: Callable[..., Any],
) -> None:
    import openvino as ov

    core = ov.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16 arithmetic")
    plain, prepared = tiny_model(), tiny_model()
    weights = next(t for t in plain.graph.initializer if t.name == "weights")
    # Of many bits: the tiny detector's own are powers of two, which no factor makes rounder.
    noise = np.random.default_rng(0).normal(size=tuple(weights.dims)).astype(np.float32)
    for model in (plain, prepared):
        weights = next(t for t in model.graph.initializer if t.name == "weights")
        weights.CopyFrom(onnx.numpy_helper.from_array(noise * 0.01, "weights"))
    add_image_input(prepared, scale=255.0, size_hw=(64, 64))
    blob = PICTURE.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    before, after = (
        core.compile_model(
            core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"}
        )(picture)[0]
        for model, picture in ((plain, [blob]), (prepared, [PICTURE]))
    )
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(("batch", "read"), [(1, 1), (4, 4), ("batch", -1), ("N", -1)])
def test_the_batch_stays_as_it_is_and_the_size_is_fixed(
    tiny_model: Callable[..., Any], batch: int | str, read: int
) -> None:
    model = tiny_model(batch=batch, dynamic_size=True)
    add_image_input(model, scale=255.0, size_hw=(64, 64))
    assert signature(model).inputs[0].shape == (read, 64, 64, 3)
    pictures = np.concatenate([PICTURE] * (batch if isinstance(batch, int) else 3))
    (output,) = run(model, {"image": pictures})
    assert output.shape[0] == len(pictures)
    np.testing.assert_array_equal(output[0], output[-1])
