"""The two models of a service: each has one signature."""

from __future__ import annotations

from typing import Any

import pytest

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def test_each_model_has_one_signature(running: Running) -> None:
    detector = running.client.get("/v2/models/tiny").json()
    assert detector["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert {one["name"]: (one["datatype"], one["shape"]) for one in detector["outputs"]} == {
        "boxes": ("FP32", [-1, 4]), "scores": ("FP32", [-1]), "class_ids": ("INT64", [-1]),
        "labels": ("BYTES", [-1]), "counts": ("INT32", [-1]),
    }  # fmt: skip
    graph = running.client.get("/v2/models/tiny.graph/versions/1").json()
    assert graph["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [1, 64, 64, 3]}]
    assert [one["name"] for one in graph["outputs"]] == ["output0"]
