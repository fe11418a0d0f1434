"""Answers as servers send them, whole and in pieces, and how connections are kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import pytest
import uvloop
from yarl import URL

from raw_service import CHUNKED, HEAD, answer, raw_service
from seatrial.client.credentials import Credentials
from seatrial.load import http_session
from seatrial.load.http_session import (
    HEAD_BYTES,
    Broken,
    HttpSession,
    NotHttp,
    Unreachable,
    UnreadAnswer,
)
from seatrial.load.target import Body

pytestmark = pytest.mark.usefixtures("time_limit")
BODY = Body(b"\xff\xd8" * 1000, {"Content-Type": "image/jpeg"})
MOST = 1000


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Awaitable[Any]], Any]]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run  # type: ignore[misc]


class Server:
    """Answers each request with what it is told, in pieces if asked to, and keeps the requests.

    Args:
        answers: In the order of the requests.
        pieces: Bytes of a piece; 0: one piece.
        closes: Numbers of the answers after which it closes the connection.
    """

    def __init__(
        self, answers: Sequence[bytes], pieces: int = 0, closes: Iterable[int] = ()
    ) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self._answers, self._pieces, self._closes = list(answers), pieces, set(closes)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._lines: list[socket.socket] = []
        self.url = URL(f"http://127.0.0.1:{self._listener.getsockname()[1]}/detect?a=b%20c")

    def __enter__(self) -> Server:
        self._threads.append(threading.Thread(target=self._accept))
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                self.connections += 1
                self._lines.append(line)
                self._threads.append(threading.Thread(target=self._serve, args=(line,)))
                self._threads[-1].start()

    def _serve(self, line: socket.socket) -> None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with line, contextlib.suppress(OSError), line.makefile("rb") as lines:
            while head := _head(lines):
                length = [one for one in head.split(b"\r\n") if b"Content-Length" in one]
                self.heads.append(head)
                self.bodies.append(lines.read(int(length[0].split(b":")[1])) if length else b"")
                number = len(self.heads) - 1
                said = self._answers[number]
                size = self._pieces or max(1, len(said))
                for begin in range(0, len(said), size):
                    line.sendall(said[begin : begin + size])
                if number in self._closes:
                    return


def _head(lines: BinaryIO) -> bytes:
    """A request's head without the empty line; empty at the end."""
    return b"".join(itertools.takewhile(lambda line: line not in (b"", b"\r\n"), lines))


def talk(server: Server, count: int = 1, **options: Any) -> Callable[[], Awaitable[list[Any]]]:
    """So many requests, one after the other; an error counts as what was answered."""

    async def conversation() -> list[Any]:
        found: list[Any] = []
        async with HttpSession(**{"connections": 1, "timeout_s": 60.0} | options) as http:
            for _ in range(count):
                try:
                    found.append(await http.send("POST", server.url, BODY, MOST))
                except Exception as error:  # noqa: BLE001 - the kind is what is tested
                    found.append(error)
        return found

    return conversation


def test_a_request_is_whole_and_one_connection_is_used_again(run: Any) -> None:
    with Server([answer(200, b"{}", b"X-A: 1\r\nx-a: 2\r\n")] * 3) as server:
        found = run(talk(server, 3, credentials=Credentials(token="t0k"))())
    assert server.connections == 1
    assert server.bodies == [BODY.data] * 3
    first, *fields = server.heads[0].decode().split("\r\n")
    assert first == "POST /detect?a=b%20c HTTP/1.1"
    assert {one.split(": ")[0] for one in fields if one} == {
        "Host", "User-Agent", "Accept", "Accept-Encoding", "Authorization", "Content-Type",
        "Content-Length",
    }  # fmt: skip
    assert "Authorization: Bearer t0k" in fields
    assert f"Host: 127.0.0.1:{server.url.port}" in fields
    for one in found:
        assert (one.status, one.payload, one.headers.get("X-a")) == (200, b"{}", "1, 2")
        assert one.headers.get("X-B", "none") == "none"
        assert one.end_ns <= time.perf_counter_ns()


@pytest.mark.parametrize("pieces", [0, 1, 7])
@pytest.mark.parametrize(
    ("said", "payload"),
    [
        (answer(200, b"x" * 300), b"x" * 300),
        (answer(204, b""), b""),
        (HEAD % (200, CHUNKED) + b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nX-T: 1\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(200, b"abc"), b"abc"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(200, b"abc"), b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", b"ok"),
        (answer(200, b"z", b"Connection: close\r\n"), b"z"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok"),
        (HEAD % (200, CHUNKED) + b"3 \r\nabc\r\n0\r\n\r\n", b"abc"),
        # RFC 9112, 6.3: the chunks win.
        (HEAD % (200, CHUNKED + b"Content-Length: 9\r\n") + b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (HEAD % (200, CHUNKED) + b"1\r\nx\r\n" * 900 + b"0\r\n\r\n", b"x" * 900),
    ],
    ids=[
        "length",
        "none",
        "chunked",
        "100",
        "103",
        "to-the-end",
        "1.0",
        "close",
        "LF",
        "space",
        "both",
        "tiny",
    ],
)
def test_answers_end_where_http_says(run: Any, pieces: int, said: bytes, payload: bytes) -> None:
    closes = range(3) if b"up to" in said else ()
    with Server([said] * 3, pieces, closes) as server:
        for one in run(talk(server, 3)()):
            assert (one.status // 100, one.payload) == (2, payload)
            assert one.headers.get("Link") is None
        assert server.connections in (1, 3)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", Broken),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Broken),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", Broken),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", NotHttp),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", NotHttp),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * (HEAD_BYTES + 70_000), NotHttp),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000, NotHttp),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", NotHttp),
        (answer(99, b""), NotHttp),
        (HEAD % (200, CHUNKED) + b"0\r\n" + b"X: y\r\n" * 30_000, NotHttp),
        (HEAD % (200, CHUNKED) + b"1;" + b"e" * 2_000_000, NotHttp),
        (answer(200, b"x" * (MOST + 1)), UnreadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n" % (b"9" * 18), UnreadAnswer),
        (HEAD % (200, CHUNKED) + b"3e9\r\n" + b"x" * 1001 + b"\r\n", UnreadAnswer),
        (answer(200, b"", b"Content-Encoding: gzip\r\n"), UnreadAnswer),
    ],
)
def test_what_is_no_whole_answer_has_a_kind_and_the_next_request_another_connection(
    run: Any, said: bytes, kind: type[Exception]
) -> None:
    with Server([said, answer(200, b"well")], closes=[0]) as server:
        failed, good = run(talk(server, 2)())
        assert type(failed) is kind
        assert good.payload == b"well"
        assert server.connections == 2


def test_a_connection_that_the_server_has_closed_is_not_used(run: Any) -> None:
    async def conversation() -> None:
        async with HttpSession(1, 60.0) as http:
            for _ in range(3):
                assert (await http.send("POST", server.url, BODY, MOST)).payload == b"a"
                while any(one.usable for one in http._open):  # the end is on its way
                    await asyncio.sleep(0.001)

    with Server([answer(200, b"a")] * 3, closes=range(3)) as server:
        run(conversation())
        assert server.connections == 3


@pytest.mark.parametrize(
    ("said", "after", "connections"),
    [
        # The second request is read and not answered, as one that crosses the closing.
        ([answer(200, b"a"), b"", answer(200, b"b")], b"b", 2),
        # Nor on the new connection: that is a failure of the service.
        ([answer(200, b"a"), b"", b""], Broken, 2),
        # An answer has begun: it is not asked for twice.
        ([answer(200, b"a"), b"H"], Broken, 1),
    ],
)
def test_a_request_on_a_closed_connection_is_sent_again_once(
    run: Any, said: list[bytes], after: Any, connections: int
) -> None:
    with Server(said, closes=(1, 2)) as server:
        first, second = run(talk(server, 2)())
        assert (first.payload, first.retried) == (b"a", False)
        if isinstance(after, bytes):
            assert (second.payload, second.retried) == (after, True)
        else:
            assert type(second) is after
        assert server.connections == connections
        assert server.bodies == [BODY.data] * len(said)


def test_a_request_is_sent_again_within_its_time(run: Any) -> None:
    """The second one, too, ends at the deadline that counts from the first send."""
    hung = threading.Event()
    numbers = itertools.count()

    def answers(asked: bytes) -> Iterable[bytes]:
        if (number := next(numbers)) == 1:
            raise OSError  # the connection ends
        if number == 2:
            hung.wait(60)
        return [answer(200, b"a")]

    async def conversation(url: str) -> None:
        async with HttpSession(1, 60.0) as http:
            await http.send("POST", URL(url), BODY, MOST)
            http._timeout_s = 0.3
            with pytest.raises(TimeoutError):
                await http.send("POST", URL(url), BODY, MOST)
            hung.set()
            http._timeout_s = 60.0
            assert not (await http.send("POST", URL(url), BODY, MOST)).retried

    with raw_service(answers) as url:
        run(conversation(url))
    assert next(numbers) == 4


def test_a_request_that_breaks_and_is_cancelled_at_once_complains_to_nobody(run: Any) -> None:
    """Ctrl-C ends the service of the same terminal, too: both come in one turn of the loop."""
    complaints: list[dict[str, Any]] = []

    async def conversation(url: str) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        async with HttpSession(1, 60.0) as http:
            request = asyncio.create_task(http.send("POST", URL(url), BODY, MOST))
            while not http._open:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            for one in tuple(http._open):
                one.connection_lost(None)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        del request
        gc.collect()

    hung = threading.Event()
    with raw_service(lambda _: [answer(200, b"a")] if hung.wait(60) else []) as url:
        run(conversation(url))
        hung.set()
    assert not complaints


def test_an_idle_connection_is_given_up_in_time(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_session, "IDLE_S", 0.0)
    with Server([answer(200, b"a")] * 3) as server:
        assert [one.payload for one in run(talk(server, 3)())] == [b"a"] * 3
        assert server.connections == 3


def test_one_that_is_given_up_is_closed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_session, "IDLE_S", 0.0)

    async def conversation() -> None:
        async with HttpSession(1, 60.0) as http:
            for _ in range(3):
                await http.send("POST", server.url, BODY, MOST)
            while len(http._open) > 1:
                await asyncio.sleep(0.001)

    with Server([answer(200, b"a")] * 3) as server:
        run(conversation())


@pytest.mark.parametrize(
    "more",
    [
        answer(408, b"too late"),
        answer(200, b"", b"Server-Timing: infer;dur=9999\r\nX-More: 1\r\n"),
        b"HTTP/1.1 200 O",
        b"\0",
    ],
    ids=["answer", "no-body", "half", "garbage"],
)
def test_what_comes_without_a_question_ends_the_connection(run: Any, more: bytes) -> None:
    """Nothing of it is taken for the next answer, in one piece with the one before it or not.

    It has to come before the next question, or else nobody could tell it from an answer.
    """

    async def conversation(server: Server) -> list[Any]:
        async with HttpSession(1, 60.0) as http:
            first = await http.send("POST", server.url, BODY, MOST)
            while http._open:
                await asyncio.sleep(0.001)
            return [first, await http.send("POST", server.url, BODY, MOST)]

    for pieces in (0, 5):
        with Server([answer(200, b"a") + more, answer(200, b"b")], pieces) as server:
            first, second = run(conversation(server))
            assert (first.payload, second.payload) == (b"a", b"b")
            assert second.headers.get("X-More") is None
            assert server.connections == 2


def test_nobody_listens_and_names_of_nobody(run: Any) -> None:
    async def ask(url: str) -> None:
        async with HttpSession(1, 60.0) as http:
            await http.send("POST", URL(url), BODY, MOST)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for host in ("127.0.0.1", "localhost", "[::1]"):
            with pytest.raises(Unreachable) as failure:
                run(ask(f"http://{host}:{free.getsockname()[1]}"))
            assert isinstance(failure.value.__cause__, OSError)


def test_a_request_that_was_given_up_leaves_no_answer_to_the_next(run: Any) -> None:
    """The connection with its late answer is closed."""
    late = threading.Event()

    def answers(asked: bytes) -> Iterable[bytes]:
        if asked.endswith(b"/slow"):
            late.wait(60)
            return [answer(200, b"late")]
        return [answer(200, b"good")]

    async def conversation(url: str) -> bytes:
        async with HttpSession(1, 0.2) as http:
            with pytest.raises(TimeoutError):
                await http.send("POST", URL(url) / "slow", BODY, MOST)
            late.set()
            http._timeout_s = 60.0
            return (await http.send("POST", URL(url) / "fast", BODY, MOST)).payload

    with raw_service(answers) as url:
        assert run(conversation(url)) == b"good"


@pytest.mark.parametrize("limit", [0, 1], ids=["any-number", "one-at-a-time"])
def test_each_request_has_its_own_time(run: Any, limit: int) -> None:
    """One timer ends all; those that wait for a connection count from their call, too."""
    hung = threading.Event()

    def answers(asked: bytes) -> Iterable[bytes]:
        if asked.endswith(b"/hang"):
            hung.wait(60)
        return [answer(200, b"good")]

    async def timed(http: HttpSession, url: str) -> float:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await http.send("POST", URL(url) / "hang", BODY, MOST)
        return time.monotonic() - begun

    async def conversation(url: str) -> None:
        async with HttpSession(limit, 0.3) as http:
            for _ in range(2):  # the timer is set again after it rang
                first = asyncio.create_task(timed(http, url))
                await asyncio.sleep(0.1)
                second = asyncio.create_task(timed(http, url))
                taken_s = await asyncio.gather(first, second)
                assert min(taken_s) >= 0.29
            assert http._timer is None or limit
            http._timeout_s = 60.0
            assert (await http.send("POST", URL(url) / "fast", BODY, MOST)).payload == b"good"
            assert len(http._open) == 1
        hung.set()

    with raw_service(answers) as url:
        run(conversation(url))


def test_an_earlier_deadline_sets_the_timer_anew(run: Any) -> None:
    """That of a request that began before the others, and took longer to connect."""

    async def conversation() -> list[float]:
        async with HttpSession(0, 60.0) as http:
            now_s = asyncio.get_running_loop().time()
            whens = []
            for after_s in (50.0, 60.0, 40.0):
                http._watch(now_s + after_s)
                assert http._timer is not None
                whens.append(http._timer.when() - now_s)
            return whens

    assert run(conversation()) == pytest.approx([50.0, 50.0, 40.0], abs=0.1)


def test_a_request_that_is_given_up_while_it_waits_takes_no_place(run: Any) -> None:
    async def conversation(url: str) -> bytes:
        async with HttpSession(1, 60.0) as http:
            jobs = [asyncio.create_task(http.send("POST", URL(url), BODY, MOST)) for _ in range(3)]
            await asyncio.sleep(0)
            jobs[1].cancel()
            assert (await jobs[2]).payload == b"good"
            return (await jobs[0]).payload

    with raw_service(lambda _: [answer(200, b"good")]) as url:
        assert run(conversation(url)) == b"good"


def test_requests_beyond_the_limit_wait_for_a_connection(run: Any) -> None:
    async def conversation(limit: int) -> int:
        async with HttpSession(limit, 60.0) as http:
            jobs = [http.send("POST", server.url, BODY, MOST) for _ in range(6)]
            assert [one.payload for one in await asyncio.gather(*jobs)] == [b"a"] * 6
        return server.connections

    with Server([answer(200, b"a")] * 6) as server:
        assert run(conversation(2)) == 2
    with Server([answer(200, b"a")] * 6) as server:
        assert run(conversation(0)) == 6


def test_an_early_answer_is_taken_and_the_next_request_does_not_wait_behind_the_rest(
    run: Any,
) -> None:
    """A server that refuses at the head, and reads the body when it likes."""
    read = threading.Event()
    large = Body(bytes(32 * 2**20), {})
    connections = itertools.count()

    def serve(line: socket.socket, number: int) -> None:
        with line, contextlib.suppress(OSError):
            line.recv(4096)
            line.sendall(answer(503, b"full"))
            if number == 0:
                read.wait(60)
            while line.recv(2**20):
                pass

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(line, next(connections))))
                threads[-1].start()

    async def conversation() -> None:
        async with HttpSession(0, 60.0) as http:
            url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            assert (await http.send("POST", url, large, MOST)).status == 503
            (first,) = http._open
            assert not any(first in idle for idle in http._idle.values())
            assert (await http.send("POST", url, large, MOST)).status == 503
            assert len(http._open) == 2
            # All of the first one is read now: its connection can be used again.
            read.set()
            while not any(first in idle for idle in http._idle.values()):
                await asyncio.sleep(0.001)
            assert first.usable

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            run(conversation())
        finally:
            read.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_question_follows_redirects_within_its_origin_alone(run: Any, status: int) -> None:
    def answers(asked: bytes) -> Iterable[bytes]:
        where = asked.rpartition(b"/")[2]
        asks.append(where)
        moved = {
            b"a": b"/b", b"b": b"c?d=e", b"out": b"http://127.0.0.2:1/", b"loop": b"/loop?1",
            b"loop?1": b"/loop", b"bad": b"http://[::1", b"far": b"http://h:99999/", b"self": b"",
        }  # fmt: skip
        if where in moved:
            return [answer(status, b"", b"Location: %s\r\n" % moved[where])]
        return [answer(status if where == b"nowhere" else 200, asked)]

    asks: list[bytes] = []

    async def ask(url: str) -> tuple[int, bytes]:
        async with HttpSession(1, 60.0) as http:
            found = await http.get(URL(url), MOST)
        return found.status, found.payload

    with raw_service(answers) as url:
        assert run(ask(f"{url}/a")) == (200, b"GET /c?d=e")
        assert run(ask(f"{url}/out")) == (status, b"")
        assert run(ask(f"{url}/loop")) == (status, b"")
        assert run(ask(f"{url}/nowhere")) == (status, b"GET /nowhere")
        for place in ("bad", "far", "self"):
            assert run(ask(f"{url}/{place}")) == (status, b"")
    asked = [sum(one.startswith(name) for one in asks) for name in (b"out", b"loop", b"bad")]
    assert asked == [1, http_session.REDIRECTS, 1]


def test_the_zone_of_an_address_is_not_told_to_the_server(run: Any) -> None:
    async def conversation() -> bytes:
        async with HttpSession(1, 60.0) as http:
            return http._head("GET", URL("http://[fe80::1%25lo]:3000/a"), None)

    assert b"\r\nHost: [fe80::1]:3000\r\n" in run(conversation())


def test_an_answer_in_tiny_chunks_takes_no_more_memory_than_its_bytes(run: Any) -> None:
    """Each chunk was an object, fifty times its length."""
    import tracemalloc

    chunks = 200_000
    said = HEAD % (200, CHUNKED) + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n"

    async def conversation() -> int:
        async with HttpSession(1, 60.0) as http:
            tracemalloc.start()
            try:
                found = await http.send("POST", server.url, BODY, 2 * chunks)
                assert len(found.payload) == chunks
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    with Server([said]) as server:
        assert run(conversation()) < 5 * chunks


def test_a_connection_whose_request_is_not_read_is_closed_in_time(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered at its head, and never read: more and more of them would stay open."""
    monkeypatch.setattr(http_session, "SENT_S", 0.01)
    large = Body(bytes(32 * 2**20), {})

    def answers_and_waits() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                lines.append(line)
                line.recv(4096)
                line.sendall(answer(503, b"full"))

    async def conversation() -> None:
        async with HttpSession(0, 60.0) as http:
            url = URL(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            for _ in range(3):
                assert (await http.send("POST", url, large, MOST)).status == 503
            while http._open:
                await asyncio.sleep(0.001)

    lines: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answers_and_waits)
        thread.start()
        try:
            run(conversation())
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for line in lines:
                line.close()
