"""Heads that are refused before there is a request, and what comes of those that are taken."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from raw_http import CHUNKED, GET, POST, last_error, read_response
from seatrial.serve.exchange import Exchange
from seatrial.serve.http_protocol import PAUSE_BYTES, HttpProtocol
from seatrial.serve.one_write import OneWrite
from seatrial.serve.protocols.request_head import FIELDS, HEAD_BYTES

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")

VERSIONS = (b"0.9", b"1.2", b"1.9", b"2.0", b"2.1", b"3.0")


@pytest.mark.parametrize(
    ("sent", "words", "hint"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 is not spoken here", "server.grpc_port"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "looks like TLS", "use http,"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET, "PROXY protocol", "send-proxy"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\0" * 12, "PROXY protocol", "send-proxy"),
    ],
)
def test_what_speaks_another_protocol_is_told_which(
    running: Running, sent: bytes, words: str, hint: str
) -> None:
    with running.connect() as connection:
        _, error = last_error(connection, sent)
    assert words in error["message"]
    assert hint in error["hint"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        # No HTTP.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        *((b"GET / HTTP/%b\r\nHost: x\r\n\r\n" % one, 505) for one in VERSIONS),
        (b"GET /\r\n\r\n", 505),
        # The target.
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        # Host.
        (b"GET /model HTTP/1.1\r\n\r\n", 400),
        (GET + b"Host: x\r\n\r\n", 400),
        (GET + b"HOST: y\r\n\r\n", 400),
        (b"GET /model HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        (b"GET /model HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
        (b"GET /model HTTP/1.1\r\nHost: a@x\r\n\r\n", 400),
        (b"GET /model HTTP/1.1\r\nHost: x, y\r\n\r\n", 400),
        # Fields.
        (b"GET /model HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (GET + b"X: a\r\n b\r\n\r\n", 400),
        (GET + b"X\xff: a\r\n\r\n", 400),
        (GET + b"X: a\x00\r\n\r\n", 400),
        # Two lengths of one body.
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        (POST + b"Content-Length: 1, 1\r\n\r\na", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /detect HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        # Chunks.
        (CHUNKED + b"zz\r\n\r\n", 400),
        (CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\r\nabc\r\n0\r\n\r\n", 400),
        (CHUNKED + b"fffffffffffffffff\r\n", 400),
        # Size.
        (b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (GET + b"X: " + b"a" * HEAD_BYTES + b"\r\n\r\n", 431),
        (GET + b"a" * (2 * HEAD_BYTES), 431),
        (GET + b"X:\r\n" * FIELDS + b"\r\n", 431),
        (b"\r\n" * HEAD_BYTES, 431),
        (CHUNKED + b"1\r\na\r\n0\r\nX: " + b"a" * 2**20, 431),
    ],
)
def test_what_is_refused_gets_the_documented_error(
    running: Running, metric: Metric, sent: bytes, status: int
) -> None:
    before = metric("seatrial_requests_total", route="other", code=str(status))
    with running.connect() as connection:
        found, error = last_error(connection, sent)
    assert (found, error["code"]) == (status, f"Http{status}")
    assert set(error) == {"code", "message", "hint", "request_id"}
    assert not re.search(r"Error|Traceback|\.py|/\w+/", error["message"] + error["hint"])
    assert metric("seatrial_requests_total", route="other", code=str(status)) == before + 1


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /model HTTP/1.0\r\n\r\n",
        b"GET /model HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /model HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        b"GET /model HTTP/1.1\r\nHost: a_b.example:3000\r\n\r\n",
        b"GET http://x/model HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n" + GET + b"\r\n",
        GET + b"X: " + b"a" * (HEAD_BYTES - 200) + b"\r\n\r\n",
        GET + b"X:\r\n" * (FIELDS - 1) + b"\r\n",
    ],
)
def test_what_is_unusual_and_allowed_is_answered(running: Running, sent: bytes) -> None:
    with running.connect() as connection:
        connection.sendall(sent)
        assert read_response(connection)[0] == 200


def test_a_header_of_100_megabytes_is_not_taken(running: Running) -> None:
    """As much as the operating system keeps of it is sent, and no more is read after the answer."""
    with running.connect() as connection:
        connection.sendall(GET + b"X: ")
        sent = 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while sent < 10**12:  # the limit of the test ends it
                connection.sendall(b"a" * 2**16)
                sent += 2**16
                assert running.client.get("/model").status_code == 200
        assert sent


def test_trailers_do_not_become_headers(running: Running, photo: bytes) -> None:
    body = b"%x\r\n%s\r\n0\r\nX-Request-Timeout-Ms: nonsense\r\nX: %s\r\n\r\n"
    with running.connect() as connection:
        for _ in range(2):
            connection.sendall(CHUNKED + body % (len(photo), photo, b"a" * 1000))
            assert read_response(connection)[0] == 200


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pieces", ["whole", "head apart", "bytes"])
def test_an_offer_of_another_protocol_is_passed_over(
    running: Running, photo: bytes, chunked: bool, pieces: str
) -> None:
    """Java's client sends one with every POST, and the parser does not read its body."""
    half = len(photo) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(x), x) for x in (photo[:half], photo[half:]))
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(photo)
    body = chunks + b"0\r\n\r\n" if chunked else photo
    head = POST + UPGRADE + length + b"\r\n\r\n"
    behind = GET + UPGRADE + b"\r\n" + GET + b"\r\n"
    sent = {
        "whole": [head + body + behind],
        "head apart": [head, body + behind],
        "bytes": [*(head[i : i + 1] for i in range(len(head))), body[:3], body[3:], behind],
    }[pieces]
    with running.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in sent:
            connection.sendall(part)
        with connection.makefile("rb") as answers:
            status, answer = read_answer(answers)
            assert (status, len(json.loads(answer)["detections"])) == (200, 1)
            assert [read_answer(answers)[0] for _ in range(2)] == [200, 200]


def read_answer(answers: Any) -> tuple[int, bytes]:
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
        assert name.lower() != b"connection"
    return status, answers.read(length)


def test_http_1_0_gets_no_interim_answer(running: Running, photo: bytes) -> None:
    asked = POST.replace(b"1.1", b"1.0") + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with running.connect() as connection:
        connection.sendall(asked % len(photo) + photo)
        assert read_response(connection)[0] == 200


def test_an_offer_is_the_last_request_where_the_client_says_so(
    running: Running, photo: bytes
) -> None:
    offer = UPGRADE.replace(b"Upgrade, ", b"Upgrade, close, ")
    sent = POST + offer + b"Content-Length: %d\r\n\r\n" % len(photo)
    with running.connect() as connection:
        connection.sendall(sent + photo + GET + b"\r\n")
        status, headers, _ = read_response(connection)
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""


def test_what_follows_a_request_is_answered_after_it(running: Running, photo: bytes) -> None:
    """uvicorn sends its 400 at once: the client takes it for the answer to the request before."""
    with running.connect() as connection:
        connection.sendall(
            POST + b"Content-Length: %d\r\n\r\n" % len(photo) + photo + b"no HTTP\r\n"
        )
        with connection.makefile("rb") as answers:
            status, body = read_answer(answers)
            assert status == 200
            assert json.loads(body)["detections"]
            assert answers.readline().startswith(b"HTTP/1.1 400 ")


def test_a_broken_body_is_one_answer(running: Running, until: Until) -> None:
    """A request that the application is reading: it has gone, and nothing follows the error."""
    with running.connect() as connection:
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        until(lambda: running.detector.lanes.present == 1)
        connection.sendall(b"nonsense\r\n")
        assert read_response(connection)[0] == 400
        assert connection.recv(1) == b""
    until(lambda: running.detector.lanes.present == 0)


def test_connections_are_counted(running: Running, metric: Metric, until: Until) -> None:
    def of_the_client_alone() -> bool:  # those of other tests may still be there
        running.client.get("/livez")
        return metric("seatrial_connections") == 1

    until(of_the_client_alone)
    with running.connect():
        until(lambda: metric("seatrial_connections") == 2)
    until(lambda: metric("seatrial_connections") == 1)


def test_an_answer_is_one_write_and_a_body_is_read_without_a_pause(
    running: Running, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be a system call, and a wake-up of the client or of the service.

    Where an answer is not written whole (`seatrial.serve.exchange`), its head is held for its body.
    """
    monkeypatch.setattr(Exchange, "answer", lambda *_: None)
    written: list[bytes] = []
    paused: list[int] = []
    write = OneWrite.write
    pause = FlowControl.pause_reading

    def noted(self: OneWrite, data: bytes) -> None:
        if self._begun:  # and before the client can have it
            written.append(data[:5])
        write(self, data)

    def counted(self: FlowControl) -> None:
        paused.append(1)
        pause(self)

    monkeypatch.setattr(OneWrite, "write", noted)
    monkeypatch.setattr(FlowControl, "pause_reading", counted)
    large = photo + bytes(PAUSE_BYTES - len(photo))  # data behind the end of a JPEG are ignored
    with running.connect() as connection:
        for _ in range(3):
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(large) + large)
            status, _, body = read_response(connection)
            assert (status, json.loads(body)["detections"] != []) == (200, True)
    assert written == [b'{"ima'] * 3  # the heads are held until then
    assert paused == []


def test_an_answer_without_a_body_is_written_when_it_is_complete(
    running: Running, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """The refusal of the next request, which is written at once, would come before it."""
    held: list[bytes] = []
    answered = HttpProtocol._answered

    def noted(self: HttpProtocol, *args: Any) -> None:
        answered(self, *args)
        held.append(self.cycle.transport._held)

    monkeypatch.setattr(HttpProtocol, "_answered", noted)
    with running.connect() as connection:
        connection.sendall(b"HEAD /model HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        until(lambda: held)  # the client may be faster than the end of the write
    assert held == [b""]


def test_many_requests_that_come_at_once_are_no_long_head(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are answered, and so is the next one."""
    one = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    times = 2 * HEAD_BYTES // len(one)
    behind = [one * (times - 1)]
    received = HttpProtocol.data_received

    def at_once(self: HttpProtocol, data: bytes | memoryview) -> None:
        received(self, bytes(data) + (behind.pop() if behind else b""))

    monkeypatch.setattr(HttpProtocol, "data_received", at_once)
    with running.connect() as connection:
        for expected in (times, 1):
            connection.sendall(one)
            answers = b""
            while answers.count(b"ok\n") < expected:
                answers += (read := connection.recv(65536))
                assert read
