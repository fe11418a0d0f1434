"""HTTP on a bare socket, for what no client library would send."""

from __future__ import annotations

import json
import socket
from typing import Any

# Heads without their last line.
GET = b"GET /model HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /detect HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        assert chunk, "the connection was closed without an answer"
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(status.split()[1]), headers, body


def last_error(connection: socket.socket, sent: bytes) -> tuple[int, dict[str, Any]]:
    """Status and error of the answer to some bytes, after which the connection ends."""
    connection.sendall(sent)
    status, headers, body = read_response(connection)
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert connection.recv(1) == b""
    return status, json.loads(body)["error"]
