"""HTTP/2 on a bare socket: calls of gRPC that no client library would make."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PATIENCE_S = 60.0
INITIAL_WINDOW = 4  # a setting: bytes that each stream may send


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, 4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def begin(
    port: int,
    *,
    window: int | None = None,
    host: str = "127.0.0.1",
    trusted: ssl.SSLContext | None = None,
) -> socket.socket:
    """A connection on which streams can be opened.

    Args:
        port: Where a server listens.
        window: Bytes that the server may send on each stream; None: the usual number.
        host: Address of the server.
        trusted: Encrypts the connection; None: it is not encrypted.
    """
    connection = socket.create_connection((host, port), timeout=PATIENCE_S)
    if trusted is not None:
        trusted.set_alpn_protocols(["h2"])
        connection = trusted.wrap_socket(connection, server_hostname=host)
    connection.sendall(PREFACE + settings(window))
    return connection


def settings(window: int | None) -> bytes:
    """A frame of settings: the bytes that the server may send on each stream, also of open ones."""
    told = b"" if window is None else INITIAL_WINDOW.to_bytes(2, "big") + _word(window)
    return frame(SETTINGS, 0, 0, told)


def frames(connection: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame, until the server ends the connection.

    Pings and settings are answered: for the server this client is there.

    Raises:
        TimeoutError: The server sends nothing, and keeps the connection.
    """
    arrived = bytearray()
    while True:
        while len(arrived) >= 9 and len(arrived) >= (end := 9 + int.from_bytes(arrived[:3], "big")):
            kind, flags, stream = arrived[3], arrived[4], int.from_bytes(arrived[5:9], "big")
            payload = bytes(arrived[9:end])
            del arrived[:end]
            if kind in (SETTINGS, PING) and not flags & ACK:
                with contextlib.suppress(ConnectionError):
                    answer = payload if kind == PING else b""
                    connection.sendall(frame(kind, ACK, 0, answer))
            yield kind, flags, stream, payload
        try:
            read = connection.recv(65536)
        except (ConnectionError, ssl.SSLEOFError):
            return
        if not read:
            return
        arrived += read


def call(
    connection: socket.socket,
    path: str,
    numbers: Iterable[int],
    message: bytes = b"",
    *,
    last: bool = True,
) -> None:
    """Begin calls of a method, one for each number of a stream; without a message they wait.

    Args:
        connection: From `begin`.
        path: Path of the method.
        numbers: Numbers of the streams.
        message: The message of each call.
        last: Whether the server is told that no other message follows.
    """
    sent = bytearray()
    for number in numbers:
        sent += frame(HEADERS, END_HEADERS, number, _headers(path))
        if message:
            sent += _message(number, message, last)
    connection.sendall(sent)


def send(connection: socket.socket, number: int, message: bytes, *, last: bool = False) -> None:
    """Send another message of a call; see `call`."""
    connection.sendall(_message(number, message, last))


@contextlib.contextmanager
def silent(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for _ in range(count)
        ]


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has ended a connection; what it sent is read."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def await_answer(connection: socket.socket) -> None:
    for kind, flags, number, _ in frames(connection):
        if (kind, number) == (HEADERS, 1) and flags & END_STREAM:
            return
    raise AssertionError("the connection was ended before the answer")


def await_begin(connection: socket.socket) -> None:
    """Wait for the metadata with which the answer to a call begins; windows do not hold it up."""
    assert any(kind == HEADERS for kind, *_ in frames(connection))


def _message(number: int, message: bytes, last: bool) -> bytes:
    flags = END_STREAM if last else 0
    return frame(DATA, flags, number, b"\0" + _word(len(message)) + message)


def _word(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _headers(path: str) -> bytes:
    """Header fields as literals that are not indexed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127
    return bytes([len(data)]) + data
