"""What is quantised, what stays float, and that restored layers are float again; in the graphs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidArtifact, MissingExtra
from seatrial.progress import silent
from seatrial.quantise import kernels
from seatrial.quantise.calibration_images import CalibrationImages, find_images
from seatrial.quantise.registry import BACKENDS, open_backend
from seatrial.quantise.workspace import Workspace
from seatrial.system.files import sha256_file

pytest.importorskip("nncf", reason="NNCF is not installed")

LAYERS = {
    "block0.up/Conv", "block0.down/Conv", "block1.up/Conv", "block1.down/Conv",
    "scores/Conv", "sides/Conv",
}  # fmt: skip
WITHOUT_BIAS = "/WithoutBiases"  # OpenVINO's convolutions that were ONNX's with a bias


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "work").mkdir()
    return Workspace(tmp_path / "work")


@pytest.fixture
def quantised(
    small: Callable[..., Artifact], scene: Path, work: Workspace
) -> Callable[..., tuple[Any, Path]]:
    """Quantises the small detector: the backend, and the folder of the graph."""

    def make(to: str, recipe: str | None = None, **variant: Any) -> tuple[Any, Path]:
        artifact, backend = small(**variant), open_backend(to)
        backend.prepare(artifact, work)
        images = CalibrationImages(find_images(scene)[:6], artifact.manifest)
        return backend, backend.quantise(recipe or backend.recipes[0], images, work, silent)

    return make


def plain(name: str) -> str:
    return name.removesuffix(WITHOUT_BIAS)


@pytest.mark.parametrize("to", BACKENDS)
def test_all_convolutions_before_the_head_are_int8_and_none_in_it(
    quantised: Callable[..., tuple[Any, Path]], work: Workspace, to: str
) -> None:
    backend, folder = quantised(to)
    assert {plain(name) for name in backend.layers(folder, work)} == LAYERS


def onnx_model(folder: Path) -> Any:
    return onnx.load(folder / "model.onnx")


def producers(model: Any) -> dict[str, Any]:
    return {name: node for node in model.graph.node for name in node.output}


@pytest.mark.parametrize("to", ["onnxruntime", "tensorrt"])
def test_onnx_head_reads_what_convolutions_gave_and_rounds_nothing_itself(
    quantised: Callable[..., tuple[Any, Path]], to: str
) -> None:
    _, folder = quantised(to)
    model = onnx_model(folder)
    made = producers(model)
    heads = [n for n in model.graph.node if n.op_type in ("Softmax", "Concat", "Transpose", "Clip")]
    inside = {"dfl_softmax", "output0", "dfl_transpose", "dfl", "by_anchor", "sides_px"}
    seen = [n for n in heads if {*n.output} & inside]
    assert len(seen) >= 3
    for node in seen:
        for name in node.input:
            assert name not in made or made[name].op_type != "DequantizeLinear", node.name
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_onnxruntime_gets_signed_weights_per_channel_and_activations_for_the_cpu(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("onnxruntime")
    model = onnx_model(folder)
    made, constants = producers(model), {t.name: t for t in model.graph.initializer}
    conv = next(n for n in model.graph.node if n.name == "block0.up/Conv")
    source, weights, bias = (made[name] for name in conv.input)
    kind = onnx.TensorProto.UINT8 if kernels.is_x86() else onnx.TensorProto.INT8
    assert constants[source.input[2]].data_type == kind
    assert constants[weights.input[0]].data_type == onnx.TensorProto.INT8
    assert list(constants[weights.input[1]].dims) == [6]  # a scale for each output channel
    assert constants[bias.input[0]].data_type == onnx.TensorProto.INT32


def test_tensorrt_gets_signed_symmetric_pairs_and_float_biases(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("tensorrt")
    model = onnx_model(folder)
    constants = {t.name: t for t in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = constants[node.input[2]]
        assert zero.data_type == onnx.TensorProto.INT8
        assert not onnx.numpy_helper.to_array(zero).any()
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            assert constants[node.input[2]].data_type == onnx.TensorProto.FLOAT
    first = next(n for n in model.graph.node if "image" in n.input)
    assert first.op_type == "Cast"  # TensorRT takes uint8 at the border of the network alone


@pytest.mark.parametrize("recipe", ["minmax", "percentile"])
def test_tensorrt_parses_and_builds_the_graph(
    quantised: Callable[..., tuple[Any, Path]], work: Workspace, recipe: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("no tensorrt_rtx: pip install 'seatrial[tensorrt-check]'")
    from seatrial.graphs.tensorrt_ready import validate_for_tensorrt

    backend, folder = quantised("tensorrt", recipe)
    assert validate_for_tensorrt(folder / "model.onnx") == []
    (tmp_path / "restored").mkdir()
    backend.restore(folder, ["block1.down/Conv"], tmp_path / "restored", work)
    assert validate_for_tensorrt(tmp_path / "restored" / "model.onnx") == []


def openvino_precisions(folder: Path) -> dict[str, str]:
    """Convolution -> what the compiled graph computes it in."""
    compiled = openvino.Core().compile_model(
        folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = {k: str(v.astype(str)) for k, v in node.get_rt_info().items()}
        if facts.get("layerType") == "Convolution":
            for name in facts["originalLayersNames"].split(","):
                found[name] = facts["runtimePrecision"]
    return found


def test_openvino_runs_the_convolutions_in_int8_and_the_head_in_float(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("openvino")
    ran = openvino_precisions(folder)
    assert {ran[f"{name}{WITHOUT_BIAS}"] for name in LAYERS} <= {"u8", "i8"}
    assert ran["dfl/Conv"] == "f32"
    model = openvino.Core().read_model(folder / "model.xml")
    assert model.input(0).get_element_type() == openvino.Type.u8
    assert list(model.input(0).shape) == [1, 64, 64, 3]


def test_openvino_has_one_operator_for_silu_and_no_rounding_inside(
    quantised: Callable[..., tuple[Any, Path]],
) -> None:
    _, folder = quantised("openvino")
    model = openvino.Core().read_model(folder / "model.xml")
    swishes = [n for n in model.get_ordered_ops() if n.get_type_name() == "Swish"]
    assert len(swishes) == 2
    for node in swishes:
        before = node.input_value(0).get_node().get_type_name()
        assert before in ("Add", "Convolution")  # the bias or what needs none, not a rounding


@pytest.mark.parametrize("to", BACKENDS)
def test_restored_layers_are_float_and_the_others_are_not(
    quantised: Callable[..., tuple[Any, Path]], work: Workspace, tmp_path: Path, to: str
) -> None:
    backend, folder = quantised(to)
    chosen = ("block0.up/Conv", "block1.down/Conv")
    wanted = [n for n in backend.layers(folder, work) if plain(n) in chosen]
    (tmp_path / "restored").mkdir()
    backend.restore(folder, wanted, tmp_path / "restored", work)
    left = {plain(name) for name in backend.layers(tmp_path / "restored", work)}
    assert left == LAYERS - {plain(name) for name in wanted}
    if to == "openvino":
        ran = openvino_precisions(tmp_path / "restored")
        assert {ran[name] for name in wanted} == {"f32"}


@pytest.mark.parametrize("to", BACKENDS)
def test_with_all_layers_restored_the_graph_is_the_float_one_again(
    quantised: Callable[..., tuple[Any, Path]],
    work: Workspace,
    tmp_path: Path,
    to: str,
    scene: Path,
    small: Callable[..., Artifact],
) -> None:
    # Biases that NNCF corrected must come back too.
    backend, folder = quantised(to, "fast-bias-correction" if to == "openvino" else None)
    (tmp_path / "all").mkdir()
    backend.restore(folder, backend.layers(folder, work), tmp_path / "all", work)
    (feeds,) = CalibrationImages(find_images(scene)[8:9], small("again").manifest).feeds()
    wanted = backend.probe(None, work)(feeds)
    rounded = backend.probe(folder, work)(feeds)
    restored = backend.probe(tmp_path / "all", work)(feeds)
    for float_value, int8_value, restored_value in zip(wanted, rounded, restored, strict=True):
        # Rounding of what is not convolution may stay; that of convolutions is gone.
        assert np.abs(restored_value - float_value).max() <= np.abs(int8_value - float_value).max()
    error = [np.abs(r - w).max() for r, w in zip(restored, wanted, strict=True)]
    assert max(error) < 0.02
    assert max(np.abs(i - w).max() for i, w in zip(rounded, wanted, strict=True)) > 0


@pytest.mark.parametrize("to", BACKENDS)
def test_the_same_input_gives_the_same_bytes(
    small: Callable[..., Artifact], scene: Path, tmp_path: Path, to: str
) -> None:
    artifact, digests = small(), set()
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        work, backend = Workspace(tmp_path / str(number)), open_backend(to)
        backend.prepare(artifact, work)
        images = CalibrationImages(find_images(scene)[:4], artifact.manifest)
        folder = backend.quantise(backend.recipes[1], images, work, silent)
        digests.add(tuple(sha256_file(file) for file in sorted(folder.iterdir())))
    assert len(digests) == 1


@pytest.mark.parametrize(("to", "package"), [("openvino", "nncf"), ("onnxruntime", "onnxruntime")])
def test_a_missing_package_names_the_extra(
    small: Callable[..., Artifact],
    work: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    package: str,
) -> None:
    artifact, find = small(), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name)
    )
    with pytest.raises(MissingExtra, match=package) as refusal:
        open_backend(to).prepare(artifact, work)
    assert "seatrial[compress]" in refusal.value.hint


def test_an_opset_that_is_too_new_is_refused(
    small: Callable[..., Artifact], work: Workspace
) -> None:
    with pytest.raises(InvalidArtifact, match="opset 21"):
        open_backend("onnxruntime").prepare(small(opset=21), work)


def test_an_old_opset_is_raised_to_one_with_a_scale_for_each_channel(
    small: Callable[..., Artifact], scene: Path, work: Workspace
) -> None:
    artifact, backend = small(opset=11), open_backend("onnxruntime")
    backend.prepare(artifact, work)
    images = CalibrationImages(find_images(scene)[:4], artifact.manifest)
    folder = backend.quantise("minmax", images, work, silent)
    assert {plain(name) for name in backend.layers(folder, work)} == LAYERS
    model = onnx_model(folder)
    assert next(o.version for o in model.opset_import if not o.domain) == 13
    constants = {t.name: t for t in model.graph.initializer}
    made = producers(model)
    conv = next(n for n in model.graph.node if n.name == "block0.up/Conv")
    assert list(constants[made[conv.input[1]].input[1]].dims) == [6]


def test_nncf_is_told_nothing_that_it_could_report(store: Store) -> None:
    import subprocess
    import sys

    code = (
        "from seatrial.system.extras import require\n"
        "require('nncf', extra='compress', purpose='this test')\n"
        "from nncf.telemetry.wrapper import telemetry\n"
        "print(type(telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["MagicMock"]
