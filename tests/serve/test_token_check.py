"""A service that needs tokens, on a real server: who has none learns nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.routing import Route

from raw_http import read_response
from seatrial.client.calls import Calls
from seatrial.deployment import Limits, Server
from seatrial.errors import Unauthorized

Running = Any
TOKEN = "0123456789abcdef" * 2
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}
OPEN = ("/livez", "/readyz", "/healthz")

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def closed(
    run_app: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(TOKEN)
    limits = Limits(body_bytes=2**18, connections=16, queue=1)
    with run_app(limits, server=Server(token_file=str(file))) as served:
        yield served


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not {"retry-after", "x-predicted-wait-ms"} & set(answer.headers)
    assert answer.json()["error"]["code"] == "Unauthorized"
    assert TOKEN not in answer.text


def test_every_route_but_the_probes_needs_a_token(closed: Running) -> None:
    routes: list[Route] = closed.app.router.routes
    for route in routes:
        path = route.path.replace("{model}", "tiny").replace("{version}", "1")
        for method in {"GET", "POST", "OPTIONS", *(route.methods or ())}:
            answer = closed.client.request(method, path)
            if path in OPEN:
                assert answer.status_code == (200 if method in ("GET", "HEAD") else 405)
            else:
                assert answer.status_code == 401, (method, path)
    assert closed.client.get("/no/such/route").status_code == 401


def test_the_error_has_the_form_of_its_protocol(closed: Running) -> None:
    refused(closed.client.get("/model"))
    answer = closed.client.post("/v2/models/tiny/infer", content=b"{}")
    assert answer.status_code == 401
    assert set(answer.json()) == {"error"}
    assert answer.headers["www-authenticate"] == "Bearer"


def test_with_a_token_all_is_as_before(closed: Running, photo: bytes) -> None:
    assert closed.client.post("/detect", content=photo, headers=AUTHORISED).status_code == 200
    assert closed.client.get("/model", headers=AUTHORISED).status_code == 200
    assert "token" not in closed.client.get("/model", headers=AUTHORISED).text


def test_each_is_counted(closed: Running, metric: Callable[..., float]) -> None:
    before = metric("seatrial_requests_total", route="other", code="401")
    closed.client.post("/detect", content=b"x")  # refused in front of the application
    closed.client.post("/detect", content=b"x" * 400_000)  # and in it
    closed.client.get("/model")
    assert metric("seatrial_requests_total", route="other", code="401") == before + 3


def test_no_byte_of_a_body_is_waited_for(closed: Running) -> None:
    for length in (b"100", b"200000000"):
        with closed.connect() as connection:
            head = b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n" % length
            connection.sendall(head)
            status, headers, _ = read_response(connection)
            assert status == 401
            assert ("connection" in headers) == (len(length) > 3)


def test_who_has_no_token_is_not_told_of_the_load(closed: Running, photo: bytes) -> None:
    """A full queue, and more connections than there may be: 401 for one, 503 for the other."""
    with closed.lanes_held():
        refused(closed.client.post("/detect", content=photo))
        busy = closed.client.post("/detect", content=photo, headers=AUTHORISED)
        assert busy.status_code == 503
        assert busy.json()["error"]["reason"] == "queue"


def test_too_many_connections_are_told_to_those_with_a_token(
    run_app: Callable[..., Any],
    tmp_path: Path,
    metric: Callable[..., float],
    until: Callable[[Callable[[], Any]], Any],
) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    token = f"Authorization: Bearer {TOKEN}\r\n".encode()
    server = Server(token_file=str(file))
    with (
        run_app(Limits(connections=16), server=server) as served,
        contextlib.ExitStack() as held,
    ):
        before = metric("seatrial_requests_present")
        for _ in range(16):
            connection = held.enter_context(served.connect())
            head = b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            connection.sendall(head + token + b"\r\n")
        until(lambda: metric("seatrial_requests_present") == before + 16)
        for headers, expected in ((b"", 401), (token, 503)):
            with served.connect() as connection:
                connection.sendall(b"GET /model HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
                status, found, body = read_response(connection)
            assert status == expected
            code = json.loads(body)["error"]["code"]
            assert code == {401: "Unauthorized", 503: "Http503"}[status]
            assert ("retry-after" in found) == (status == 503)
            assert ("www-authenticate" in found) == (status == 401)


def test_a_client_of_ours_shows_its_token(closed: Running, photo: bytes) -> None:
    import seatrial

    url = f"http://127.0.0.1:{closed.port}"
    with seatrial.Client(url, token=TOKEN) as client:
        client.detect(photo)
    with seatrial.Client(url) as client, pytest.raises(Unauthorized, match="no token"):
        client.detect(photo)
    with seatrial.Client(url, token="wrong" * 5) as client:
        with pytest.raises(Unauthorized) as caught:
            client.detect(photo)
        assert "wrong" not in str(caught.value) + caught.value.hint + repr(client)
    assert TOKEN not in repr(Calls(url, timeout_s=1, retries=0, token=TOKEN))


def test_no_metric_has_a_token(closed: Running) -> None:
    assert not any(
        TOKEN in str(sample.labels) for metric in REGISTRY.collect() for sample in metric.samples
    )
