"""Targets that need more than ONNX: torch graphs, and engines of TensorRT."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from seatrial.artifact import Artifact, Store
from seatrial.engines import cuda
from seatrial.engines.base import EngineConfig
from seatrial.engines.onnxruntime import OnnxRuntimeEngine
from seatrial.engines.registry import ENGINES, open_engine
from seatrial.engines.tensorrt import read_record
from seatrial.errors import Diverged, InvalidArtifact, InvalidInput
from seatrial.export import formats, verify
from seatrial.export.options import ExportOptions
from seatrial.export.parent import open_parent
from seatrial.export.run import export
from seatrial.graphs import first_difference
from seatrial.graphs.tensorrt_ready import validate_for_tensorrt
from seatrial.manifest import Manifest
from seatrial.models.import_onnx import import_onnx

pytestmark = pytest.mark.slow

RTX = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed"
)


@pytest.fixture
def tiny(store: Store, model_file: Callable[..., Path]) -> Artifact:
    return import_onnx(store, model_file())


# torch


@pytest.mark.filterwarnings("ignore")  # of tracing, and of libraries about themselves
def test_a_torch_graph_of_an_open_batch_size(
    store: Store, checkpoints: dict[str, Artifact], cell_images: Path
) -> None:
    asked = ExportOptions("torch", dynamic_batch=True)
    made = export(store, checkpoints["detr"], asked, images=cell_images)
    assert made.manifest.formats == {"torch": "model.pt2"}
    assert made.manifest.inputs[0].shape == (-1, 160, 160, 3)
    assert made.manifest.metrics["output_error.logits"] < 1e-4
    report = json.loads((made.path / "export.json").read_bytes())
    assert [one["within"] for one in report["batch"]] == [1.0, 1.0]
    engine = open_engine(made, "torch", EngineConfig())
    assert (engine.device, engine.precision) == ("cpu", "f32")
    engine.close()


@pytest.mark.filterwarnings("ignore")
def test_code_that_takes_the_batch_size_for_a_constant_is_told(
    store: Store, checkpoints: dict[str, Artifact], cell_images: Path
) -> None:
    asked = ExportOptions("torch", dynamic_batch=True)
    with pytest.raises(InvalidArtifact, match="does not trace") as refusal:
        export(store, checkpoints["rt_detr"], asked, images=cell_images)
    assert "leave out --dynamic-batch" in refusal.value.hint
    assert store.names() == []


@pytest.mark.filterwarnings("ignore")
def test_the_layers_of_a_torch_graph_are_seen_by_the_names_of_the_traced_one(
    checkpoints: dict[str, Artifact], cell_images: Path, tmp_path: Path
) -> None:
    asked = ExportOptions("torch")
    parent = open_parent(checkpoints["rt_detr_v2"], asked, threads=1)
    written = formats.write(tmp_path, parent, parent.graph, parent.manifest, asked)
    probe = written.probe()
    assert probe is not None
    seen = verify.answer(
        parent.manifest, parent.engine, verify.read_images(cell_images, 1), multi_label=False
    )
    found = first_difference.find(parent.probe(), probe, seen.feeds[0], limit=1e-3)
    assert found.first is None
    assert found.compared > 30

    # One layer put out of tune is the one that is named.
    scale = "network.model.encoder_input_proj.0.1.weight"
    module = parent.module
    dict(module.named_parameters())[scale].mul_(1.5)
    found = first_difference.find(parent.probe(), probe, seen.feeds[0], limit=1e-3)
    assert found.first is not None
    assert "encoder_input_proj" in found.first.node


def test_a_finished_graph_does_not_become_a_torch_graph(
    torch: Any, store: Store, tiny: Artifact, cell_images: Path
) -> None:
    with pytest.raises(InvalidInput, match="made of checkpoints"):
        export(store, tiny, ExportOptions("torch"), images=cell_images)
    assert store.names() == ["tiny"]


# TensorRT


@RTX
def test_the_report_says_whether_tensorrt_takes_the_graph(
    store: Store, tiny: Artifact, cell_images: Path
) -> None:
    plain, fused = (
        json.loads(
            (export(store, tiny, asked, images=cell_images).path / "export.json").read_bytes()
        )
        for asked in (ExportOptions("onnx"), ExportOptions("onnx", fuse_nms=True))
    )
    assert plain["tensorrt"]["tried_in"].startswith("TensorRT-RTX 1.")
    assert plain["tensorrt"]["problems"] == []
    assert any("NonMaxSuppression" in one for one in fused["tensorrt"]["problems"])


class OnTheCpu(OnnxRuntimeEngine):
    """Stands in for the TensorRT engine, which needs a GPU: the graph beside it, on the CPU."""

    formats: ClassVar[tuple[str, ...]] = ("tensorrt",)
    name = "tensorrt"

    def __init__(self, model: Path, manifest: Manifest, config: EngineConfig) -> None:
        assert model.name == "model.engine"
        assert config.device == "cuda"
        plain = msgspec.structs.replace(config, device="cpu")
        super().__init__(model.with_name("model.onnx"), manifest, plain)


@pytest.fixture
def simulated_gpu(rtx_as_tensorrt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are really built, by TensorRT-RTX; the GPU that runs them is simulated."""
    monkeypatch.setattr(cuda, "check_driver", lambda: None)
    monkeypatch.setattr(cuda, "runtime", lambda: None)
    monkeypatch.setattr(cuda, "gpu", lambda cudart: cuda.Gpu("NVIDIA L4", "8.9"))
    module = type(sys)("on_the_cpu")
    module.OnTheCpu = OnTheCpu  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "on_the_cpu", module)
    monkeypatch.setitem(ENGINES, "tensorrt", "on_the_cpu:OnTheCpu")


NO_TIMINGS = pytest.mark.filterwarnings(
    "ignore:.*Timing cache operations are no-ops:DeprecationWarning"
)


@RTX
@NO_TIMINGS
@pytest.mark.usefixtures("simulated_gpu")
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_simulated_an_engine_goes_with_its_graph_record_and_timings(
    store: Store, tiny: Artifact, cell_images: Path, precision: Any
) -> None:
    made = export(store, tiny, ExportOptions("tensorrt", precision), images=cell_images)
    manifest = made.manifest
    assert manifest.name == f"tiny-tensorrt-{precision}"
    assert manifest.formats == {"tensorrt": "model.engine", "onnx": "model.onnx"}
    assert {entry.path for entry in manifest.files} == {
        "model.engine",
        "model.engine.json",
        "model.onnx",
        "timing.cache",
        "export.json",
    }
    record = read_record(made.file("tensorrt"))
    assert (record.gpu, record.precision, manifest.precision) == (
        "NVIDIA L4",
        precision,
        precision,
    )
    assert validate_for_tensorrt(made.file("onnx")) == []


def quantise(path: Path) -> None:
    """Put signed, symmetric Q/DQ pairs before the convolution of the tiny detector."""
    model = onnx.load(path)
    graph = model.graph
    weights = next(t for t in graph.initializer if t.name == "weights")
    values = numpy_helper.to_array(weights)
    scale = np.abs(values).max() / 127
    constants = {
        "q_zero": np.array(0, np.int8),
        "q_pixels": np.array(1 / 127, np.float32),
        "q_weights": np.array(scale, np.float32),
        "weights_int8": np.round(values / scale).astype(np.int8),
    }
    graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    graph.initializer.remove(weights)
    at, conv = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "Conv")
    pixels = conv.input[0]
    make = onnx.helper.make_node
    pairs = [
        make("QuantizeLinear", [pixels, "q_pixels", "q_zero"], ["q"]),
        make("DequantizeLinear", ["q", "q_pixels", "q_zero"], ["dq"]),
        make("DequantizeLinear", ["weights_int8", "q_weights", "q_zero"], ["weights"]),
    ]
    conv.input[0] = "dq"
    for node in reversed(pairs):
        graph.node.insert(at, node)
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def quantised_tiny(tiny: Artifact, tmp_path: Path) -> Artifact:
    """The tiny detector with Q/DQ nodes, as an INT8 artifact of another store."""
    store = Store(tmp_path / "int8")
    with store.staging() as folder:
        (folder / "model.onnx").write_bytes(tiny.file("onnx").read_bytes())
        quantise(folder / "model.onnx")
        manifest = msgspec.structs.replace(
            tiny.manifest, name="tiny-int8", precision="int8", files=()
        )
        return store.commit(folder, manifest)


@RTX
@NO_TIMINGS
@pytest.mark.usefixtures("simulated_gpu")
def test_simulated_int8_becomes_an_engine_as_it_is(
    store: Store, quantised_tiny: Artifact, cell_images: Path
) -> None:
    made = export(store, quantised_tiny, ExportOptions("tensorrt"), images=cell_images)
    assert (made.manifest.name, made.manifest.precision) == ("tiny-int8-tensorrt-int8", "int8")
    assert read_record(made.file("tensorrt")).precision == "int8"
    assert made.file("onnx").read_bytes() == quantised_tiny.file("onnx").read_bytes()
    report = json.loads((made.path / "export.json").read_bytes())
    assert report["parent"]["precision"] == report["child"]["precision"] == "int8"


@RTX
@NO_TIMINGS
@pytest.mark.usefixtures("simulated_gpu")
def test_int8_is_not_converted_again(
    store: Store, quantised_tiny: Artifact, cell_images: Path
) -> None:
    for asked in (ExportOptions("tensorrt", "f16"), ExportOptions("tensorrt", fuse_nms=True)):
        with pytest.raises(InvalidInput, match="TensorRT takes it as it is"):
            export(store, quantised_tiny, asked, images=cell_images)
    with pytest.raises(InvalidInput, match="what was rounded off is gone"):
        export(store, quantised_tiny, ExportOptions("onnx"), images=cell_images)
    assert store.names() == ["tiny"]


@RTX
@NO_TIMINGS
@pytest.mark.usefixtures("simulated_gpu")
def test_simulated_an_engine_that_answers_otherwise_is_not_kept(
    store: Store, tiny: Artifact, cell_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = OnTheCpu._open_on_cpu

    def half(self: Any, ort: Any, model: Path, config: EngineConfig) -> None:
        infer(self, ort, model, config)
        lane = self.narrow[0]
        answer = lane.infer
        lane.infer = lambda feeds: {n: v * np.float32(0.5) for n, v in answer(feeds).items()}

    monkeypatch.setattr(OnTheCpu, "_open_on_cpu", half)
    with pytest.raises(Diverged, match="boxes of the parent have no partner"):
        export(store, tiny, ExportOptions("tensorrt"), images=cell_images)
    assert [path.name for path in store.root.iterdir()] == ["tiny"]
