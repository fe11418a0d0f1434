"""The routes of the Open Inference Protocol, and the form of its errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from open_inference import INFER, JSON_BYTES, error_of
from raw_http import read_response
from seatrial.deployment import Limits

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def test_a_service_tells_what_it_is(running: Running) -> None:
    told = running.client.get("/v2").json()
    assert told["name"] == "seatrial"
    assert {"binary_tensor_data", "model_configuration", "statistics"} <= set(told["extensions"])
    # KServe's client reads "live" and "ready"; the protocol's text has "live" for both.
    for path, expected in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"live": True, "ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny.graph/versions/1/ready", {"name": "tiny.graph", "ready": True}),
    ):
        response = running.client.get(path)
        assert (response.status_code, response.json()) == (200, expected)
        assert response.headers["content-type"] == "application/json"
    index = running.client.post("/v2/repository/index", json={"ready": True}).json()
    assert [(row["name"], row["version"], row["state"]) for row in index] == [
        ("tiny", "1", "READY"), ("tiny.graph", "1", "READY"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v2/models/tinny", 404, "there is no model 'tinny'; did you mean 'tiny'?"),
        ("GET", "/v2/models/tiny/versions/2", 404, "has no version '2'"),
        ("GET", "/v2/models/tiny/versions/x/config", 404, "has no version 'x'"),
        ("GET", "/v2/models/none/ready", 404, "there is no model"),
        ("POST", "/v2/models/none/infer", 404, "there is no model"),
        ("GET", "/v2/models/tiny/infer", 405, "Method Not Allowed"),
        ("POST", "/v2", 405, "Method Not Allowed"),
        ("GET", "/v2/nothing", 404, "Not Found"),
        ("POST", "/v2/repository/models/tiny/load", 404, "Not Found"),
        ("GET", "/v2/", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_told_in_the_protocols_form(
    running: Running, method: str, path: str, status: int, said: str
) -> None:
    response = running.client.request(method, path)
    assert response.status_code == status
    assert said in error_of(response)


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "9" * 30, "²".encode().decode("latin-1")])
def test_a_length_of_the_json_that_is_none(running: Running, length: str) -> None:
    response = running.client.post(
        INFER, content=b"{}", headers={JSON_BYTES: length.encode("latin-1")}
    )
    assert response.status_code == 400
    assert "is not a number of bytes" in error_of(response)


def test_a_full_service_refuses_before_the_body_is_sent(run_app: Callable[..., Any]) -> None:
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        connection.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()
        )
        status, headers, body = read_response(connection)
    assert status == 503
    assert "retry-after" in {name.lower() for name in headers}
    assert "wait or run already" in json.loads(body)["error"]
