"""OpenVINO and ONNX Runtime: the same numbers, the device and precision asked for, or an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.engines.base import Engine, EngineConfig
from seatrial.engines.onnxruntime import OnnxRuntimeEngine
from seatrial.engines.openvino import OpenVinoEngine
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable, InvalidArtifact
from seatrial.models.import_onnx import import_onnx

RUNTIMES = ["openvino", "onnxruntime"]
# Of this seed no cell is of two colours alike, between which runtimes may choose.
BATCH = np.random.default_rng(7).integers(0, 256, (1, 64, 64, 3), np.uint8)


def run(engine: Engine, batch: np.ndarray = BATCH) -> np.ndarray:
    (output,) = engine.narrow[0].infer({"image": batch}).values()
    return np.array(output)


def by_hand(batch: np.ndarray) -> np.ndarray:
    """The tiny detector in numpy: (1, 4 + 3, 64)."""
    cells = batch[0].reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) / 255  # rows, columns, channels
    scores = np.clip(1.5 * cells - 0.5 * cells.sum(-1, keepdims=True), 0, 1)
    y, x = np.mgrid[:8, :8] * 8 + 4
    boxes = np.stack([x, y, np.full_like(x, 16), np.full_like(x, 16)])
    return np.concatenate([boxes, scores.transpose(2, 0, 1)]).reshape(1, 7, 64)


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_graph_computes_what_it_says(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig())
    assert engine.inputs == tiny_artifact.manifest.inputs
    assert engine.outputs == tiny_artifact.manifest.outputs
    np.testing.assert_allclose(run(engine), by_hand(BATCH), atol=1e-5)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"layout": "end_to_end"},
        {"batch": "batch"},
        {"batch": "batch", "dynamic_size": True},
        {"batch": "batch", "layout": "end_to_end"},
        {"names": ("red", "green")},
        {"input_name": "image"},
        {"output_name": "image"},
        {"output_name": "seatrial_nchw.0"},
    ],
    ids=str,
)
def test_both_runtimes_agree(
    store: Store, model_file: Callable[..., Path], variant: dict[str, Any]
) -> None:
    artifact = import_onnx(store, model_file(**variant))
    feeds = {artifact.manifest.inputs[0].name: BATCH}
    results = [
        open_engine(artifact, name, EngineConfig()).narrow[0].infer(feeds) for name in RUNTIMES
    ]
    for spec in artifact.manifest.outputs:
        first, second = (result[spec.name] for result in results)
        assert first.shape == second.shape
        assert first.shape[0] == 1
        assert all(
            size == given for size, given in zip(first.shape, spec.shape, strict=True) if given > 0
        )
        assert first.dtype == second.dtype == np.dtype(spec.dtype)
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("name", RUNTIMES)
def test_lanes_are_as_many_and_as_wide_as_asked(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig(instances=3, threads=2, wide_threads=4))
    assert [lane.threads for lane in engine.narrow] == [2, 2, 2]
    assert len({id(lane) for lane in engine.narrow}) == 3
    assert engine.wide is not None
    assert engine.wide.threads == 4
    for lane in (*engine.narrow, engine.wide):
        (output,) = lane.infer({"image": BATCH}).values()
        np.testing.assert_allclose(output, by_hand(BATCH), atol=1e-5)
    assert open_engine(tiny_artifact, name, EngineConfig()).wide is None


def test_openvino_got_the_streams_and_threads(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "openvino", EngineConfig(instances=2, threads=1))
    properties = engine.properties()
    assert properties["num_streams"] == "2"
    assert properties["inference_num_threads"] == "2"
    assert properties["enable_cpu_pinning"] == "False"
    assert properties["version"]


def test_onnxruntime_lanes_of_one_thread_share_the_weights(tiny_artifact: Artifact) -> None:
    def sessions(**config: int) -> int:
        engine = open_engine(tiny_artifact, "onnxruntime", EngineConfig(**config))  # type: ignore[arg-type]
        return len({id(lane._session) for lane in engine.narrow})  # type: ignore[attr-defined]

    assert sessions(instances=3, threads=1) == 1
    assert sessions(instances=3, threads=2) == 3


@pytest.mark.parametrize("name", RUNTIMES)
def test_lanes_run_side_by_side_without_mixing(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig(instances=3))
    wrong: list[int] = []

    def work(index: int) -> None:
        generator = np.random.default_rng(index)
        for _ in range(40):
            batch = generator.integers(0, 256, BATCH.shape, np.uint8)
            (output,) = engine.narrow[index].infer({"image": batch}).values()
            if not np.allclose(output, by_hand(batch), atol=1e-5):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


@pytest.fixture
def no_cuda() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")


def test_cuda_request_that_would_land_on_cpu_is_an_error(
    tiny_artifact: Artifact, no_cuda: None
) -> None:
    with pytest.raises(DeviceUnavailable, match="CUDAExecutionProvider") as refusal:
        open_engine(tiny_artifact, "onnxruntime", EngineConfig(device="cuda"))
    assert "CPUExecutionProvider" in refusal.value.message
    assert refusal.value.exit_code == 4


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_device_that_nobody_knows(tiny_artifact: Artifact, name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="tpu"):
        open_engine(tiny_artifact, name, EngineConfig(device="tpu"))


def test_openvino_has_no_cuda_and_says_what_it_sees(tiny_artifact: Artifact) -> None:
    with pytest.raises(DeviceUnavailable, match=r"'cuda'; OpenVINO sees: .*CPU"):
        open_engine(tiny_artifact, "openvino", EngineConfig(device="cuda"))


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_device_is_what_the_runtime_reports(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig())
    assert engine.device == "cpu"
    if name == "onnxruntime":
        assert engine.properties()["providers"] == "CPUExecutionProvider"


def openvino_capabilities() -> list[str]:
    import openvino

    return list(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


@pytest.mark.parametrize(("precision", "capability"), [("bf16", "BF16"), ("f16", "FP16")])
def test_openvino_computes_in_the_precision_asked_for_or_not_at_all(
    tiny_artifact: Artifact, precision: Any, capability: str
) -> None:
    config = EngineConfig(precision=precision)
    if capability not in openvino_capabilities():
        with pytest.raises(DeviceUnavailable, match=f"no {precision} arithmetic"):
            open_engine(tiny_artifact, "openvino", config)
        return
    engine = open_engine(tiny_artifact, "openvino", config)
    assert engine.precision == precision
    # It is seen in the numbers: 8 or 11 bits of mantissa are not 24.
    difference = np.abs(run(engine)[:, 4:] - by_hand(BATCH)[:, 4:]).max()
    assert 1e-6 < difference < 2e-2


def test_f32_is_f32_also_where_the_cpu_has_bf16(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "openvino", EngineConfig(precision="f32"))
    assert engine.precision == "f32"
    np.testing.assert_allclose(run(engine), by_hand(BATCH), atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_onnxruntime_has_no_switch_of_precision(tiny_artifact: Artifact, precision: Any) -> None:
    with pytest.raises(DeviceUnavailable, match=f"no switch to {precision}") as refusal:
        open_engine(tiny_artifact, "onnxruntime", EngineConfig(precision=precision))
    assert "--precision f32" in refusal.value.hint


def test_a_half_precision_graph_runs_as_such_in_onnxruntime(
    store: Store, model_file: Callable[..., Path]
) -> None:
    artifact = import_onnx(store, model_file(half=True))
    with pytest.raises(DeviceUnavailable, match="which is f16"):
        open_engine(artifact, "onnxruntime", EngineConfig(precision="f32"))
    engine = open_engine(artifact, "onnxruntime", EngineConfig(precision="f16"))
    assert engine.precision == "f16"
    assert run(engine).dtype == np.float32
    np.testing.assert_allclose(run(engine), by_hand(BATCH), atol=2e-2)


def broken_files(model: Path, folder: Path) -> dict[str, Path]:
    data = model.read_bytes()
    contents = {
        "truncated": data[: len(data) // 2],
        "nonsense": b"this is not a model" * 10,
        "empty": b"",
    }
    for name, content in contents.items():
        (folder / f"{name}.onnx").write_bytes(content)
    return {name: folder / f"{name}.onnx" for name in (*contents, "missing")}


@pytest.mark.parametrize("damage", ["truncated", "nonsense", "empty", "missing"])
@pytest.mark.parametrize("engine", [OpenVinoEngine, OnnxRuntimeEngine])
def test_a_broken_model_file_is_one_error_that_names_it(
    tiny_artifact: Artifact, tmp_path: Path, engine: Any, damage: str
) -> None:
    file = broken_files(tiny_artifact.file("onnx"), tmp_path)[damage]
    with pytest.raises(InvalidArtifact) as refusal:
        engine(file, tiny_artifact.manifest, EngineConfig())
    assert str(file) in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_manifest_that_does_not_fit_the_graph(tiny_artifact: Artifact, name: str) -> None:
    manifest = tiny_artifact.manifest
    other = msgspec.structs.replace(manifest.inputs[0], name="another")
    wrong = Artifact(
        tiny_artifact.path, msgspec.structs.replace(manifest, inputs=(other,)), tiny_artifact.digest
    )
    with pytest.raises(InvalidArtifact, match="another"):
        open_engine(wrong, name, EngineConfig())


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_closed_engine_has_let_go_of_its_lanes(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig(wide_threads=2))
    engine.close()
    assert engine.narrow == ()
    assert engine.wide is None


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_graph_with_an_operator_that_nobody_has(
    tiny_artifact: Artifact, tmp_path: Path, name: str
) -> None:
    model = onnx.load(tiny_artifact.file("onnx"))
    model.graph.node[-1].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    factory = {"openvino": OpenVinoEngine, "onnxruntime": OnnxRuntimeEngine}[name]
    with pytest.raises(InvalidArtifact, match="NoSuchOperator"):
        factory(tmp_path / "odd.onnx", tiny_artifact.manifest, EngineConfig())
