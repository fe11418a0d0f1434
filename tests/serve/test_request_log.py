"""The log of requests: one line each, whatever a request holds; none where it is not asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest


def test_each_request_is_a_line_with_its_outcome(
    run_app: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with run_app(engine="null", log_requests=True) as running:
        size = len(running.client.get("/model").content)
        running.client.post("/detect", content=b"no image", headers={"content-type": "image/png"})
        running.client.get('/a%0a{"status":200}')
    rows = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line[:1] == "{"]
    assert [(row["method"], row["path"], row["status"]) for row in rows] == [
        ("GET", "/model", 200), ("POST", "/detect", 415), ("GET", '/a\n{"status":200}', 404),
    ]  # fmt: skip
    assert rows[0]["bytes"] == size
    assert all(row["ms"] > 0 and row["client"] == "127.0.0.1" for row in rows)


def test_without_it_nothing_is_written(
    run_app: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    with run_app(engine="null") as running:
        running.client.get("/model")
    assert capfd.readouterr().err == ""
