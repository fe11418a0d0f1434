"""HTTP/2 on a bare socket: calls of gRPC that no client library would make."""

from __future__ import annotations

import socket
from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW = 4  # a setting: bytes that each stream may send


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, 4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def begin(port: int, *, window: int | None = None) -> socket.socket:
    """A connection on which streams can be opened.

    Args:
        port: Where a server listens.
        window: Bytes that the server may send on each stream; None: the usual number.
    """
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    settings = b"" if window is None else INITIAL_WINDOW.to_bytes(2, "big") + _word(window)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
    return connection


def call(
    connection: socket.socket, path: str, numbers: Iterable[int], message: bytes = b""
) -> None:
    """Begin calls of a method, one for each number of a stream; without a message they wait."""
    sent = bytearray()
    for number in numbers:
        sent += frame(HEADERS, END_HEADERS, number, _headers(path))
        if message:
            sent += frame(DATA, END_STREAM, number, b"\0" + _word(len(message)) + message)
    connection.sendall(sent)


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
