"""What comes before there is a request: heads that are refused, and waits that end."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image
from uvicorn.protocols.http.flow_control import FlowControl

from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.serve import open_connections
from seatrial.serve.connections import SKIPPED_BYTES
from seatrial.serve.http_protocol import HttpProtocol
from seatrial.serve.one_write import OneWrite
from seatrial.serve.protocols.request_head import FIELDS, HEAD_BYTES

Running = Any
Metric = Callable[..., float]
Until = Callable[[Callable[[], Any]], Any]
GET = b"GET /model HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /detect HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

pytestmark = pytest.mark.usefixtures("time_limit")


def asked(running: Running, sent: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of the answer; the connection has to end, without a reset."""
    with running.connect() as connection:
        connection.sendall(sent)
        status, headers, body = read_response(connection)
        assert headers["connection"] == "close"
        assert headers["content-type"] == "application/json"
        assert connection.recv(1) == b""
    return status, json.loads(body)["error"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        # No HTTP.
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
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
    found, error = asked(running, sent)
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
        status, _, body = read_response(connection)
        assert status == 200
        assert json.loads(body)["detections"]
        assert connection.recv(1) == b""


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
    """Each would be a system call, and a wake-up of the client or of the service."""
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
    large = photo + bytes(SKIPPED_BYTES - len(photo))  # data behind the end of a JPEG are ignored
    with running.connect() as connection:
        for _ in range(3):
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(large) + large)
            status, _, body = read_response(connection)
            assert (status, json.loads(body)["detections"] != []) == (200, True)
    assert written == [b'{"ima'] * 3  # the heads are held until then
    assert paused == []


@pytest.fixture(scope="module")
def short(run_app: Callable[..., Any]) -> Iterator[Running]:
    """An application that waits only a moment for its clients."""
    with run_app(Limits(header_s=0.2, idle_s=0.2)) as running:
        yield running


def test_who_says_nothing_is_hung_up_on(short: Running, metric: Metric) -> None:
    before = metric("seatrial_connections_closed_total", reason="head")
    with short.connect() as connection:
        assert connection.recv(1) == b""
    assert metric("seatrial_connections_closed_total", reason="head") == before + 1


@pytest.mark.parametrize("part", [b"G", GET, b"\r\n" + GET + b"X: a"])
def test_headers_that_do_not_end_in_time(short: Running, part: bytes) -> None:
    status, error = asked(short, part)
    assert (status, error["code"]) == (408, "Http408")


def test_slow_headers_are_not_given_more_time(short: Running) -> None:
    began = time.monotonic()
    with short.connect() as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        connection.sendall(GET)
        while time.monotonic() < began + 30:
            connection.sendall(b"X")
            time.sleep(0.02)


def test_a_kept_connection_is_closed_after_a_while(short: Running) -> None:
    with short.connect() as connection:
        for end in (b"", b"\r\n", GET):
            connection.sendall(GET + b"\r\n")
            assert read_response(connection)[0] == 200
            connection.sendall(end)
            if end != b"\r\n":  # which may be sent between requests, and means nothing
                break
        assert connection.recv(1) == b""
    with short.connect() as connection:
        connection.sendall(GET + b"\r\n" + GET)
        assert read_response(connection)[0] == 200
        assert read_response(connection)[0] == 408


def test_a_body_that_nobody_waits_for_is_not_waited_for(short: Running) -> None:
    """It trickles in after the answer: uvicorn would be kept by a byte a minute."""
    with short.connect() as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
        assert read_response(connection)[0] == 404
        while True:
            connection.sendall(b"X")
            time.sleep(0.02)


def test_who_does_not_read_is_hung_up_on(
    short: Running, metric: Metric, until: Until, encode: Callable[..., bytes]
) -> None:
    """The answers fill what the operating system keeps, and then the memory of the service."""
    closed = metric("seatrial_connections_closed_total", reason="answer")
    large = encode(Image.effect_noise((800, 800), 200).convert("RGB"))
    request = b"POST /detect.jpg HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(large)
    with short.connect() as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            connection.sendall(request + large)
    until(lambda: metric("seatrial_connections_closed_total", reason="answer") == closed + 1)


def test_who_reads_neither_answers_nor_the_refusal_behind_them_is_hung_up_on(
    short: Running, metric: Metric, until: Until
) -> None:
    """What is no HTTP is refused after the answers to what came before."""
    closed = metric("seatrial_connections_closed_total", reason="answer")
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 700
    with short.connect() as connection:
        connection.sendall(asks + b"no HTTP\r\n")
        until(lambda: metric("seatrial_connections_closed_total", reason="answer") == closed + 1)


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


@pytest.mark.parametrize("plain", [True, False])
def test_who_does_not_read_refusals_is_hung_up_on(
    run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    """They are written round the application, which waits for the client to read."""
    written: list[int] = []
    write = HttpProtocol._write

    def noted(self: HttpProtocol, status: int, rest: bytes) -> None:
        write(self, status, rest)
        written.append(self.transport.get_write_buffer_size())

    monkeypatch.setattr(HttpProtocol, "_write", noted)
    monkeypatch.setattr(open_connections, "REFUSES_S", 60.0 if plain else 0.0)
    one = POST + b"Content-Length: 1\r\n%s\r\nx" % (b"" if plain else b"X:\r\n")
    with (
        run_app(Limits(queue=1, idle_s=0.5)) as running,
        running.lanes_held(),
        running.connect() as connection,
    ):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while max(written, default=0) < 2**20:
                connection.sendall(one * 100)
        assert 0 < max(written) < 2**20


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


def test_a_refused_request_is_the_end_of_the_wait_for_its_head(
    run_app: Callable[..., Any],
) -> None:
    """A connection on which all requests are refused has not waited since its beginning."""
    one = POST + b"X:\r\nContent-Length: 1\r\n\r\nx"  # the parser reads it
    with (
        run_app(Limits(queue=1, header_s=0.2)) as running,
        running.lanes_held(),
        running.connect() as connection,
    ):
        began = time.monotonic()
        while time.monotonic() < began + 1:
            connection.sendall(one)
            assert read_response(connection)[0] == 503
            time.sleep(0.02)


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


def test_a_connection_that_was_refused_serves_the_next_requests(
    run_app: Callable[..., Any], photo: bytes
) -> None:
    head = POST + b"Content-Length: %d\r\n\r\n" % len(photo)
    with run_app(Limits(queue=1)) as running, running.connect() as connection:
        with running.lanes_held():
            for _ in range(3):
                connection.sendall(head)
                assert read_response(connection)[0] == 503  # before a byte of the body
                connection.sendall(photo[:100])
                connection.sendall(photo[100:])
            # Requests that come at once are answered in their order.
            connection.sendall((head + photo) * 2 + GET + b"\r\n" + head + photo)
            answers = b""
            while len(found := re.findall(rb"HTTP/1\.1 (\d+)", answers)) < 4:
                answers += connection.recv(65536)
            assert found == [b"503", b"503", b"200", b"503"]
            time.sleep(0.05)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.recv(65536)  # the rest of the last one
            connection.settimeout(20)
        connection.sendall(head + photo)
        assert read_response(connection)[0] == 200


def test_under_overload_plain_requests_are_refused_without_the_parser(
    run_app: Callable[..., Any],
    metric: Metric,
    until: Until,
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And however their bytes come, the next request begins where it does."""
    parsed: list[int] = []
    parse = HttpProtocol._parse

    def noted(self: HttpProtocol, data: bytes | memoryview) -> None:
        parsed.append(len(data))
        parse(self, data)

    monkeypatch.setattr(HttpProtocol, "_parse", noted)
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
            assert parsed
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
