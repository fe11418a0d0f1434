"""When certificates end, by what is written in them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime

BLOCK = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([^-]*)-----END ")
VERSION, UTC_TIME = 0xA0, 0x17  # tags; the first is left out where it has its default
VALIDITY = 3  # place of the field behind serial number, algorithm and issuer
CENTURY = b"50"  # years from here on are 19xx where they have two digits


def first_end_s(pem: bytes) -> float | None:
    """The earliest end of the certificates in a PEM file, seconds since 1970.

    Nothing is verified. Python's `ssl` tells this of a certificate of the other side alone.

    Args:
        pem: The file: a certificate, and those between it and the authority.

    Returns:
        None where there is no certificate, or one of them cannot be read.

    Source: RFC 5280, 4.1.
    """
    try:
        ends = [_end_s(base64.b64decode(block)) for block in BLOCK.findall(pem)]
    except (ValueError, IndexError):
        return None
    return min(ends, default=None)


def _end_s(der: bytes) -> float:
    _, certificate = next(_fields(der))
    _, signed = next(_fields(certificate))
    fields = [content for tag, content in _fields(signed) if tag != VERSION]
    _, (tag, end) = _fields(fields[VALIDITY])
    if tag == UTC_TIME:
        end = (b"19" if end[:2] >= CENTURY else b"20") + end
    return datetime.strptime(end.decode(), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value of a sequence (X.690, 8.1).

    Raises:
        ValueError: It is cut off.
        IndexError: It is cut off.
    """
    if not der:
        raise ValueError("no value")
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length >= 0x80:  # so many bytes hold it
            size = length - 0x80
            length = int.from_bytes(der[at : at + size])
            at += size
        content = der[at : at + length]
        if len(content) < length:
            raise ValueError("the value is cut off")
        yield tag, content
        at += length
