"""The contract of engines on OpenVINO and ONNX Runtime: the same numbers, or an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from tests.support.tiny_by_hand import BATCH, by_hand, run

from seatrial.artifact import Artifact, Store
from seatrial.engines.base import EngineConfig, of_batch
from seatrial.engines.onnxruntime import OnnxRuntimeEngine
from seatrial.engines.openvino import OpenVinoEngine
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable, InvalidArtifact
from seatrial.models.import_onnx import import_onnx

RUNTIMES = ["openvino", "onnxruntime"]


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_graph_computes_what_it_says(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig())
    assert engine.inputs == tiny_artifact.manifest.inputs
    assert engine.outputs == tiny_artifact.manifest.outputs
    np.testing.assert_allclose(run(engine), by_hand(BATCH), atol=1e-5)


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_engine_has_one_lane_of_one_thread_where_nothing_is_said(
    tiny_artifact: Artifact, name: str
) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig())
    assert [lane.threads for lane in engine.narrow] == [1]
    assert engine.wide is None


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


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_device_that_nobody_knows(tiny_artifact: Artifact, name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="tpu"):
        open_engine(tiny_artifact, name, EngineConfig(device="tpu"))


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_device_is_what_the_runtime_reports(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig())
    assert engine.device == "cpu"
    if name == "onnxruntime":
        assert engine.properties()["providers"] == "CPUExecutionProvider"


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


@pytest.mark.parametrize(
    ("shape", "one"), [((-1, 64, 64, 3), (1, 64, 64, 3)), ((4, -1), (4, -1)), ((), ())]
)
def test_an_open_batch_size_is_one(shape: tuple[int, ...], one: tuple[int, ...]) -> None:
    assert of_batch(shape) == one
