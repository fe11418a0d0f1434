"""An engine whose graph another model runs; `test_triton_process.py` has a real one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.engines.base import Engine
from seatrial.errors import EngineFailed
from seatrial.serve.triton.graph_lane import GraphEngine
from triton_backend import InferenceResponse, Tensor, TritonError, backend


def engine(artifact: Artifact, answer: Any) -> GraphEngine:
    asked: list[dict[str, Any]] = []

    class Asked:
        def __init__(self, **words: Any) -> None:
            asked.append(words)

        def exec(self) -> Any:
            return answer(asked[-1])

    module = backend(
        InferenceRequest=Asked, PreferredMemory=lambda kind: kind, TRITONSERVER_MEMORY_CPU="cpu"
    )
    return GraphEngine("tiny.graph", artifact.manifest, module)


def test_the_model_is_asked_for_its_outputs(tiny_artifact: Artifact) -> None:
    def answer(asked: dict[str, Any]) -> InferenceResponse:
        assert asked["model_name"] == "tiny.graph"
        assert asked["requested_output_names"] == ["output0"]
        (given,) = asked["inputs"]
        return InferenceResponse([Tensor("output0", given.as_numpy() + 1)])

    made = engine(tiny_artifact, answer)
    engine_like: Engine = made
    assert engine_like.inputs == tiny_artifact.manifest.inputs
    found = made.narrow[0].infer({"image": np.zeros(2)})
    assert found["output0"].tolist() == [1.0, 1.0]
    assert made.properties() == {}
    made.close()
    assert made.narrow == ()


def test_an_error_of_the_model_is_one_of_the_engine(tiny_artifact: Artifact) -> None:
    failed = InferenceResponse([], TritonError("Exceeds maximum queue size"))
    with pytest.raises(EngineFailed, match=r"tiny\.graph failed: Exceeds maximum queue size"):
        engine(tiny_artifact, lambda asked: failed).narrow[0].infer({})
