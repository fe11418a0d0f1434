"""Requests refused by their request line and headers: RFC 9112, and a limit of size.

The parser refuses what is no HTTP at all, folded headers, and two lengths of one body.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import httptools

HEAD_BYTES = 32 * 1024  # largest request line and header fields together
FIELDS = 100  # most header fields
BEGIN_BYTES = 16  # of what is no request, by which other protocols are known
# A name, an IPv4 or a bracketed IPv6 address, and a port (RFC 3986 3.2.2 and 3.2.3).
HOST = rb"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_.~!$&'()*+,;=%-]*+)(?::[0-9]*+)?+"
_HOST = re.compile(HOST)

# What the parser says of a version that it does not know, and of the beginning of HTTP/2.
PARSER_VERSION, PARSER_HTTP2 = "Invalid HTTP version", "Pause on PRI/Upgrade"
TLS = re.compile(rb"\x16\x03[\x00-\x04]")
PROXY = re.compile(rb"PROXY |(?:\r\n\r\n)?\x00\r\nQUIT\n")  # its versions 1 and 2


class RefusedHead(Exception):
    """A request that is not handed to the application.

    Args:
        status: Status of the answer.
        message: What was wrong.
        hint: What to do next.
        code: Name of the kind of error; by default that of the status.
    """

    def __init__(self, status: int, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code or f"Http{status}"
        self.status = status
        self.message = message
        self.hint = hint


def too_large() -> RefusedHead:
    """The refusal of a head over `HEAD_BYTES` or `FIELDS`."""
    return RefusedHead(
        431,
        f"the request line and headers are over {HEAD_BYTES} bytes or {FIELDS} fields",
        "send fewer and shorter headers",
    )


def refusal_of(error: httptools.HttpParserError, begin: bytes = b"") -> RefusedHead:
    """The refusal that answers an error of the parser.

    Args:
        error: The error.
        begin: First bytes of what it could not parse; empty within a request.
    """
    if isinstance(error.__context__, RefusedHead):
        return error.__context__
    if isinstance(error, httptools.HttpParserCallbackError):
        return RefusedHead(400, "the request target is not a path")
    if str(error) == PARSER_VERSION:
        return RefusedHead(505, "this version of HTTP is not spoken here", "use HTTP/1.1")
    if str(error) == PARSER_HTTP2:
        return RefusedHead(
            505,
            "HTTP/2 is not spoken here",
            "use HTTP/1.1; gRPC has a port of its own: server.grpc_port",
        )
    if TLS.match(begin):
        return RefusedHead(
            400,
            "not an HTTP request: this looks like TLS, and the port speaks http",
            "use http, or set server.tls_certificate and server.tls_key",
        )
    if PROXY.match(begin):
        return RefusedHead(
            400,
            "not an HTTP request: this is the PROXY protocol of a balancer",
            "switch it off there (send-proxy, proxy_protocol)",
        )
    return RefusedHead(400, f"not an HTTP request: {error}")


def check_head(version: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Check a request line and its headers.

    Args:
        version: Version of HTTP, such as ``1.1``.
        target: What is asked for, as it was sent.
        headers: Names in lower case, and values.

    Raises:
        RefusedHead: A server must not, or need not, answer such a request.
    """
    if version not in ("1.0", "1.1"):
        raise RefusedHead(505, f"HTTP/{version} is not spoken here", "use HTTP/1.1")
    hosts, size = [], len(target)
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            if version == "1.0":
                raise RefusedHead(400, "HTTP/1.0 has no Transfer-Encoding", "use HTTP/1.1")
            if value.strip().lower() != b"chunked":
                raise RefusedHead(501, "the only Transfer-Encoding here is chunked")
    if size > HEAD_BYTES:
        raise too_large()
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise RefusedHead(400, f"the request has {len(hosts)} Host headers", "send one")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise RefusedHead(400, "the Host header is not a name or address with a port")


def lengths_alone(headers: Sequence[tuple[bytes, bytes]], keep_alive: bool) -> bytes:
    """A head that says of a request how long its body is, and nothing else.

    Args:
        headers: Those of the request, names in lower case.
        keep_alive: Whether another request may follow.
    """
    kept = [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name in (b"content-length", b"transfer-encoding")
    ]
    close = b"" if keep_alive else b"Connection: close\r\n"
    return b"POST / HTTP/1.1\r\n%b%b\r\n" % (b"".join(kept), close)
