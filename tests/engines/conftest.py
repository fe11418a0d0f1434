"""Artifacts with a TensorRT engine that only its record is real of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Artifact, Store
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
