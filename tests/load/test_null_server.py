"""The server that costs less than any client: what it answers, and when it ends."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator

import psutil
import pytest

from child_processes import gone, running
from seatrial.errors import GeneratorFailed
from seatrial.load import null_server as module
from seatrial.load.null_server import ANSWER, HEAD_BYTES, NullServer, null_server

pytestmark = pytest.mark.usefixtures("time_limit")
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)


@pytest.fixture(scope="module")
def server() -> Iterator[NullServer]:
    with null_server() as found:
        yield found


def post(length: int, more: bytes = b"") -> bytes:
    return b"POST /detect HTTP/1.1\r\nHost: x\r\ncontent-length: %d\r\n%b\r\n" % (length, more)


def answers(line: socket.socket, count: int) -> bytes:
    """So many answers, and no byte more."""
    left = count * len(WHOLE)
    said = b""
    while left > len(said) and (came := line.recv(left - len(said))):
        said += came
    return said


def connect(server: NullServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port))


@pytest.mark.parametrize("length", [0, 1, 100, 4096, 114_688, 9_000_000])
def test_bodies_of_any_size_are_taken_one_after_the_other(server: NullServer, length: int) -> None:
    with connect(server) as line:
        for _ in range(3):
            line.sendall(post(length) + bytes(length))
            assert answers(line, 1) == WHOLE


def test_an_answer_comes_after_the_last_byte(server: NullServer) -> None:
    with connect(server) as line:
        line.sendall(post(5000) + bytes(4999))
        with connect(server) as other:  # which waits for what was there before
            other.sendall(post(0))
            assert answers(other, 1) == WHOLE
        line.setblocking(False)
        with pytest.raises(BlockingIOError):
            line.recv(1)
        line.setblocking(True)
        line.sendall(b"\0")
        assert answers(line, 1) == WHOLE


def test_requests_in_pieces_and_several_in_one_piece(server: NullServer) -> None:
    with connect(server) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(3) + b"abc":
            line.sendall(bytes([byte]))
        assert answers(line, 1) == WHOLE
        line.sendall((post(3) + b"abc") * 2 + post(0) + post(7) + b"1234567")
        assert answers(line, 4) == WHOLE * 4


def test_a_question_without_a_body_is_answered(server: NullServer) -> None:
    with connect(server) as line:
        line.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answers(line, 1) == WHOLE


def test_a_body_without_a_length_is_refused(server: NullServer) -> None:
    with connect(server) as line:
        line.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert line.makefile("rb").read().startswith(b"HTTP/1.1 411 ")


def test_a_head_without_end_is_not_kept(server: NullServer) -> None:
    with connect(server) as line:
        try:
            line.sendall(b"x" * 20 * HEAD_BYTES)
            assert line.recv(1) == b""
        except ConnectionError:
            pass
    with connect(server) as line:
        line.sendall(post(0))
        assert answers(line, 1) == WHOLE


def test_a_client_that_goes_leaves_nothing(server: NullServer) -> None:
    process = psutil.Process(server.pid)
    with connect(server) as line:
        line.sendall(post(0))
        answers(line, 1)
        before = process.num_fds()
        for _ in range(5):
            with connect(server) as other:
                other.sendall(post(100) + b"x")
        with connect(server) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            other.sendall(post(100))
        while process.num_fds() > before:
            line.sendall(post(0))
            assert answers(line, 1) == WHOLE


def test_it_listens_on_the_loopback_address_alone(server: NullServer) -> None:
    process = psutil.Process(server.pid)
    heard = {row.laddr for row in process.net_connections() if row.status == psutil.CONN_LISTEN}
    assert heard == {("127.0.0.1", server.port)}
    assert server.url == f"http://127.0.0.1:{server.port}"


def test_it_ends_with_the_block() -> None:
    with pytest.raises(KeyError), null_server() as found:
        raise KeyError
    assert not psutil.pid_exists(found.pid)


@pytest.mark.parametrize("how", ["exit", "killed"])
def test_it_ends_with_its_parent(how: str) -> None:
    code = (
        "import sys\nfrom seatrial.load.null_server import null_server\n"
        "with null_server() as found:\n"
        "    print(found.pid, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    import os; os._exit(0)\n"
    )
    with running(code) as (process, (pid,)):
        assert psutil.pid_exists(pid)
        if how == "killed":
            os.kill(process.pid, signal.SIGKILL)
        else:
            process.communicate("\n")
        assert gone(pid)


def test_one_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START", "sys.exit(3)")
    with pytest.raises(GeneratorFailed, match="exit code 3"), null_server():
        pass


def test_it_costs_less_than_its_client(server: NullServer) -> None:
    """CPU time of the server for bodies of 112 KiB beside that of the cheapest client there is."""
    process, body = psutil.Process(server.pid), post(114_688) + bytes(114_688)
    with connect(server) as line:
        before_s, own_s = sum(process.cpu_times()[:2]), time.process_time()
        for _ in range(4000):
            line.sendall(body)
            answers(line, 1)
        assert sum(process.cpu_times()[:2]) - before_s < 4 * (time.process_time() - own_s)


def test_it_imports_no_package_that_it_does_not_need() -> None:
    code = "import sys, seatrial.load.null_server; print(int('numpy' in sys.modules))"
    with running(code) as (_, found):
        assert found == [0]
