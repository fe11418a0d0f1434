"""The models of the Python backend, without a server; `test_triton_process.py` has one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.serve.triton.python_model import DetectorModel, GraphModel
from seatrial.serve.triton.repository import write_repository
from triton_backend import NAME, Request, TritonError, backend

ALL = ["boxes", "scores", "class_ids", "labels", "counts"]
LIMITS = Limits(images=2, detections=5)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the models log; the backend's module is there."""
    lines: list[str] = []
    logger = type("Logger", (), {"log_error": staticmethod(lines.append)})
    monkeypatch.setitem(sys.modules, NAME, backend(Logger=logger))
    return lines


def opened(kind: Any, artifact: Artifact, folder: Path) -> Any:
    deployment = Deployment(
        str(artifact.path), layout=CoreLayout(1, 2, 1), limits=LIMITS, engine="onnxruntime"
    )
    packaged = write_repository(folder, artifact, deployment, backend="python")
    name = packaged.models[0 if kind is DetectorModel else 1].name
    model = kind()
    model.initialize(
        {
            "model_repository": str(folder / name),
            "model_version": "1",
            "model_config": json.dumps({"parameters": {}}),
        }
    )
    return model


def images(*files: bytes) -> dict[str, Any]:
    return {"image": np.array(files, np.object_)}


def test_detector(
    tiny_artifact: Artifact, tmp_path: Path, files: list[bytes], logged: list[str]
) -> None:
    model = opened(DetectorModel, tiny_artifact, tmp_path / "repository")
    assert len(model._detector.engine.narrow) == 1  # a process is a lane
    assert model._detector.engine.wide is None

    def ask(*given: bytes, wanted: list[str] = ALL, **parameters: object) -> Any:
        (answer,) = model.execute([Request(images(*given), wanted, **parameters)])
        return answer

    def refused(*given: bytes, **parameters: object) -> str:
        error = ask(*given, **parameters).error()
        assert error.code == TritonError.INVALID_ARG
        return str(error.message())

    found = ask(*files[:2]).tensors
    assert found["counts"].tolist() == [2, 0]
    assert {*found["labels"].tolist()} == {b"red", b"blue"}
    assert found["boxes"].shape == (2, 4)
    assert list(ask(files[0], wanted=["scores"]).tensors) == ["scores"]
    assert ask(files[0], timeout=5, priority=2, confidence=1.0).tensors["counts"].tolist() == [0]
    assert "did you mean 'iou'?" in refused(files[0], iuo=0.5)
    assert "must be a whole number <= 300" in refused(files[0], max_detections=1000)
    assert "may have 1 to 2; send fewer" in refused(*files[:3])
    assert "may have 1 to 2" in refused()
    assert refused(files[0], b"hello").startswith("image 1: the file is not in a known")
    # What nobody foresaw is an answer, too, and its words stay here.
    (answer,) = model.execute([Request({}, ALL)])
    assert answer.error().message() == "the model failed: see the log"
    assert logged == ["StopIteration: "]
    model.finalize()


def test_graph(tiny_artifact: Artifact, tmp_path: Path, logged: list[str]) -> None:
    model = opened(GraphModel, tiny_artifact, tmp_path / "repository")
    canvas = np.full((1, 64, 64, 3), 114, np.uint8)
    (answer,) = model.execute([Request({"image": canvas}, ["output0"])])
    assert answer.tensors["output0"].shape == (1, 7, 64)
    (nothing,) = model.execute([Request({"image": canvas}, [])])
    assert nothing.tensors == {}
    model.finalize()
    assert logged == []
