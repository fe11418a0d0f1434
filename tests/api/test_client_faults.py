"""Clients of services that refuse, are slow, break or are none: retries, deadlines, errors."""

from __future__ import annotations

import functools
import json
import socket
import time
from typing import Any

import pytest

import seatrial
from scripted_service import ANSWER, BROKEN, MODEL, OK, scripted
from seatrial.errors import (
    DeadlineExceeded,
    Overloaded,
    ServiceFailed,
)
from seatrial.serve.address import free_port
from served_application import Running
from service_clients import BUSY, listening, silence, url_of


def test_a_busy_service_is_asked_again(connect: Any) -> None:
    with scripted(BUSY, BUSY, OK) as service, connect(service.url) as client:
        assert len(client.detect(b"x")) == 0
        assert len(service.posted) == 3


def test_a_service_that_stays_busy(connect: Any) -> None:
    with scripted(BUSY) as service, connect(service.url, retries=2) as client:
        with pytest.raises(Overloaded, match="too much") as refusal:
            client.detect(b"x")
        assert (refusal.value.hint, refusal.value.wait_s) == ("later", 1.5)
        assert len(service.posted) == 3


def test_no_wait_goes_beyond_the_deadline(connect: Any) -> None:
    """A second that the service asks for is more than there is: the refusal is told at once."""
    slow = (503, {"Retry-After": "60"}, BUSY[2])
    with scripted(slow) as service, connect(service.url) as client:
        began = time.monotonic()
        with pytest.raises(Overloaded):
            client.detect(b"x", deadline_s=50)
        assert time.monotonic() - began < 40
        assert len(service.posted) == 1


def test_a_client_sends_few_of_its_requests_again(connect: Any) -> None:
    """However many retries a call may have: an overload is not multiplied."""
    with scripted(BUSY) as service, connect(service.url, retries=100, timeout_s=600) as client:
        budget = (client if connect is seatrial.Client else client._client)._calls._budget
        budget._left = 2.0
        for _ in range(10):
            with pytest.raises(Overloaded):
                client.detect(b"x")
        # Two that were left, and a tenth of ten.
        assert 12 <= len(service.posted) <= 13


@pytest.mark.parametrize("status", [400, 401, 404, 408, 413, 429, 500, 502, 504])
def test_nothing_else_is_asked_again(connect: Any, status: int) -> None:
    with scripted((status, {}, b"{}")) as service, connect(service.url) as client:
        with pytest.raises(ServiceFailed, match=f"answers {status}"):
            client.detect(b"x")
        assert len(service.posted) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            (502, {}, b"<html><title>502 Bad\n Gateway</title><body>...</body></html>"),
            r"detect answers 502 \(Bad Gateway\): 502 Bad Gateway$",
        ),
        ((301, {"Location": "https://other/"}, b""), "it has moved to https://other/"),
        ((200, {}, b"<html>"), "answers something else"),
        ((200, {}, b"[]"), "answers something else"),
        ((200, {}, b'{"image": {"width": 1, "height": 1}}'), "answers something else"),
        ((200, {}, ANSWER.replace(b"[]", b'[{"box": [0, 0, 1], "label": "x"}]')), "something else"),
        (
            (200, {}, ANSWER.replace(b"[]", b'[{"box": [0,0,1,1], "confidence": 1, '
                      b'"class_id": 99999999999999999999, "label": "x"}]')),
            "something else",
        ),
        ((404, {}, b'{"error": {"code": "Http404", "message": "Not Found"}}'), "404: Not Found"),
        ((500, {}, b'{"error": {"code": "InternalError", "message": "it failed"}}'), "it failed"),
        ((418, {}, b"\xff\xfe"), "answers 418"),
        ((599, {}, b""), "answers 599"),
    ],
)  # fmt: skip
def test_answers_that_are_not_a_services(connect: Any, answer: Any, message: str) -> None:
    with (
        scripted(answer) as service,
        connect(service.url) as client,
        pytest.raises(ServiceFailed, match=message),
    ):
        client.detect(b"x")


@pytest.mark.parametrize("answer", [(200, {}, b"hello"), (404, {}, b""), (200, {}, b'{"a": 1}')])
def test_a_service_that_is_no_detector(connect: Any, answer: Any) -> None:
    with scripted(OK) as service, connect(service.url) as client:
        service.model = answer
        for ask in (client.model, functools.partial(client.detect, b"x")):
            with pytest.raises(ServiceFailed, match="/model does not describe a detector"):
                ask()
        assert service.posted == []  # no image went there


def test_a_connection_that_breaks_is_tried_again(connect: Any) -> None:
    with scripted(BROKEN, BROKEN, OK) as service, connect(service.url) as client:
        client.detect(b"x")
        assert len(service.posted) == 3
    with scripted(BROKEN) as service, connect(service.url, retries=1) as client:
        with pytest.raises(ServiceFailed, match="the connection is closed without an answer"):
            client.detect(b"x")
        assert len(service.posted) == 2


def test_where_nothing_answers(connect: Any) -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with connect(url, retries=1) as client:
        for ask in (client.model, functools.partial(client.detect, b"x")):
            with pytest.raises(
                ServiceFailed, match=f"nothing answers at {url}: Connection refused"
            ):
                ask()
        assert not client.is_ready()
        with pytest.raises(ServiceFailed, match=r"not ready after 0.3 s: Connection refused"):
            client.wait_until_ready(0.3)


def test_another_model_behind_the_same_address(connect: Any) -> None:
    """Its class names are those of its answers, and of all its classes with the next image."""
    row = b'{"box": [0, 0, 1, 1], "confidence": 0.5, "class_id": 4, "label": "plane"}'
    answer = (200, {}, ANSWER.replace(b"[]", b"[" + row + b"]"))
    with scripted(answer) as service, connect(service.url) as client:
        found = client.detect(b"x")
        assert found.labels == ["plane"]
        assert found.names == ("red", "green", "blue", "3", "plane")
        labels = ["bike", "bus", "car", "cat", "plane"]
        service.model = (200, {}, json.dumps({**MODEL, "labels": labels}).encode())
        assert client.detect(b"x").names == tuple(labels)
        client.detect(b"x")
        assert service.described == 2


def test_a_deadline_while_all_lanes_are_held(connect: Any, served: Running, array: Any) -> None:
    with connect(url_of(served)) as client:
        client.detect(array)
        with served.lanes_held():
            began = time.monotonic()
            with pytest.raises((DeadlineExceeded, Overloaded)):
                client.detect(array, deadline_s=0.3)
            assert time.monotonic() - began < 30
        assert client.detect(array).labels == ["red"]


def test_the_service_is_told_what_is_left_after_retries(connect: Any) -> None:
    wait = (503, {"Retry-After": "1"}, BUSY[2])
    with scripted(wait, OK) as service, connect(service.url) as client:
        client.detect(b"x", deadline_s=20)
        first, second = (int(one["x-request-timeout-ms"]) for one in service.headers)
        assert second <= first - 1000


def trickle_headers(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.05)


def trickle_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def reads_slowly(connection: socket.socket) -> None:
    """Describes itself, then takes 2 KB of an upload every 50 ms."""
    connection.recv(65536)
    body = json.dumps(MODEL).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    while connection.recv(2048):
        time.sleep(0.05)


@pytest.mark.parametrize("serve", [silence, trickle_headers, trickle_body, reads_slowly])
def test_the_deadline_bounds_the_whole_call(connect: Any, serve: Any) -> None:
    with listening(serve) as url, connect(url, timeout_s=0.7, retries=5) as client:
        for options in ({}, {"deadline_s": 0.5}):
            seconds = options.get("deadline_s", 0.7)
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded, match=f"no answer from {url} within {seconds} s"):
                client.detect(b"x" * 30_000_000, **options)
            assert time.monotonic() - began < 5


def test_what_answers_is_not_http(connect: Any) -> None:
    def ssh(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        silence(connection)

    with (
        listening(ssh) as url,
        connect(url) as client,
        pytest.raises(ServiceFailed, match=r"no HTTP service .*: what answers there is not HTTP"),
    ):
        client.detect(b"x")
