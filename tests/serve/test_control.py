"""Commands as JSON over a Unix socket and over a loopback port."""

from __future__ import annotations

import http.client
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from raw_http import read_response
from raw_service import raw_service
from seatrial.deployment import Server
from seatrial.errors import NotSwapped, PortInUse, ServiceFailed, Unauthorized
from seatrial.serve import control
from seatrial.serve.address import free_port
from seatrial.serve.control import (
    BODY_BYTES,
    SUPERVISOR,
    Address,
    ControlServer,
    ask,
    asker_has_left,
    find_socket,
    listens,
    socket_name,
)


def answer(command: str, body: dict[str, Any]) -> Any:
    if command == "POST /refuse":
        raise NotSwapped("not now", hint="later")
    if command == "POST /fail":
        raise ZeroDivisionError("nothing")
    return {"command": command, **body}


@pytest.fixture(params=["socket", "port"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    deep = tmp_path / ("d" * 100)  # no name of a socket may be as long
    deep.mkdir()
    local = request.param == "socket"
    where: Address = deep / "own.sock" if local else ("127.0.0.1", free_port("127.0.0.1"))
    ControlServer(where, answer)
    return where


def test_a_command_is_answered_and_a_refusal_says_why(address: Address) -> None:
    for _ in range(20):
        assert ask(address, "GET /status") == (200, {"command": "GET /status"})
        assert ask(address, "POST /go", {"n": 1}) == (200, {"command": "POST /go", "n": 1})
    error = {"code": "NotSwapped", "message": "not now", "hint": "later"}
    assert ask(address, "POST /refuse") == (409, {"error": error})


def test_the_longest_body_of_a_command_is_taken(address: Address) -> None:
    text = "x" * (BODY_BYTES - len('{"x":""}'))
    assert ask(address, "POST /go", {"x": text}) == (200, {"command": "POST /go", "x": text})


@pytest.mark.parametrize("local", [True, False])
def test_whoever_answers_can_see_that_the_asker_has_left(tmp_path: Path, local: bool) -> None:
    seen: queue.Queue[bool] = queue.Queue()
    closes = threading.Event()

    def slow(command: str, body: dict[str, Any]) -> Any:
        seen.put(asker_has_left())
        closes.wait(60)
        while not asker_has_left():
            time.sleep(0.01)
        seen.put(True)

    where: Address = tmp_path / "own.sock" if local else ("127.0.0.1", free_port("127.0.0.1"))
    ControlServer(where, slow)
    connection: http.client.HTTPConnection
    if isinstance(where, Path):
        connection = control._UnixConnection(where, 60)
    else:
        connection = http.client.HTTPConnection(*where, timeout=60)
    connection.request("POST", "/go", b"{}", {"Content-Type": "application/json"})
    assert seen.get(timeout=60) is False
    connection.close()
    closes.set()
    assert seen.get(timeout=60) is True
    assert not asker_has_left()  # this thread answers nobody


def test_a_fault_is_an_answer(address: Address, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = ask(address, "POST /fail")
    assert (status, told["error"]["code"]) == (502, "ServiceFailed")
    assert "ZeroDivisionError" in told["error"]["message"]


def test_who_sends_no_command_gives_its_place_up_to_who_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each connection is a thread, and anyone on the machine may have all of them."""
    monkeypatch.setattr(control, "MOST", 2)
    where = ("127.0.0.1", free_port("127.0.0.1"))
    ControlServer(where, lambda command, body: {})
    with (
        socket.create_connection(where, timeout=60) as first,
        socket.create_connection(where, timeout=60) as second,
    ):
        for one in (first, second):
            one.sendall(b"G")
        assert ask(where, "GET /status")[0] == 200
        assert first.recv(1) == b""
        second.sendall(b"ET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_response(second)[0] == 200
    told = capsys.readouterr().err
    assert "one that had sent none was closed" in told
    assert "Traceback" not in told


@pytest.mark.usefixtures("time_limit")
def test_a_command_whose_connection_has_lost_its_place_is_not_carried_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its head is here and its body is not: cut off there, it reads as one without a body."""
    monkeypatch.setattr(control, "MOST", 1)
    monkeypatch.setattr(control, "PLACE_S", 60.0)  # until the thread of the first has ended
    where = ("127.0.0.1", free_port("127.0.0.1"))
    carried_out: list[str] = []
    ControlServer(where, lambda command, body: carried_out.append(command))
    with socket.create_connection(where, timeout=60) as first:
        first.sendall(
            b"POST /go HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2\r\n\r\n"
        )
        assert ask(where, "GET /status")[0] == 200
    assert carried_out == ["GET /status"]


def test_commands_at_work_keep_their_places(capsys: pytest.CaptureFixture[str]) -> None:
    go_on, at_work = threading.Event(), queue.Queue[str]()

    def slow(command: str, body: dict[str, Any]) -> Any:
        at_work.put(command)
        assert go_on.wait(60)
        return {}

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(2) as pool:
        patched.setattr(control, "MOST", 2)
        where = ("127.0.0.1", free_port("127.0.0.1"))
        ControlServer(where, slow)
        answers = [pool.submit(ask, where, "GET /status") for _ in range(2)]
        for _ in answers:
            at_work.get(timeout=60)
        with socket.create_connection(where, timeout=60) as third:
            assert third.recv(1) == b""
        go_on.set()
        assert [answer.result()[0] for answer in answers] == [200, 200]
        give_up = time.monotonic() + 60
        while True:  # their places are free again, soon after the answers
            try:
                assert ask(where, "GET /status")[0] == 200
                break
            except ServiceFailed:
                assert time.monotonic() < give_up
    assert "are at work" in capsys.readouterr().err


def test_a_head_that_trickles_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes long before a wait for it alone would be over."""
    monkeypatch.setattr(control._Handler, "timeout", 0.2)
    where = ("127.0.0.1", free_port("127.0.0.1"))
    ControlServer(where, lambda command, body: {})
    with socket.create_connection(where, timeout=60) as connection:
        give_up = time.monotonic() + 60
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < give_up:
                connection.sendall(b"G")
                time.sleep(0.02)


def test_a_body_that_does_not_come_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control._Handler, "timeout", 0.05)
    where = ("127.0.0.1", free_port("127.0.0.1"))
    ControlServer(where, lambda command, body: {})
    with socket.create_connection(where, timeout=60) as connection:
        connection.sendall(
            b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 9\r\n\r\n"
        )
        status, _, body = read_response(connection)
    assert (status, b"did not arrive" in body) == (400, True)
    assert "Traceback" not in capsys.readouterr().err


def test_as_many_wait_as_there_are_places(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is busy for a moment takes none."""
    free = threading.Event()

    def busy(server: Any, request: socket.socket, client: Any) -> None:
        free.wait(60)
        server.shutdown_request(request)

    monkeypatch.setattr(control._Bounded, "process_request", busy)
    with ExitStack() as waiting:
        waiting.callback(free.set)
        for _ in range(control.MOST):
            if isinstance(address, Path):
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                with control._short(address) as short:
                    one.connect(short)
            else:  # the kernel would let it try again, a second later
                waiting.enter_context(socket.create_connection(address, timeout=0.9))


def test_a_socket_with_too_many_callers_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "full.sock"
    with ExitStack() as opened:
        full = opened.enter_context(socket.socket(socket.AF_UNIX))
        full.bind(str(path))
        full.listen(0)
        before = opened.enter_context(socket.socket(socket.AF_UNIX))
        before.connect(str(path))
        with pytest.raises(ServiceFailed, match="it has too many callers"):
            ask(path, "GET /status", timeout_s=0.1)
        assert listens(path)
        pool = opened.enter_context(ThreadPoolExecutor())
        asked = pool.submit(ask, path, "GET /status", timeout_s=60)
        time.sleep(0.05)
        opened.enter_context(full.accept()[0])
        taken = opened.enter_context(full.accept()[0])
        taken.recv(1000)
        taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        assert asked.result(60) == (200, {})


def test_a_socket_without_a_process_is_told_from_one_with(tmp_path: Path) -> None:
    assert not listens(tmp_path / "none.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
        assert not listens(tmp_path / "left.sock")
        left.listen()
        assert listens(tmp_path / "left.sock")
    assert not listens(tmp_path / "left.sock")


@pytest.mark.usefixtures("time_limit")
def test_the_time_of_an_answer_is_that_of_all_its_parts() -> None:
    """Each part comes long before a wait for it alone would be over."""
    ended = threading.Event()

    def parts(asked: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while not ended.wait(0.05):
            yield b" "

    with raw_service(parts) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ServiceFailed, match=r"the time is up|timed out"):
            ask(("127.0.0.1", port), "GET /status", timeout_s=0.3)
        ended.set()


def test_nobody_there(tmp_path: Path) -> None:
    for where in (tmp_path / "none.sock", ("127.0.0.1", free_port("127.0.0.1"))):
        with pytest.raises(ServiceFailed, match="no answer"):
            ask(where, "GET /status")


def test_a_taken_port_is_an_error() -> None:
    port = free_port("127.0.0.1")
    ControlServer(("127.0.0.1", port), answer)
    with pytest.raises(PortInUse, match="no commands can be taken"):
        ControlServer(("127.0.0.1", port), answer)


def test_a_port_can_ask_for_a_token() -> None:
    address = ("127.0.0.1", free_port("127.0.0.1"))

    def check(headers: Any) -> None:
        if (b"authorization", b"Bearer right") not in headers:
            raise Unauthorized("no token")

    ControlServer(address, answer, check)
    assert ask(address, "GET /status")[0] == 401
    assert ask(address, "GET /status", token="wrong")[0] == 401
    assert ask(address, "GET /status", token="right")[0] == 200


def test_links_to_other_sockets_are_not_followed(tmp_path: Path) -> None:
    """Everyone may write to the folder of temporary files."""
    server = Server(port=8123)
    for name in ("own", "other"):
        (tmp_path / f"{SUPERVISOR}{name}").mkdir()
    own = tmp_path / f"{SUPERVISOR}own" / socket_name(server)
    link = tmp_path / f"{SUPERVISOR}other" / socket_name(server)
    ControlServer(tmp_path / "another.sock", answer)
    link.symlink_to(tmp_path / "another.sock")
    assert find_socket(server, tmp_path) is None
    ControlServer(own, answer)
    os.utime(own, (0, 0))
    assert find_socket(server, tmp_path) == own
    for name, age in (("before", -1), ("later", 1), ("between", 0)):  # two were killed
        (tmp_path / f"{SUPERVISOR}{name}").mkdir()
        one = tmp_path / f"{SUPERVISOR}{name}" / socket_name(server)
        ControlServer(one, answer)
        os.utime(one, (100 + age, 100 + age))
    assert find_socket(server, tmp_path) == tmp_path / f"{SUPERVISOR}later" / socket_name(server)


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({"Host": "evil.example"}, b"{}", "Host 'evil.example'"),
        ({"Content-Type": "text/plain"}, b"{}", "not application/json"),
        ({"Content-Length": str(BODY_BYTES + 1)}, b"", "is not 0 to"),
        ({"Content-Length": "9" * 5000}, b"", "is not 0 to"),
        ({}, b"[1]", "not a JSON object"),
    ],
)
def test_what_a_web_page_could_send_is_refused(
    headers: dict[str, str], body: bytes, message: str
) -> None:
    port = free_port("127.0.0.1")
    ControlServer(("127.0.0.1", port), answer)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/go", body, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    assert response.status == 400
    assert message in response.read().decode()
    connection.close()
