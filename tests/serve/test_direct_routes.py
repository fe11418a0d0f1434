"""Requests that are answered without the layers of the application, and those that are not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from raw_http import CHUNKED, POST, read_response
from seatrial.deployment import Server
from seatrial.serve.connections import SKIPPED_BYTES
from seatrial.serve.direct_routes import DirectRoutes

Running = Any
Metric = Callable[..., float]
OWN = ("date", "traceparent", "x-request-id", "server-timing")  # of each answer
TOKEN = "t" * 32

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests that went through the layers."""
    paths: list[str] = []
    through = Starlette.__call__

    async def noted(self: Starlette, scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope.get("path", ""))
        await through(self, scope, receive, send)

    monkeypatch.setattr(Starlette, "__call__", noted)
    return paths


def form(photo: bytes) -> dict[str, Any]:
    return {"files": {"image": ("a.jpg", photo, "image/jpeg")}}


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/detect", lambda photo: {"content": photo}),
        ("/detect?confidence=0.9&max_detections=1", lambda photo: {"content": photo}),
        ("/detect.jpg", lambda photo: {"content": photo}),
        ("/detect", form),
        ("/detect", lambda photo: {"content": photo, "headers": {"traceparent": "no"}}),
        ("/detect", lambda photo: {"content": b""}),
        ("/detect", lambda photo: {"content": photo[:-99]}),
        ("/detect", lambda photo: {"content": bytes(2**18 + 1)}),
        ("/detect?none=1", lambda photo: {"content": photo}),
        ("/detect", lambda photo: {"content": photo, "headers": {"X-Request-Priority": "no"}}),
        ("/detect", lambda photo: {"content": photo, "headers": {"Content-Type": "text/html"}}),
    ],
)
def test_an_answer_is_the_same_as_through_the_layers(
    running: Running,
    photo: bytes,
    layers: list[str],
    monkeypatch: pytest.MonkeyPatch,
    metric: Metric,
    path: str,
    asked: Callable[[bytes], dict[str, Any]],
) -> None:
    def counts() -> list[float]:
        codes = ("200", "400", "413", "415", "422")
        route = path.partition("?")[0]
        return [
            *(metric("seatrial_requests_total", route=route, code=code) for code in codes),
            metric("seatrial_stage_seconds_count", stage="total"),
            metric("seatrial_body_bytes_sum"),
            metric("seatrial_detections_total"),
        ]

    found = []
    for direct in (True, False):
        if not direct:
            monkeypatch.setattr(DirectRoutes, "_passes", lambda *_: False)
        before = counts()
        answer = running.client.post(path, **asked(photo))
        counted = asyncio.run_coroutine_threadsafe(_give(counts), running.loop).result(30)
        body: Any = answer.content
        if answer.headers["content-type"] == "application/json":
            body = json.loads(body)
            for part in (body, body.get("error", {})):
                part.pop("timing_ms", None)
                part.pop("request_id", None)
        fields = [
            (name, "" if name in (*OWN, "content-length") else value)
            for name, value in answer.headers.items()
        ]
        change = [after - was for after, was in zip(counted, before, strict=True)]
        found.append((answer.status_code, fields, body, change))
    assert found[0] == found[1]
    assert sum(found[0][3][:5]) == 1
    assert layers == [path.partition("?")[0]]


async def _give(value: Callable[[], Any]) -> Any:
    return value()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /detect HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /detect/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        CHUNKED + b"0\r\n\r\n",
        POST + b"Content-Length: %d\r\n\r\n" % (SKIPPED_BYTES + 1),
        POST + b"Content-Length: 0\r\nExpect: 100-continue\r\n\r\n",
    ],
)
def test_where_a_layer_has_a_part_it_takes_it(
    running: Running, layers: list[str], sent: bytes
) -> None:
    with running.connect() as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b"H"
    assert len(layers) == 1


@pytest.fixture(params=["tokens", "pages", "log"])
def marked(
    request: pytest.FixtureRequest, run_app: Callable[..., Any], tmp_path: Path
) -> Iterator[tuple[str, Running]]:
    """A service some of whose requests a layer has a part in."""
    (tmp_path / "tokens").write_text(TOKEN)
    options: dict[str, Any] = {
        "tokens": {"server": Server(token_file=str(tmp_path / "tokens"))},
        "pages": {"server": Server(cors_origins=("https://app.example.com",))},
        "log": {"log_requests": True},
    }[request.param]
    with run_app(engine="null", **options) as served:
        yield request.param, served


def test_tokens_pages_and_the_log_have_their_part(
    marked: tuple[str, Running], photo: bytes, layers: list[str]
) -> None:
    kind, running = marked
    origin = {"Origin": "https://app.example.com"}
    answer = running.client.post("/detect", content=photo, headers=origin)
    assert answer.status_code == (401 if kind == "tokens" else 200)
    assert ("access-control-allow-origin" in answer.headers) == (kind == "pages")
    # A token is refused before the application sees it, here.
    assert len(layers) == (0 if kind == "tokens" else 1)
    if kind == "tokens":
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert running.client.post("/detect", content=photo, headers=known).status_code == 200
        assert layers == []


def test_a_token_that_only_the_application_sees_is_looked_at(
    run_app: Callable[..., Any], tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens").write_text(TOKEN)
    with run_app(engine="null", server=Server(token_file=str(tmp_path / "tokens"))) as running:
        monkeypatch.setattr("seatrial.serve.http_protocol.HttpProtocol._refuse_early", lambda _: 0)
        assert running.client.post("/detect", content=photo).status_code == 401


def test_a_fault_is_answered_once_and_ends_the_connection(
    running: Running, photo: bytes, monkeypatch: pytest.MonkeyPatch, metric: Metric
) -> None:
    def fails(*_: object) -> None:
        raise LookupError("of no interest")

    before = metric("seatrial_requests_total", route="/detect", code="500")
    monkeypatch.setattr("seatrial.serve.app.query_options", fails)
    with running.connect() as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo)
        status, headers, body = read_response(connection)
        assert (status, headers["connection"]) == (500, "close")
        assert json.loads(body)["error"]["code"] == "InternalError"
        assert connection.recv(1) == b""
    assert metric("seatrial_requests_total", route="/detect", code="500") == before + 1


def test_a_fault_behind_the_answer_leaves_it_as_it_is(
    running: Running, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise LookupError("of no interest")

    monkeypatch.setattr(type(running.service.metrics), "answered", fails)
    with running.connect() as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo)
        status, _, body = read_response(connection)
        assert (status, len(json.loads(body)["detections"])) == (200, 1)
        assert connection.recv(1) == b""  # the server ends it


def test_the_answer_to_a_request_that_is_there_when_the_service_ends_says_so(
    run_app: Callable[..., Any], photo: bytes, until: Callable[[Callable[[], Any]], Any]
) -> None:
    found: list[Any] = []
    with run_app() as running:

        def ask() -> None:
            with running.connect() as connection:
                connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo)
                found.append(read_response(connection))
                found.append(connection.recv(1))

        asking = threading.Thread(target=ask)
        with running.lanes_held():
            asking.start()
            until(lambda: running.detector.lanes.waiting)
            running.app.state.serving.health.draining = True
        asking.join(60)
    (status, headers, _), end = found
    assert (status, headers["connection"], end) == (200, "close", b"")
