"""ONNX Runtime: the provider and precision asked for, or an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tests.support.tiny_by_hand import BATCH, by_hand, run

from seatrial.artifact import Artifact, Store
from seatrial.engines.base import EngineConfig
from seatrial.engines.onnxruntime import CUDA, _session
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable
from seatrial.models.import_onnx import import_onnx


def test_onnxruntime_lanes_of_one_thread_share_the_weights(tiny_artifact: Artifact) -> None:
    def sessions(**config: int) -> int:
        engine = open_engine(tiny_artifact, "onnxruntime", EngineConfig(**config))  # type: ignore[arg-type]
        return len({id(lane._session) for lane in engine.narrow})  # type: ignore[attr-defined]

    assert sessions(instances=3, threads=1) == 1
    assert sessions(instances=3, threads=2) == 3


@pytest.fixture
def no_cuda() -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")


def test_cuda_request_that_would_land_on_cpu_is_an_error(
    tiny_artifact: Artifact, no_cuda: None
) -> None:
    with pytest.raises(DeviceUnavailable, match="CUDAExecutionProvider") as refusal:
        open_engine(tiny_artifact, "onnxruntime", EngineConfig(device="cuda"))
    assert "CPUExecutionProvider" in refusal.value.message
    assert refusal.value.exit_code == 4


def test_on_the_cpu_float32_is_not_rounded(tiny_artifact: Artifact) -> None:
    assert open_engine(tiny_artifact, "onnxruntime", EngineConfig()).precision == "f32"


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


class Falls:
    """ONNX Runtime that leaves out the provider asked for, as it does where libraries miss."""

    SessionOptions = onnxruntime.SessionOptions

    def InferenceSession(self, model: Path, options: Any, **given: Any) -> Any:  # noqa: N802
        assert given["enable_fallback"] == 0
        self.asked = given["providers"]
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])


def test_a_session_that_runs_on_another_provider_is_refused() -> None:
    falls = Falls()
    with pytest.raises(DeviceUnavailable, match=f"asked for {CUDA} and runs CPUExecution"):
        _session(falls, Path("model.onnx"), (CUDA, "CPUExecutionProvider"), 1)
    assert falls.asked[0] == (CUDA, {"use_tf32": "0"})


def test_a_session_computes_with_the_threads_asked_for(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "onnxruntime", EngineConfig(threads=3, wide_threads=2))
    options = [lane._session.get_session_options() for lane in (*engine.narrow, engine.wide)]  # type: ignore[union-attr]
    assert [one.intra_op_num_threads for one in options] == [3, 2]
    assert [one.inter_op_num_threads for one in options] == [1, 1]
    assert engine.properties()["intra_op_num_threads"] == "3"
