"""Commands to the processes of a service: JSON over HTTP, by a Unix socket or a loopback port."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import io
import logging
import os
import select
import socket
import socketserver
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from seatrial.config import UNDECODABLE
from seatrial.deployment import Server
from seatrial.errors import InvalidInput, PortInUse, SeatrialError, ServiceFailed
from seatrial.serve.log import say
from seatrial.serve.request_log import FewLines

SUPERVISOR = "seatrial-starts-"  # temporary folders of supervisors
BODY_BYTES = 64 * 1024
ANSWER_BYTES = 4 * 2**20  # with its head: a thousand processes, or a comparison, take a tenth
MOST_DIGITS = 20  # of a length that is read as a number
IDLE_S = 10.0  # until a command is here, and for each part of its answer
PLACE_S = 1.0  # until a thread has ended whose connection was
LOOK_S = 3600.0  # whether it was shut down, which it never is: else a wake-up each half second
MOST = 32  # connections at a time, which are threads; as many wait until they are taken
AGAIN_S = 0.005  # until a socket is asked again that has too many callers
LOOPBACK = "127.0.0.1"
# A browser that is made to call a port of its own machine names another host (DNS rebinding).
HOSTS = ("127.0.0.1", "localhost", "[::1]")
# A socket's file, or host and port.
Address = Path | tuple[str, int]
Headers = Sequence[tuple[bytes, bytes]]
Check = Callable[[Headers], object]
# Answers a command: method and path, and the JSON that came with it.
Handle = Callable[[str, dict[str, Any]], Any]


# The connection of the command that the present thread answers.
_asker: ContextVar[socket.socket | None] = ContextVar("_asker", default=None)


def asker_has_left() -> bool:
    """Whether who sent the command that this thread answers waits no more for the answer.

    False on a thread that answers no command.
    """
    connection = _asker.get()
    if connection is None:
        return False
    look = select.poll()
    look.register(connection, select.POLLIN)
    try:
        return bool(look.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def socket_name(server: Server) -> str:
    """Name of the socket on which a service takes commands, in the folder of its supervisor."""
    return f"service-{server.port}.sock"


def find_socket(server: Server, folder: Path | None = None) -> Path | None:
    """The socket of the service at an address, where this user runs one on this machine.

    Args:
        server: The address.
        folder: Folder of temporary files; None takes this process's.
    """
    root = folder or Path(tempfile.gettempdir())
    own: dict[Path, float] = {}
    for one in root.glob(f"{SUPERVISOR}*/{socket_name(server)}"):
        with contextlib.suppress(OSError):  # it has just gone
            # Others can make folders there, with links to any socket of this user.
            state = one.lstat()
            if stat.S_ISSOCK(state.st_mode) and state.st_uid == os.getuid():
                own[one] = state.st_mtime
    # One that was killed leaves its own behind.
    return max(own, key=lambda one: own[one], default=None)


class ControlServer:
    """Answers commands on threads of its own until the process ends.

    Args:
        address: Where it listens; a file of an earlier process is replaced.
        handle: Answers with what becomes JSON; a `SeatrialError` is an answer too.
        check: Checks the headers of a command before it is read.

    Raises:
        PortInUse: It cannot listen there.
    """

    def __init__(self, address: Address, handle: Handle, check: Check | None = None) -> None:
        local = isinstance(address, Path)

        class Handler(_Handler):
            answer = staticmethod(handle)
            trusted = local
            allowed = staticmethod(check or (lambda headers: None))

        try:
            if isinstance(address, Path):
                address.unlink(missing_ok=True)
                with _short(address) as short:
                    self._server: socketserver.BaseServer = _UnixServer(short, Handler)
            else:
                self._server = _Server(address, Handler)
        except OSError as error:
            where = address if isinstance(address, Path) else f"{address[0]}:{address[1]}"
            raise PortInUse(
                f"no commands can be taken on {where}: {error.strerror}",
                hint="choose another server.admin_port",
            ) from error
        threading.Thread(
            target=self._server.serve_forever, args=(LOOK_S,), name="control", daemon=True
        ).start()


def ask(
    address: Address,
    command: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 600.0,
    token: str | None = None,
) -> tuple[int, Any]:
    """Send one command.

    Args:
        address: That of a `ControlServer`.
        command: Method and path: ``POST /admin/reload``.
        body: Sent as JSON.
        timeout_s: Longest wait for the whole answer.
        token: Bearer token, where the admin port needs one.

    Returns:
        HTTP status, and the JSON of the answer.

    Raises:
        ServiceFailed: There is no answer, or it is longer than one of a `ControlServer`.
    """
    until = time.monotonic() + timeout_s
    method, _, path = command.partition(" ")
    connection: http.client.HTTPConnection
    if isinstance(address, Path):
        connection = _UnixConnection(address, timeout_s)
    else:
        connection = http.client.HTTPConnection(*address, timeout=timeout_s)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, msgspec.json.encode(body or {}), headers)
        connection.response_class = partial(_Response, until)  # type: ignore[assignment]
        response = connection.getresponse()
        return response.status, msgspec.json.decode(response.read())
    except (OSError, http.client.HTTPException, *UNDECODABLE) as error:
        raise ServiceFailed(f"no answer from {address}: {error}") from error
    finally:
        connection.close()


def listens(address: Path) -> bool:
    """Whether a process listens on a socket; one that is too busy to answer does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            with _short(address) as short:
                probe.connect(short)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # it has many callers
            return True
    return True


class _Handler(http.server.BaseHTTPRequestHandler):
    answer: Callable[..., Any]
    trusted: bool
    allowed: Callable[[Headers], object]
    timeout = IDLE_S
    protocol_version = "HTTP/1.1"
    server: _Bounded

    def setup(self) -> None:
        super().setup()
        self.rfile.close()  # it would wait as long for each byte
        self.rfile = io.BufferedReader(_Reader(self.connection, time.monotonic() + self.timeout))

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "0")
        is_number = length.isascii() and length.isdigit() and len(length) < MOST_DIGITS
        if not (is_number and int(length) <= BODY_BYTES):
            raise InvalidInput(f"Content-Length {length[:20]!r} is not 0 to {BODY_BYTES}")
        # A page that a browser shows cannot send this type to another host unasked.
        own_type = self.headers.get_content_type() == "application/json"
        if self.command == "POST" and not self.trusted and not own_type:
            raise InvalidInput("the body is not application/json")
        try:
            content = self.rfile.read(int(length)) or b"{}"
        except OSError as error:
            raise InvalidInput(f"the body did not arrive within {IDLE_S:g} s") from error
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise InvalidInput(f"the body is not a JSON object: {error}") from error

    def _do(self, method: str) -> None:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        try:
            # Read in any case: closed with unread data, the connection is reset under the answer.
            body = self._body()
            if not self.server.came(self.connection):
                self.close_connection = True
                return
            if not self.trusted and host not in HOSTS:
                raise InvalidInput(f"Host {host[:60]!r} is not one of {', '.join(HOSTS)}")
            self.allowed([(k.lower().encode(), v.encode()) for k, v in self.headers.items()])
            _asker.set(self.connection)  # in this thread, which ends with its command
            told = self.answer(f"{method} {self.path}", body)
        except SeatrialError as error:
            self._fail(error)
        except Exception as error:
            logging.getLogger(__name__).exception("a command failed")
            self._fail(ServiceFailed(f"the command failed: {type(error).__name__}: {error}"))
        else:
            self._send(200, told)

    def _fail(self, error: SeatrialError) -> None:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        self._send(error.http_status, {"error": told})

    def _send(self, status: int, told: Any) -> None:
        content = msgspec.json.encode(told)
        self.connection.settimeout(self.timeout)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Commands log what they do themselves."""


class _Bounded(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Takes so many connections at a time: each takes a thread.

    For one more, that goes which has been silent longest; where all have sent their commands, the
    new one.
    """

    daemon_threads = True
    request_queue_size = MOST

    def __init__(self, *args: Any) -> None:
        self._places = threading.BoundedSemaphore(MOST)
        self._lock = threading.Lock()
        self._to_come: dict[socket.socket, None] = {}  # commands, in the order of their connections
        self._lines = FewLines()
        super().__init__(*args)

    def came(self, connection: socket.socket) -> bool:
        """Note that a command is here; false where its connection has lost its place."""
        with self._lock:
            return self._to_come.pop(connection, connection) is None

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False) and not self._place_of_another():
            self._tell(f"all of {MOST} connections for commands are at work: a new one was closed")
            self.shutdown_request(request)
            return
        with self._lock:
            self._to_come[request] = None
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was left
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: socket.socket) -> None:
        self.came(request)
        self._places.release()

    def _place_of_another(self) -> bool:
        with self._lock:
            oldest = next(iter(self._to_come), None)
            if oldest is None:
                return False
            del self._to_come[oldest]
            with contextlib.suppress(OSError):  # it has just gone
                oldest.shutdown(socket.SHUT_RDWR)  # which ends its thread's wait
        self._tell(f"of {MOST} connections for commands, one that had sent none was closed")
        return self._places.acquire(timeout=PLACE_S)

    def _tell(self, message: str) -> None:
        left_out = self._lines.next()
        if left_out is not None:
            say("warning", "commands", message, **left_out)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a fault; a client that has left is none."""
        if not isinstance(sys.exception(), OSError):
            logging.getLogger(__name__).exception("a command was not answered")


class _Server(_Bounded, http.server.HTTPServer):
    pass


class _UnixServer(_Bounded, socketserver.UnixStreamServer):
    pass


class _Response(http.client.HTTPResponse):
    """An answer that is read until a moment by `time.monotonic`, and to a length, at most."""

    def __init__(self, until: float, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock, until))


class _Reader(io.RawIOBase):
    """Bytes that come by a socket; the standard library bounds each wait alone, and no length."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._socket, self._until, self._left = sock, until, ANSWER_BYTES
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until it is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time is up")
        if self._left <= 0:
            raise OSError(f"the answer is longer than {ANSWER_BYTES // 2**20} MiB")
        self._socket.settimeout(left_s)
        count: int = self._raw.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__(LOOPBACK, timeout=timeout_s)
        self._path, self._until = path, time.monotonic() + timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        with _short(self._path) as short:
            while True:
                try:
                    self.sock.connect(short)
                    return
                except BlockingIOError as error:  # as many wait as may: it is busy, and lives
                    if time.monotonic() >= self._until:
                        raise TimeoutError("it has too many callers, and the time is up") from error
                    time.sleep(AGAIN_S)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A short name of a socket: the kernel takes 107 bytes, and temporary folders can be deep."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        short = f"/proc/self/fd/{folder}/{path.name}"
        yield short if os.path.isdir("/proc/self/fd") else str(path)
    finally:
        os.close(folder)
