"""Heads of requests that need no parser: those that ordinary clients send with an image.

Under overload most requests are refused by their heads. The parser calls into Python for each
field; here one regular expression reads a subset of HTTP, and all else is left to the parser. A
test compares the two: what is read here, the parser reads in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from seatrial.serve.protocols.request_head import FIELDS, HEAD_BYTES, HOST

# Fields that ask for something, and fields that name somebody: what a refusal depends on.
_ASKING = rb"content-encoding|origin|x-request-priority|x-request-timeout-ms"
_NAMING = rb"authorization|traceparent|x-request-id"
# Fields that say where the request goes, how its body comes, and what becomes of the connection:
# the first three have one form here, the others are left to the parser.
_FRAMING = rb"content-length|host|connection|transfer-encoding|expect|upgrade|proxy-connection"
_VALUE = rb"[!-~]++(?: ++[!-~]++)*+"
# RFC 9112: a request line with a path, and fields of printable ASCII on a line each. A length or a
# host that comes twice fits no branch.
_HEAD = re.compile(
    rb"POST (/[!->@-~]*+)((?:\?[!-~]*+)?+) HTTP/1\.1\r\n"
    rb"(?:"
    rb"(?!(?i:%(framing)b|%(naming)b|%(asking)b):)[A-Za-z0-9-]++: ?+%(value)b\r\n"
    rb"|(?(3)(?!))(?i:content-length): ?+([0-9]{1,9})\r\n"
    rb"|(?(4)(?!))(?i:host): ?+(?=[!-~])(%(host)b)\r\n"
    rb"|(?i:connection): ?+(?i:keep-alive)\r\n"
    rb"|((?i:%(naming)b): ?+%(value)b)\r\n"
    rb"|((?i:%(asking)b): ?+%(value)b)\r\n"
    rb"){1,%(most)d}\r\n"
    % {
        b"framing": _FRAMING,
        b"naming": _NAMING,
        b"asking": _ASKING,
        b"value": _VALUE,
        b"host": HOST,
        b"most": FIELDS,
    }
)
_FIELD = re.compile(rb"\n((?i:content-length|%b|%b)): ?+([ -~]++)\r" % (_NAMING, _ASKING))


class PlainHead(msgspec.Struct, frozen=True):
    """The head of a POST whose body has a length, on a connection that stays open.

    Attributes:
        path: Path, as it was sent.
        fields: Names in lower case and values of the fields that a refusal depends on, in their
            order, ``content-length`` among them; empty where that is the only one.
        asks: Whether one of them asks for something, such as a deadline of the request's own.
        head_bytes: Length of the head.
        body_bytes: Length of the body.
    """

    path: bytes
    fields: Sequence[tuple[bytes, bytes]]
    asks: bool
    head_bytes: int
    body_bytes: int

    def all_fields(self) -> Sequence[tuple[bytes, bytes]]:
        """`fields`, or ``content-length`` alone."""
        return self.fields or [(b"content-length", b"%d" % self.body_bytes)]


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
    path, _, length, host, naming, asking = found.groups()
    if length is None or host is None:
        return None
    if naming is None and asking is None:
        return PlainHead(path, (), False, found.end(), int(length))
    fields = [(name.lower(), value) for name, value in _FIELD.findall(found[0])]
    return PlainHead(path, fields, asking is not None, found.end(), int(length))
