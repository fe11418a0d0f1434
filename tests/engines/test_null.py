from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.engines.base import EngineConfig
from seatrial.engines.null import NullEngine
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable

ONE = np.zeros((1, 64, 64, 3), np.uint8)


def test_answers_with_zeros_of_the_graphs_shapes(tiny_artifact: Artifact) -> None:
    engine = open_engine(tiny_artifact, "null", EngineConfig(instances=2, wide_threads=4))
    assert (engine.name, engine.device, engine.precision) == ("null", "cpu", "none")
    assert [lane.threads for lane in engine.narrow] == [1, 1]
    assert engine.wide is not None
    assert engine.wide.threads == 4
    for lane in (*engine.narrow, engine.wide):
        (output,) = lane.infer({"image": ONE}).values()
        assert output.shape == tiny_artifact.manifest.outputs[0].shape
        assert not output.any()
    assert "computes nothing" in engine.properties()["note"]
    engine.close()


def test_takes_no_other_device(tiny_artifact: Artifact) -> None:
    with pytest.raises(DeviceUnavailable, match="cuda"):
        open_engine(tiny_artifact, "null", EngineConfig(device="cuda"))


def test_reads_no_model_file(tiny_artifact: Artifact) -> None:
    NullEngine(Path("/nowhere"), tiny_artifact.manifest, EngineConfig())


def test_an_open_batch_is_answered_for_one_image(tiny_artifact: Artifact) -> None:
    manifest = tiny_artifact.manifest
    (output,) = manifest.outputs
    open_batch = msgspec.structs.replace(output, shape=(-1, *output.shape[1:]))
    engine = NullEngine(
        Path("/nowhere"),
        msgspec.structs.replace(manifest, outputs=(open_batch,)),
        EngineConfig(),
    )
    (answer,) = engine.narrow[0].infer({"image": ONE}).values()
    assert answer.shape == (1, *output.shape[1:])
    assert answer.dtype == np.dtype(output.dtype)


def test_an_output_without_rows_stays_without(tiny_artifact: Artifact) -> None:
    manifest = tiny_artifact.manifest
    none = msgspec.structs.replace(manifest.outputs[0], shape=(1, 0, 6))
    changed = msgspec.structs.replace(manifest, outputs=(none,))
    (answer,) = (
        NullEngine(Path("/nowhere"), changed, EngineConfig())
        .narrow[0]
        .infer({"image": ONE})
        .values()
    )
    assert answer.shape == (1, 0, 6)


def test_a_batch_is_answered_for_each_of_its_images(tiny_artifact: Artifact) -> None:
    (output,) = tiny_artifact.manifest.outputs
    open_batch = msgspec.structs.replace(output, shape=(-1, *output.shape[1:]))
    changed = msgspec.structs.replace(tiny_artifact.manifest, outputs=(open_batch,))
    engine = NullEngine(Path("/nowhere"), changed, EngineConfig(max_batch=4))
    for size in (1, 3, 4):
        (answer,) = engine.narrow[0].infer({"image": np.concatenate([ONE] * size)}).values()
        assert answer.shape == (size, *output.shape[1:])
