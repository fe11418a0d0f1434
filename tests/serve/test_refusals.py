"""Refusals by the headers alone: their words, their count, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import math
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import pytest

from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.serve import connections, open_connections, refusals
from seatrial.serve.admission import Dispatcher, Refusal
from seatrial.serve.asked import Asked
from seatrial.serve.connections import SKIPPED_BYTES
from seatrial.serve.metrics import request_metrics
from seatrial.serve.protocols.error_body import error_body
from seatrial.serve.refusals import Standing
from seatrial.serve.request_log import RefusalLog
from seatrial.system.token_files import SERVER_TOKENS

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]
GET = b"GET /model HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /detect HTTP/1.1\r\nHost: x\r\n"
REFUSED = b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na"


pytestmark = pytest.mark.usefixtures("time_limit")


def test_each_is_counted_at_once(run_app: Callable[..., Any], metric: Metric) -> None:
    def counts() -> list[float]:
        return [
            metric("seatrial_requests_total", route="/detect", code="503"),
            metric("seatrial_request_seconds_count", code="503"),
            metric("seatrial_refusals_total", reason="queue"),
            metric("seatrial_model_requests_total", model="detector", outcome="failure"),
            metric("seatrial_variant_requests_total", variant="live", code="503"),
        ]

    variants = request_metrics().variants
    variants.set_share(0.5)  # beside a canary
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        for _ in range(5):
            before = counts()
            connection.sendall(REFUSED)
            assert read_response(connection)[0] == 503
            assert counts() == [value + 1 for value in before]
    variants.set_share(0)


def test_those_that_are_refused_together_do_not_come_again_together(
    run_app: Callable[..., Any],
) -> None:
    found = set()
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        for _ in range(60):
            connection.sendall(REFUSED)
            found.add(read_response(connection)[1]["retry-after"])
    assert found == {"1", "2"}


def refused(running: Running, sent: bytes) -> tuple[int, dict[str, str], Any]:
    with running.connect() as connection:
        connection.sendall(sent)
        return read_response(connection)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("length", [SKIPPED_BYTES + 1, 12 * 2**20])
def test_a_long_body_is_refused_with_the_end_of_the_connection(
    run_app: Callable[..., Any],
    metric: Metric,
    monkeypatch: pytest.MonkeyPatch,
    plain: bool,
    length: int,
) -> None:
    """Also one who sends all of it before it reads gets the answer, and no reset."""
    monkeypatch.setattr(open_connections, "REFUSES_S", 60.0 if plain else 0.0)
    field = b"" if plain else b"X:\r\n"
    long = POST + field + b"Content-Length: %d\r\n\r\n" % length
    before = metric("seatrial_refusals_total", reason="queue")
    # What a busy machine needs for the body; the end of one that sends nothing is tried elsewhere.
    monkeypatch.setattr(connections, "LINGER_S", 60.0)
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        assert refused(running, POST + b"Content-Length: 0\r\n\r\n")[0] == 503
        for _ in range(3):
            with running.connect() as connection:
                connection.sendall(long + bytes(length))
                status, headers, _ = read_response(connection)
                assert (status, headers["connection"]) == (503, "close")
                assert connection.recv(1) == b""
    assert metric("seatrial_refusals_total", reason="queue") == before + 4


@pytest.mark.parametrize("plain", [True, False])
def test_who_goes_on_sending_a_refused_body_is_hung_up_on(
    run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    monkeypatch.setattr(open_connections, "REFUSES_S", 60.0 if plain else 0.0)
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        assert refused(running, POST + b"Content-Length: 0\r\n\r\n")[0] == 503
        with running.connect() as connection:
            connection.sendall(POST + b"Content-Length: 999999999999\r\n\r\n")
            assert read_response(connection)[0] == 503
            assert connection.recv(1) == b""
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                while True:
                    connection.sendall(bytes(2**16))


def by_httpx(url: str, body: bytes) -> int:
    return httpx.post(url, content=body, timeout=60).status_code


def by_the_standard_library(url: str, body: bytes) -> int:
    address = httpx.URL(url)
    connection = http.client.HTTPConnection(address.host, address.port or 80, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", address.path, body)
        return connection.getresponse().status


def by_aiohttp(url: str, body: bytes) -> int:
    async def ask() -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=io.BytesIO(body)) as answer,
        ):
            return answer.status

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [by_httpx, by_the_standard_library, by_aiohttp])
@pytest.mark.parametrize("length", [104_000, SKIPPED_BYTES + 1, 8 * 2**20])
def test_clients_read_the_refusal_of_a_body_that_they_send(
    run_app: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[str, bytes], int],
    length: int,
) -> None:
    monkeypatch.setattr(open_connections, "REFUSES_S", 60.0)
    monkeypatch.setattr(connections, "LINGER_S", 60.0)
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        url = f"http://127.0.0.1:{running.port}/detect"
        assert [ask(url, bytes(length)) for _ in range(3)] == [503] * 3


PLAIN = POST + b"Content-Length: 7\r\n%s\r\n1234567"


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of decisions that were made; those that stand do so for an hour, and are no lines."""
    made: list[int] = []
    decide = Dispatcher.refusal

    def noted(self: Dispatcher, asked: Asked) -> Refusal | None:
        made.append(1)
        return decide(self, asked)

    monkeypatch.setattr(Dispatcher, "refusal", noted)
    monkeypatch.setattr(refusals, "STANDS_S", 3600.0)
    monkeypatch.setattr(open_connections, "REFUSES_S", 3600.0)
    monkeypatch.setattr(RefusalLog, "full_until_s", lambda self: math.inf)
    return made


def test_a_decision_stands_until_a_request_ends(
    run_app: Callable[..., Any], metric: Metric, decided: list[int], photo: bytes
) -> None:
    """And the answers by it are those that are made anew, with ids of their own."""
    sent = POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo

    def ask() -> tuple[int, dict[str, str], Any]:
        connection.sendall(sent)
        status, headers, body = read_response(connection)
        return status, headers, json.loads(body)

    before = metric("seatrial_requests_total", route="/detect", code="503")
    with run_app(Limits(queue=1)) as running, running.connect() as connection:
        with running.lanes_held():
            answers = [ask() for _ in range(5)]
            assert len(decided) == 1
            running.service.dispatcher.departures += 1
            answers.append(ask())
            assert len(decided) == 2
        assert ask()[0] == 200
        with running.lanes_held():
            assert ask()[0] == 503
    assert {status for status, _, _ in answers} == {503}
    names = {headers["x-request-id"] for _, headers, _ in answers}
    assert len(names) == len(answers)
    assert names == {answer["error"].pop("request_id") for _, _, answer in answers}
    assert all(answer == answers[0][2] for _, _, answer in answers)
    for _, headers, _ in answers:
        assert headers["traceparent"].split("-")[1] == headers["x-request-id"]
        assert {*headers} == {*answers[0][1]}
    assert metric("seatrial_requests_total", route="/detect", code="503") == before + 7


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        (b"X-Request-Id: a\r\n", 0),
        (b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", 0),
        (b"Accept: */*\r\nUser-Agent: b\r\n", 0),
        (b"X-Request-Timeout-Ms: 100\r\n", 1),
        (b"X-Request-Priority: batch\r\n", 1),
        (b"Content-Encoding: gzip\r\n", 1),
    ],
)
def test_a_request_that_asks_for_more_has_a_decision_of_its_own(
    run_app: Callable[..., Any], decided: list[int], fields: bytes, more: int
) -> None:
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        for one in (b"", b"", fields, b"", fields):
            connection.sendall(PLAIN % one)
            status, headers, body = read_response(connection)
            assert status == 503
            given = fields if one else b""
            if b"X-Request-Id" in given:
                assert headers["x-request-id"] == json.loads(body)["error"]["request_id"] == "a"
            if b"Traceparent" in given:
                assert headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
                assert headers["traceparent"].endswith("-01")
        assert len(decided) == 1 + 2 * more
        for path in (b"/detect.jpg", b"/detect"):
            connection.sendall(PLAIN.replace(b"/detect", path) % b"")
            assert read_response(connection)[0] == 503
        assert len(decided) == 1 + 2 * more + 2


def test_a_decision_of_another_size_or_time_does_not_stand(
    run_app: Callable[..., Any], decided: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (POST + b"Content-Length: %d\r\n\r\n" % n + bytes(n) for n in (7, 8))
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:

        def asked(sent: bytes) -> int:
            """Number of decisions for a request."""
            decided.clear()
            connection.sendall(sent)
            assert read_response(connection)[0] == 503
            return len(decided)

        asked(small)
        assert [asked(small), asked(large), asked(large)] == [0, 1, 0]
        monkeypatch.setattr(refusals, "STANDS_S", 0.0)
        running.service.dispatcher.departures += 1
        assert [asked(large), asked(large)] == [1, 1]


def test_a_decision_for_want_of_bytes_does_not_stand(
    run_app: Callable[..., Any], decided: list[int], photo: bytes
) -> None:
    """Fewer bytes of the same class of sizes may fit."""
    limits = Limits(body_bytes=len(photo) + 1, bytes_in_flight=2 * len(photo))
    larger = len(photo) + 1
    assert larger.bit_length() == len(photo).bit_length()
    with run_app(limits) as running, running.service.dispatcher.admit(Asked(len(photo))):
        status, _, body = refused(
            running, POST + b"Content-Length: %d\r\n\r\n" % larger + bytes(larger)
        )
        assert (status, json.loads(body)["error"]["reason"]) == (503, "bytes")
        fits = POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo
        assert refused(running, fits)[0] == 200


def test_who_has_no_token_is_not_refused_by_a_decision_that_stands(
    run_app: Callable[..., Any], decided: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVER_TOKENS, "a-token-of-sixteen-and-more")
    let_in = PLAIN % b"Authorization: Bearer a-token-of-sixteen-and-more\r\n"
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        for sent, status in ((let_in, 503), (let_in, 503), (let_in, 503), (PLAIN % b"", 401)):
            connection.sendall(sent)
            assert read_response(connection)[0] == status
    assert len(decided) == 1


def test_words_of_every_reason_are_json(
    run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are put into an answer as they are."""
    with run_app(Limits(queue=1, bytes_in_flight=1000, body_bytes=1000)) as running:
        dispatcher = running.service.dispatcher
        found = {}

        def ask(asked: Asked) -> None:
            refusal = dispatcher.refusal(asked)
            assert refusal is not None
            standing = Standing(dispatcher, 0, "/detect", None, refusal, lambda: None)
            fields, _, body = standing.answer("an-id", "a-parent", 7).partition(b"\r\n\r\n")
            assert b"content-length: %d" % len(body) in fields
            assert b"x-predicted-wait-ms: %.0f\r\n" % (1e3 * refusal.wait_s) in fields
            expected = error_body(
                "Overloaded", refusal.message, refusal.hint, refusal.reason, "an-id"
            )
            assert body == expected
            found[refusal.reason] = refusal.message

        with running.lanes_held():
            ask(Asked(10))
            ask(Asked(10, 1e-9))
            monkeypatch.setattr(dispatcher, "limits", Limits(queue=99, bytes_in_flight=1000))
            ask(Asked(2000))
            monkeypatch.setattr(type(dispatcher.detector.lanes), "usable", 0)
            ask(Asked(10))
    assert {*found} == {"queue", "deadline", "bytes", "lanes"}


def test_while_a_service_ends_the_application_answers_and_the_connection_ends(
    run_app: Callable[..., Any],
) -> None:
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        for ends in (False, True):
            running.service.health.draining = ends
            with running.connect() as connection:
                connection.sendall(REFUSED)
                status, headers, _ = read_response(connection)
            assert (status, headers.get("connection")) == (503, "close" if ends else None)
