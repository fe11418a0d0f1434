"""Lanes of the null engine; artifacts with a TensorRT engine of which only the record is real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.lane_requests import WIDE

from seatrial.artifact import Artifact, Store
from seatrial.engines.base import EngineConfig
from seatrial.engines.lanes import Lanes
from seatrial.engines.null import NullEngine
from seatrial.engines.tensorrt import EngineRecord, record_path


@pytest.fixture(scope="session")
def record() -> EngineRecord:
    """Of an engine for an L4, half precision."""
    return EngineRecord(
        gpu="NVIDIA L4",
        compute_capability="8.9",
        tensorrt="11.4.0",
        onnx_sha256="0" * 64,
        precision="f16",
        tf32=False,
        timing_cache="timing.cache",
        build_s=12.5,
    )


@pytest.fixture
def built(tiny_artifact: Artifact, record: EngineRecord, tmp_path: Path) -> Callable[..., Artifact]:
    """Makes an artifact whose engine file holds ``an engine``; changes are those of its record."""

    def make(**changes: Any) -> Artifact:
        store = Store(tmp_path / "engine-store")
        with store.staging() as folder:
            (folder / "model.engine").write_bytes(b"an engine")
            changed = msgspec.structs.replace(record, **changes)
            record_path(folder / "model.engine").write_bytes(msgspec.json.encode(changed))
            manifest = msgspec.structs.replace(
                tiny_artifact.manifest, formats={"tensorrt": "model.engine"}, precision="f16"
            )
            return store.commit(folder, manifest)

    return make


@pytest.fixture
def make_lanes(tiny_artifact: Artifact) -> Callable[..., Lanes]:
    """Makes lanes of the null engine: as many narrow ones as asked for, and a wide one."""

    def make(narrow: int = 2, *, wide: bool = True) -> Lanes:
        config = EngineConfig(instances=narrow, threads=1, wide_threads=WIDE if wide else 0)
        return Lanes(NullEngine(Path("unused"), tiny_artifact.manifest, config))

    return make
