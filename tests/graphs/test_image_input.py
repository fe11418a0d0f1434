"""Reading ONNX files, and the prologue that takes pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from seatrial.errors import InvalidArtifact
from seatrial.graphs.image_input import add_image_input, load, signature, weights_precision

PICTURE = np.random.default_rng(4).integers(0, 256, (1, 64, 64, 3), np.uint8)


def run(model: Any, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def test_signature_of_inputs_outputs_and_metadata(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model(batch="batch", dynamic_size=True)
    # Older exporters list initialisers among the inputs.
    model.graph.input.append(
        helper.make_tensor_value_info("weights", TensorProto.FLOAT, [3, 3, 8, 8])
    )
    graph = signature(model)
    (image,) = graph.inputs
    assert (image.name, image.dtype, image.shape) == ("images", "float32", (-1, 3, -1, -1))
    (output,) = graph.outputs
    assert (output.dtype, output.shape) == ("float32", (-1, 7, -1))
    assert graph.metadata["names"] == "{0: 'red', 1: 'green', 2: 'blue'}"


def test_types_that_numpy_has_no_name_for_are_still_described() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    value.type.tensor_type.elem_type = 999
    model = helper.make_model(helper.make_graph([], "g", [value], [value]))
    assert signature(model).inputs[0].dtype == "onnx type 999"


@pytest.mark.parametrize("half", [False, True])
def test_precision_is_that_of_most_weights(tiny_model: Callable[..., Any], half: bool) -> None:
    model = tiny_model(half=half)
    assert weights_precision(model) == ("f16" if half else "f32")
    single = onnx.numpy_helper.from_array(np.array([1], np.float32 if half else np.float16), "one")
    model.graph.initializer.append(single)
    assert weights_precision(model) == ("f16" if half else "f32")


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


def test_a_file_that_is_sound(model_file: Callable[..., Path]) -> None:
    assert load(model_file()).graph.name == "tiny"


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_is_cut_off(model_file: Callable[..., Path], keep: float) -> None:
    path = model_file()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InvalidArtifact) as refusal:
        load(path)
    assert str(path) in refusal.value.message


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"hello", b"\x89PNG\r\n\x1a\n" * 9])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidArtifact, match=r"is not a readable ONNX model|holds no graph"):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "gone.onnx", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InvalidArtifact, match=said):
            load(path)


def test_weights_kept_beside_the_file_that_are_missing(
    tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    onnx.save(
        tiny_model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data",
        size_threshold=0,
    )  # fmt: skip
    assert load(tmp_path / "m.onnx").graph.node
    (tmp_path / "m.data").unlink()
    with pytest.raises(InvalidArtifact, match=r"m\.data"):
        load(tmp_path / "m.onnx")


def test_a_graph_that_is_not_valid(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model()
    model.graph.node[0].input[0] = "nobody makes this"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InvalidArtifact, match="nobody makes this"):
        load(tmp_path / "m.onnx")
