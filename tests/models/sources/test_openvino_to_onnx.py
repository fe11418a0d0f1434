from __future__ import annotations

import numpy as np
import pytest

from seatrial.errors import InvalidArtifact
from seatrial.models.sources.openvino_to_onnx import OPSET, convert

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
ov = pytest.importorskip("openvino")
op = pytest.importorskip("openvino.opset13")


def model_of(inputs, **outputs):
    for name, node in outputs.items():
        node.output(0).set_names({name})
    results = [op.result(node) for node in outputs.values()]
    return ov.Model(results, inputs, "under-test")


def parameter(shape, dtype=np.float32, name="x"):
    node = op.parameter(shape, dtype, name=name)
    node.output(0).set_names({name})
    return node


def run_both(model, path, feeds):
    """Outputs of OpenVINO in float32 and of ONNX Runtime on the converted file, by name."""
    convert(model, path, {})
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = {port.any_name: value for port, value in compiled(feeds).items()}
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return expected, dict(zip(names, session.run(names, feeds), strict=True))


def assert_same(model, path, feeds, atol=1e-5):
    expected, got = run_both(model, path, feeds)
    assert set(got) == set(expected)
    for name in expected:
        assert got[name].dtype == expected[name].dtype
        np.testing.assert_allclose(got[name], expected[name], atol=atol, rtol=1e-5)


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.mark.parametrize("auto_pad", ["explicit", "same_upper", "same_lower", "valid"])
@pytest.mark.parametrize("size", [(9, 9), (10, 7)])
def test_convolution(tmp_path, random, auto_pad, size):
    x = parameter([1, 3, *size])
    weights = random.standard_normal((5, 3, 3, 2), np.float32)
    y = op.convolution(x, weights, [2, 1], [0, 2], [1, 0], [1, 2], auto_pad)
    feeds = {"x": random.standard_normal((1, 3, *size), np.float32)}

    assert_same(model_of([x], y=y), tmp_path / "m.onnx", feeds)


@pytest.mark.parametrize("per_group", [1, 2])
def test_group_convolution(tmp_path, random, per_group):
    x = parameter([1, 8, 11, 11])
    weights = random.standard_normal((4, per_group, 2, 3, 3), np.float32)
    y = op.group_convolution(x, weights, [2, 2], [0, 0], [1, 1], [1, 1], "same_upper")
    feeds = {"x": random.standard_normal((1, 8, 11, 11), np.float32)}

    assert_same(model_of([x], y=y), tmp_path / "m.onnx", feeds)


def test_arithmetic_and_activations(tmp_path, random):
    x = parameter([2, 3])
    a = op.add(op.multiply(x, np.float32(3)), np.arange(3, dtype=np.float32))
    y = op.subtract(op.exp(op.clamp(a, -0.5, 0.75)), op.sigmoid(a))
    feeds = {"x": random.standard_normal((2, 3), np.float32)}

    assert_same(model_of([x], y=y), tmp_path / "m.onnx", feeds)


def test_clamps_with_different_bounds_stay_apart(tmp_path, random):
    x = parameter([4, 5])
    y, z = op.clamp(x, 0.0, 1.0), op.clamp(x, 0.0, 0.5)
    feeds = {"x": random.standard_normal((4, 5), np.float32)}

    assert_same(model_of([x], y=y, z=z), tmp_path / "m.onnx", feeds)


def test_uint8_images_in_nhwc(tmp_path, random):
    x = parameter([1, 4, 6, 3], np.uint8)
    y = op.multiply(op.transpose(op.convert(x, "f32"), [0, 3, 1, 2]), np.float32(1 / 255))
    feeds = {"x": random.integers(0, 256, (1, 4, 6, 3), np.uint8)}

    assert_same(model_of([x], y=y), tmp_path / "m.onnx", feeds)


def test_split_and_concat(tmp_path, random):
    x = parameter([1, 6, 4])
    first, second = op.split(x, 1, 2).outputs()
    y = op.concat([second, op.exp(first)], 2)
    feeds = {"x": random.standard_normal((1, 6, 4), np.float32)}

    assert_same(model_of([x], y=y), tmp_path / "m.onnx", feeds)


def test_reshape_with_a_zero_that_copies_the_dimension(tmp_path, random):
    x = parameter([2, 3, 4])
    y = op.reshape(x, np.array([0, -1], np.int64), special_zero=True)
    feeds = {"x": random.standard_normal((2, 3, 4), np.float32)}

    assert_same(model_of([x], y=y), tmp_path / "m.onnx", feeds)


def test_reshape_with_a_zero_that_means_zero(tmp_path):
    x = parameter([2, 0])
    y = op.reshape(x, np.array([0, 5], np.int64), special_zero=False)
    convert(model_of([x], y=y), tmp_path / "m.onnx", {})

    (node,) = onnx.load(tmp_path / "m.onnx").graph.node
    assert [(a.name, a.i) for a in node.attribute] == [("allowzero", 1)]


def test_an_output_that_the_graph_goes_on_from(tmp_path, random):
    x = parameter([3])
    y = op.exp(x)
    z = op.sigmoid(y)
    feeds = {"x": random.standard_normal(3, np.float32)}

    assert_same(model_of([x], y=y, z=z), tmp_path / "m.onnx", feeds)


def test_one_tensor_under_two_output_names_is_refused(tmp_path):
    x = parameter([3])
    y = op.exp(x)
    y.output(0).set_names({"y"})
    model = ov.Model([op.result(y), op.result(y)], [x], "twice")

    with pytest.raises(InvalidArtifact, match="not computed by a node alone"):
        convert(model, tmp_path / "m.onnx", {})


def test_an_unknown_operator_is_an_error_that_names_it(tmp_path):
    x = parameter([3])

    with pytest.raises(InvalidArtifact, match=r"operator Softmax .*known are: Add, Clamp"):
        convert(model_of([x], y=op.softmax(x, 0)), tmp_path / "m.onnx", {})

    assert not (tmp_path / "m.onnx").exists()


def test_an_operand_that_onnx_wants_constant_must_be(tmp_path):
    x, order = parameter([2, 3]), parameter([2], np.int64, "order")

    with pytest.raises(InvalidArtifact, match="operand 1 is not a constant"):
        convert(model_of([x, order], y=op.transpose(x, order)), tmp_path / "m.onnx", {})


def test_the_file_says_what_it_is(tmp_path):
    x = parameter([1, 2, 3])
    y = op.transpose(x, [0, 2, 1])
    convert(model_of([x], y=y), tmp_path / "m.onnx", {"a": "1", "b": "2"})

    model = onnx.load(tmp_path / "m.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert {p.key: p.value for p in model.metadata_props} == {"a": "1", "b": "2"}
    assert model.producer_name == "seatrial"
    assert not model.graph.initializer, "a permutation is an attribute, not an initialiser"
