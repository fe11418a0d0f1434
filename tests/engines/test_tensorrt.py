"""The TensorRT engine: kept to the GPU and version that it was built for, or an error.

What needs a GPU and is simulated here is in test_tensorrt_simulated.py.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.engines import cuda
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.engines.tensorrt import (
    EngineRecord,
    TensorRtEngine,
    check_built_for,
    read_record,
    record_path,
)
from seatrial.errors import DeviceUnavailable, InvalidArtifact, MissingExtra
from seatrial.export.tensorrt_build import build_engine


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


BINDING = pytest.mark.skipif(
    not (installed("cuda") and installed("cuda.bindings")), reason="cuda-bindings is not installed"
)
ABSENT = pytest.mark.skipif(installed("tensorrt"), reason="TensorRT is installed")
BATCH = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), np.uint8)
L4 = cuda.Gpu("NVIDIA L4", "8.9")
ON_A_GPU = EngineConfig(device="cuda", precision="f16")


def gpu_there() -> bool:
    try:
        cuda.check_driver()
        cuda.gpu(cuda.runtime())
    except (DeviceUnavailable, MissingExtra):
        return False
    return True


GPU = pytest.mark.skipif(
    not (installed("tensorrt") and gpu_there()), reason="no TensorRT, or no NVIDIA GPU"
)
NO_GPU = pytest.mark.skipif(gpu_there(), reason="there is an NVIDIA GPU")


def test_it_runs_on_no_cpu(built: Callable[..., Artifact]) -> None:
    with pytest.raises(DeviceUnavailable, match="runs on NVIDIA GPUs, not on 'cpu'"):
        open_engine(built(), "tensorrt", EngineConfig(precision="f16"))


@NO_GPU
def test_without_a_gpu_no_package_is_asked_for(built: Callable[..., Artifact]) -> None:
    with pytest.raises(DeviceUnavailable, match="NVIDIA GPU") as refusal:
        open_engine(built(), "tensorrt", ON_A_GPU)
    assert "pip" not in refusal.value.hint


@ABSENT
def test_without_tensorrt_the_extra_is_named(
    built: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "check_driver", lambda: None)
    with pytest.raises(MissingExtra) as refusal:
        open_engine(built(), "tensorrt", ON_A_GPU)
    assert "[tensorrt]" in refusal.value.hint


@NO_GPU
@BINDING
@pytest.mark.usefixtures("rtx_as_tensorrt")
def test_a_driver_that_sees_no_gpu_is_an_error(
    built: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "check_driver", lambda: None)
    with pytest.raises(DeviceUnavailable) as refusal:
        open_engine(built(), "tensorrt", ON_A_GPU)
    assert "CUDA" in refusal.value.message or "NVIDIA" in refusal.value.message
    assert refusal.value.hint


def test_the_gpu_and_version_that_it_was_built_for(record: EngineRecord) -> None:
    check_built_for(record, L4, "11.4.0")


@pytest.mark.parametrize(
    ("gpu", "version", "said"),
    [
        (L4, "11.3.0", "built by TensorRT 11.4.0; this is 11.3.0"),
        (cuda.Gpu("NVIDIA L40S", "8.9"), "11.4.0", "built for NVIDIA L4 .* NVIDIA L40S"),
        (cuda.Gpu("NVIDIA L4", "9.0"), "11.4.0", r"8\.9\); this is NVIDIA L4 \(9\.0\)"),
    ],
    ids=["version", "gpu", "capability"],
)
def test_another_gpu_or_version_is_refused(
    record: EngineRecord, gpu: cuda.Gpu, version: str, said: str
) -> None:
    with pytest.raises(DeviceUnavailable, match=said) as refusal:
        check_built_for(record, gpu, version)
    assert "--to tensorrt" in refusal.value.hint


@pytest.mark.parametrize("text", [None, "{", '{"gpu": "NVIDIA L4"}', '{"gpuu": 1}'])
def test_an_engine_without_a_sound_record(tmp_path: Path, text: str | None) -> None:
    engine = tmp_path / "model.engine"
    if text is not None:
        record_path(engine).write_text(text)
    with pytest.raises(InvalidArtifact, match=r"model\.engine") as refusal:
        read_record(engine)
    assert "--to tensorrt" in refusal.value.hint


@GPU
def test_on_a_gpu_the_numbers_are_the_cpus(tiny_artifact: Artifact, tmp_path: Path) -> None:
    build_engine(tiny_artifact.file("onnx"), tmp_path, precision="f32")
    assert json.loads((tmp_path / "model.engine.json").read_text())["gpu"]
    config = EngineConfig(device="cuda", instances=2)
    engine = TensorRtEngine(tmp_path / "model.engine", tiny_artifact.manifest, config)
    reference = open_engine(tiny_artifact, "onnxruntime", EngineConfig()).narrow[0]
    for lane in engine.narrow:
        for picture in (BATCH, 255 - BATCH):
            got = lane.infer({"image": picture})["output0"]
            expected = reference.infer({"image": picture})["output0"]
            np.testing.assert_allclose(got, expected, atol=1e-4)
    engine.close()
