"""What probes are told, and which connections end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seatrial.serve.health import Health

pytestmark = pytest.mark.usefixtures("time_limit")


def test_a_process_that_drains_is_alive_and_not_ready_and_ends_connections(
    run_app: Callable[..., Any], photo: bytes
) -> None:
    with run_app(engine="null") as running:
        health: Health = running.app.state.serving.live.health
        for probe in ("/livez", "/readyz", "/healthz"):
            assert running.client.get(probe).text == "ok\n"
        health.draining = True
        answers = {path: running.client.get(path) for path in ("/livez", "/readyz", "/nothing")}
        assert [answer.status_code for answer in answers.values()] == [200, 503, 404]
        assert answers["/readyz"].text == "the service ends\n"
        detected = running.client.post("/detect", content=photo)
        assert detected.status_code == 200
        for answer in (*answers.values(), detected):
            assert answer.headers.get_list("connection") == ["close"]
        health.draining = False
        assert "connection" not in running.client.get("/livez").headers


def test_without_a_lane_a_process_is_not_ready_and_its_failure_lasts() -> None:
    lanes, ended = [1], []
    health = Health(lambda: len(lanes))
    health.on_failure = lambda: ended.append(health.failure)
    assert health.unready() == ""
    lanes.clear()
    assert health.unready() == "no lane of the engine works at this moment"
    assert not health.failure
    health.fail("no lane of the engine works")
    lanes.append(1)
    assert health.unready() == "no lane of the engine works"
    assert ended == ["no lane of the engine works"]
