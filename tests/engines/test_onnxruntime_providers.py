"""ONNX Runtime's providers: a GPU that was asked for is used, by every node, or it is an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.deployment import CoreLayout
from seatrial.engines.base import EngineConfig
from seatrial.engines.onnxruntime import (
    CPU,
    CUDA,
    TENSORRT,
    BoundLane,
    OnnxRuntimeEngine,
    OnnxRuntimeTensorRtEngine,
)
from seatrial.engines.registry import open_engine, resolve_layout
from seatrial.errors import DeviceUnavailable, InvalidArtifact
from seatrial.models.import_onnx import import_onnx

BATCH = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), np.uint8)
PROVIDERS = ort.get_available_providers()
NO_CUDA = pytest.mark.skipif(CUDA in PROVIDERS, reason="this is onnxruntime-gpu")
GPU = pytest.mark.skipif(CUDA not in PROVIDERS, reason=f"no NVIDIA GPU provider: {PROVIDERS}")


def cpu_session(artifact: Artifact) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(artifact.file("onnx"), options, providers=[CPU])


@NO_CUDA
@pytest.mark.parametrize(
    ("engine", "provider"), [("onnxruntime", CUDA), ("onnxruntime-tensorrt", TENSORRT)]
)
def test_a_provider_that_is_not_there_is_an_error(
    tiny_artifact: Artifact, engine: str, provider: str
) -> None:
    with pytest.raises(DeviceUnavailable, match=f"no {provider}; it has: .*{CPU}") as refusal:
        open_engine(tiny_artifact, engine, EngineConfig(device="cuda"))
    assert "onnxruntime-gpu" in refusal.value.hint


def test_the_tensorrt_provider_has_no_cpu_behind_it(tiny_artifact: Artifact) -> None:
    with pytest.raises(DeviceUnavailable, match="no device 'cpu'") as refusal:
        open_engine(tiny_artifact, "onnxruntime-tensorrt", EngineConfig())
    assert refusal.value.hint == "use --device cuda"
    assert OnnxRuntimeTensorRtEngine.providers["cuda"] == (TENSORRT, CUDA)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_bound_lane_answers_as_a_plain_run_does(
    store: Store, model_file: Callable[..., Path], batch: int | str
) -> None:
    artifact = import_onnx(store, model_file(batch=batch))
    session = cpu_session(artifact)
    lane = BoundLane(ort, session, "cpu", artifact.manifest.inputs, artifact.manifest.outputs)
    for picture in (BATCH, 255 - BATCH):
        answer = lane.infer({"image": picture})["output0"]
        np.testing.assert_array_equal(answer, session.run(None, {"image": picture})[0])
    assert lane.infer({"image": BATCH})["output0"] is answer  # the lane's own memory, each time


def test_bound_lanes_share_a_session_and_not_their_memory(tiny_artifact: Artifact) -> None:
    manifest, session = tiny_artifact.manifest, cpu_session(tiny_artifact)
    lanes = [BoundLane(ort, session, "cpu", manifest.inputs, manifest.outputs) for _ in range(2)]
    pictures = [BATCH, 255 - BATCH]
    expected = [session.run(None, {"image": picture})[0] for picture in pictures]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(100):
            answer = lanes[index].infer({"image": pictures[index]})["output0"]
            if not np.array_equal(answer, expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_session_that_fails_prints_nothing_and_does_not_fall_back(
    tiny_artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(InvalidArtifact, match=r"broken\.onnx"):
        OnnxRuntimeEngine(broken, tiny_artifact.manifest, EngineConfig())
    assert capsys.readouterr().out == ""
    engine = OnnxRuntimeEngine(tiny_artifact.file("onnx"), tiny_artifact.manifest, EngineConfig())
    assert engine._sessions[0]._enable_fallback is False


def test_what_is_not_quantised_in_an_int8_graph_is_float32(tiny_artifact: Artifact) -> None:
    manifest = msgspec.structs.replace(tiny_artifact.manifest, precision="int8")
    engine = OnnxRuntimeEngine(tiny_artifact.file("onnx"), manifest, EngineConfig())
    assert engine.precision == "int8"
    with pytest.raises(DeviceUnavailable, match="which is int8") as refusal:
        OnnxRuntimeEngine(tiny_artifact.file("onnx"), manifest, EngineConfig(precision="f16"))
    assert "--precision f32" in refusal.value.hint


def test_a_gpu_gets_two_requests_at_a_time_and_no_wide_lane() -> None:
    workers, config = resolve_layout(CoreLayout(), device="cuda", precision="f16", cores=8)
    assert (workers, config) == (1, EngineConfig(device="cuda", precision="f16", instances=2))
    _, config = resolve_layout(CoreLayout(instances=4), device="cuda", precision="f16", cores=8)
    assert (config.instances, config.threads, config.wide_threads) == (4, 1, 0)


@GPU
@pytest.mark.parametrize("name", ["onnxruntime", "onnxruntime-tensorrt"])
def test_on_a_gpu_the_numbers_are_the_cpus(tiny_artifact: Artifact, name: str) -> None:
    engine = open_engine(tiny_artifact, name, EngineConfig(device="cuda", instances=2))
    reference = open_engine(tiny_artifact, "onnxruntime", EngineConfig()).narrow[0]
    assert engine.device == "cuda"
    assert "CPUExecutionProvider" not in engine.properties()["nodes"]
    for lane in engine.narrow:
        for picture in (BATCH, 255 - BATCH):
            got = lane.infer({"image": picture})["output0"]
            expected = reference.infer({"image": picture})["output0"]
            np.testing.assert_allclose(got, expected, atol=1e-3)
