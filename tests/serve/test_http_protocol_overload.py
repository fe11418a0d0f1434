"""Refusals under overload, which the application does not see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from raw_http import POST, read_response
from seatrial.deployment import Limits
from seatrial.serve import open_connections
from seatrial.serve.one_by_one import RequestsInTurn

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")


def refused(running: Running, sent: bytes) -> tuple[int, dict[str, str], Any]:
    with running.connect() as connection:
        connection.sendall(sent)
        return read_response(connection)


@pytest.mark.parametrize("target", ["/detect", "/detect.jpg", "/detect?confidence=0.5"])
def test_an_overloaded_service_refuses_round_the_application_in_the_same_words(
    run_app: Callable[..., Any], metric: Metric, until: Until, photo: bytes, target: str
) -> None:
    """A body that may be long goes to the application: the two answers differ in nothing."""
    line = f"POST {target} HTTP/1.1\r\nHost: x\r\n".encode()
    route = target.partition("?")[0]

    def counted() -> tuple[float, float, float]:
        return (
            metric("seatrial_requests_total", route=route, code="503"),
            metric("seatrial_refusals_total", reason="queue"),
            metric("seatrial_request_seconds_count", code="503"),
        )

    with run_app(Limits(queue=1)) as running, running.lanes_held():
        before = counted()
        early = refused(running, line + b"Content-Length: %d\r\n\r\n" % len(photo) + photo)
        until(lambda: counted() != before)  # it is counted a moment later
        after = counted()
        late = refused(running, line + b"Transfer-Encoding: chunked\r\n\r\n")
    assert early[0] == late[0] == 503
    errors = [json.loads(body)["error"] for _, _, body in (early, late)]
    assert len({error.pop("request_id") for error in errors}) == 2
    assert errors[0] == errors[1]
    assert errors[0]["code"] == "Overloaded"
    assert {*late[1]} == {*early[1], "connection"}
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_a_refusal_of_http_1_0_ends_the_connection(
    run_app: Callable[..., Any], photo: bytes
) -> None:
    """Its client reads until the end, whatever it asked for: ApacheBench would wait for ever."""
    head = POST.replace(b"1.1", b"1.0") + b"Connection: Keep-Alive\r\nContent-Length: %d\r\n\r\n"
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        for _ in range(2):  # the second one in the second after a refusal
            with running.connect() as connection:
                connection.sendall(head % len(photo) + photo)
                status, headers, _ = read_response(connection)
                assert (status, headers["connection"]) == (503, "close")
                assert connection.recv(1) == b""


def test_under_overload_plain_requests_are_refused_without_the_parser(
    run_app: Callable[..., Any],
    metric: Metric,
    until: Until,
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And however their bytes come, the next request begins where it does."""
    parsed: list[int] = []
    parse = RequestsInTurn._parse

    def noted(self: RequestsInTurn, data: bytes | memoryview) -> bool:
        parsed.append(len(data))
        return parse(self, data)

    monkeypatch.setattr(RequestsInTurn, "_parse", noted)
    monkeypatch.setattr(open_connections, "REFUSES_S", 60.0)
    one = POST + b"X-Request-Id: a\r\nContent-Length: %d\r\n\r\n" % len(photo) + photo
    before = metric("seatrial_refusals_total", reason="queue")
    with run_app(Limits(queue=1)) as running, running.connect() as connection:

        def answers(times: int) -> list[bytes]:
            found, bodies = b"", []
            while len(bodies) < times:
                more = connection.recv(65536)
                assert more
                found += more
                bodies = re.findall(rb"HTTP/1\.1 503 .*?\r\n\r\n({.*?}})", found, re.DOTALL)
            return bodies

        with running.lanes_held():
            connection.sendall(one)
            first = answers(1)
            until(lambda: sum(parsed) == len(one))
            parsed.clear()
            connection.sendall(one[:-9])
            assert answers(1) == first
            connection.sendall(one[-9:])
            connection.sendall(one)
            assert answers(1) == first
            assert not parsed
            connection.sendall(one * 3)
            assert answers(3) == first * 3
            # A head that comes in two parts takes the parser's way.
            connection.sendall(one[:20])
            until(lambda: parsed == [20])
            connection.sendall(one[20:] + one)
            assert answers(2) == first * 2
        until(lambda: metric("seatrial_refusals_total", reason="queue") == before + 8)
        connection.sendall(one)
        assert read_response(connection)[0] == 200
        connection.sendall(POST + b"Content-Length: 0\r\nHost: y\r\n\r\n")
        assert read_response(connection)[0] == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"X-Request-Timeout-Ms: soon\r\n", 400),
        (b"X-Request-Priority: high\r\n", 400),
        (b"Connection: close\r\n", 503),
        (b"Expect: 100-continue\r\n", 503),
    ],
)
def test_what_is_more_than_a_short_refusal_is_left_to_the_application(
    run_app: Callable[..., Any], photo: bytes, fields: bytes, status: int
) -> None:
    sent = POST + fields + b"Content-Length: %d\r\n\r\n" % len(photo) + photo
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        assert refused(running, sent)[0] == status
        assert (
            refused(running, b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")[0]
            == 404
        )


def test_a_service_that_ends_refuses_with_the_end_of_the_connection(
    run_app: Callable[..., Any], photo: bytes
) -> None:
    """Round the application, the client would send its next request into a closed connection."""
    sent = POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        assert "connection" not in refused(running, sent)[1]
        running.app.state.serving.live.health.draining = True
        status, headers, _ = refused(running, sent)
        assert (status, headers["connection"]) == (503, "close")
