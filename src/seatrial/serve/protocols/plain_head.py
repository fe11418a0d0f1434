"""Heads of requests that need no parser: those that ordinary clients send with an image.

Under overload most requests are refused by their heads. The parser calls into Python for each
field; here two regular expressions read a subset of HTTP, and all else is left to the parser. A
test compares the two: what is read here, the parser reads in the same way.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from seatrial.serve.protocols.request_head import FIELDS, HEAD_BYTES

# RFC 9112: a request line with a path, and fields of printable ASCII on a line each.
_HEAD = re.compile(
    rb"POST (/[!-~]*+) HTTP/1\.1\r\n"
    rb"((?:[A-Za-z0-9-]++: ?+[!-~]++(?: ++[!-~]++)*+\r\n)++)\r\n"
)
_FIELD = re.compile(rb"([A-Za-z0-9-]++): ?+([ -~]++)\r\n")
# Fields that say how the body comes, or what becomes of the connection.
_LEFT_TO_THE_PARSER = (b"transfer-encoding", b"expect", b"upgrade", b"proxy-connection")


class PlainHead(NamedTuple):
    """The head of a POST whose body has a length, on a connection that stays open.

    Attributes:
        target: Path and query, as they were sent.
        fields: Names in lower case and values, in their order.
        head_bytes: Length of the head.
        body_bytes: Length of the body.
    """

    target: bytes
    fields: list[tuple[bytes, bytes]]
    head_bytes: int
    body_bytes: int


def read_plain_head(data: bytes | memoryview) -> PlainHead | None:
    """Read the head at the beginning of some data.

    Args:
        data: What came on a connection, from the first byte of a request on.

    Returns:
        None where the head is not whole, or not a plain one.
    """
    found = _HEAD.match(data, 0, HEAD_BYTES)
    if found is None:
        return None
    target, block = found.groups()
    fields = [(name.lower(), value) for name, value in _FIELD.findall(block)]
    body_bytes = -1
    for name, value in fields:
        if name == b"content-length":
            if body_bytes >= 0 or len(value) > 9 or not value.isdigit():
                return None
            body_bytes = int(value)
        elif name == b"connection":
            if value.lower() != b"keep-alive":
                return None
        elif name in _LEFT_TO_THE_PARSER:
            return None
    if body_bytes < 0 or len(fields) > FIELDS:
        return None
    return PlainHead(target, fields, found.end(), body_bytes)
