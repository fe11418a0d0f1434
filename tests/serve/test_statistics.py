"""What each model did, whichever route asked for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from open_inference import images_body, post

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def test_statistics_count_both_models(running: Running, files: list[bytes]) -> None:
    def told(path: str) -> dict[str, Any]:
        rows = running.client.get(path).json()["model_stats"]
        return {row["name"]: row for row in rows}

    before, began_ns = told("/v2/models/stats"), time.perf_counter_ns()
    post(running, images_body(*files))
    running.client.post("/detect", content=files[0])
    post(running, images_body(b"hello"))
    after = told("/v2/models/stats")
    assert set(after) == {"tiny", "tiny.graph"}
    assert after["tiny.graph"] == before["tiny.graph"]
    new, old = after["tiny"], before["tiny"]
    assert new["inference_count"] - old["inference_count"] == 5
    stats, then = new["inference_stats"], old["inference_stats"]
    assert stats["success"]["count"] - then["success"]["count"] == 2
    # One request after the other: no more time than there was.
    assert 0 < stats["success"]["ns"] - then["success"]["ns"] < time.perf_counter_ns() - began_ns
    assert stats["fail"]["count"] - then["fail"]["count"] == 1
    for phase in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert stats[phase]["count"] - then[phase]["count"] == 5
        assert stats[phase]["ns"] > then[phase]["ns"]
    assert new["last_inference"] > old["last_inference"]
    assert told("/v2/models/tiny/versions/1/stats").keys() == {"tiny"}
