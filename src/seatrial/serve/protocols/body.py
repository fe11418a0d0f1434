"""Reading the body of a request: never more than the limit, packed or not, and in time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from starlette.requests import Request

from seatrial.errors import InputTooLarge, InputTooSlow, InvalidInput, UnsupportedCoding

# Content-Encoding -> what zlib calls it.
ENCODINGS = {
    "gzip": zlib.MAX_WBITS + 16,
    "x-gzip": zlib.MAX_WBITS + 16,  # the same (RFC 9110, 8.4.1.3)
    "deflate": zlib.MAX_WBITS,
}
GZIP_BEGINS = 0x1F  # first byte of each member
# Unpacked at a time: this runs on the event loop, where all other requests wait meanwhile.
PIECE_BYTES = 256 * 1024
# An image that unpacks to more than so many times its length is one colour, and a hundred bytes of
# it take a lane as long as 25 megapixels do. A photo, or base64 of it, has 1.4 at most.
MOST_TIMES = 20
EXCHANGE = "exchange"  # name of a `HasBody` in the scope of a request, where there is one
# Members of a gzip file, one behind the other: an empty one is 20 bytes, and beginning one takes
# as long as unpacking some kilobytes. So many are free, and one more for so many bytes.
FREE_MEMBERS, MEMBER_BYTES = 64, 4096
# Given to zlib at a time: behind the end of each member it copies what is left of that.
PACKED_BYTES = 64 * 1024
# Where no length is declared, the first bytes may be more packed than the whole body: it is refused
# before its end only where it is so much longer than it may be.
AHEAD_BYTES = 2**20


class Arrived(Protocol):
    """Wants to know how much of a body is here."""

    def __call__(self, body_bytes: int, of_bytes: int = 0, /) -> object:
        """So many bytes are here; of a packed body, of so many that were declared."""


class HasBody(Protocol):
    """May have the whole body of a request already: `seatrial.serve.exchange.Exchange`."""

    def take_body(self) -> bytes | bytearray | None:
        """The body, if all of it is here; it is given once."""


def _nobody(body_bytes: int, of_bytes: int = 0, /) -> None:
    pass


async def read_body(
    request: Request,
    limit_bytes: int,
    within_s: float,
    overhead_bytes: int = 0,
    on_arrival: Arrived = _nobody,
) -> bytes | bytearray:
    """The body of a request, as it was sent.

    Args:
        request: Its headers are read already.
        limit_bytes: Largest body, as a message names it. A declared length over it is refused
            unread; an undeclared one as soon as it is passed.
        within_s: Longest time for the body to arrive, seconds.
        overhead_bytes: What the body may be longer.
        on_arrival: Called after each piece.

    Raises:
        InputTooLarge: Over the limit.
        InputTooSlow: The body was not complete by then.
        ClientDisconnect: The client went away while sending.
    """
    most_bytes = limit_bytes + overhead_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most_bytes:
        raise too_large(limit_bytes)
    exchange: HasBody | None = request.scope.get(EXCHANGE)
    whole = None if exchange is None else exchange.take_body()
    if whole is not None and len(whole) <= most_bytes:
        on_arrival(len(whole))
        return whole
    if whole is not None:
        raise too_large(limit_bytes)
    return await _joined(request.stream(), limit_bytes, most_bytes, within_s, on_arrival)


async def read_unpacked_body(
    request: Request,
    limit_bytes: int,
    within_s: float,
    overhead_bytes: int = 0,
    on_arrival: Arrived = _nobody,
    free_bytes: float = 0,
) -> bytes | bytearray:
    """`read_body` of a request that may be packed (``Content-Encoding: gzip`` or ``deflate``).

    It is unpacked while it arrives, and never kept packed; the limit is that of both forms.

    Args:
        request: See `read_body`.
        limit_bytes: See `read_body`.
        within_s: See `read_body`.
        overhead_bytes: See `read_body`.
        on_arrival: See `read_body`.
        free_bytes: Length that a body may have however short it is packed; a longer one may have
            `MOST_TIMES` its packed length.

    Raises:
        UnsupportedCoding: Another encoding, or several.
        InvalidInput: The body is damaged, cut off or has more behind it, or is too long for what it
            is packed in. No more is unpacked then.
    """
    encodings = request.headers.getlist("content-encoding")
    encoding = ", ".join(encodings).strip().lower() or "identity"
    if encoding == "identity":
        return await read_body(request, limit_bytes, within_s, overhead_bytes, on_arrival)
    if encoding not in ENCODINGS:
        raise UnsupportedCoding(
            f"content encoding {encoding[:40]!r} is not accepted",
            hint="send the body as it is, or with gzip or deflate",
        )
    most_bytes = limit_bytes + overhead_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most_bytes:
        raise too_large(limit_bytes)
    times = _Times(int(declared) if declared.isdecimal() else 0, free_bytes)
    if not times.declared:
        pieces = _unpacked(request.stream(), encoding, times, _nobody)
        return await _joined(pieces, limit_bytes, most_bytes, within_s, on_arrival)
    pieces = _unpacked(request.stream(), encoding, times, on_arrival)
    return await _joined(pieces, limit_bytes, most_bytes, within_s, _nobody)


async def _joined(
    pieces: AsyncIterator[bytes],
    limit_bytes: int,
    most_bytes: int,
    within_s: float,
    on_arrival: Arrived,
) -> bytes | bytearray:
    body: bytes | bytearray = b""
    try:
        async with asyncio.timeout(within_s):
            async for piece in pieces:
                if len(body) + len(piece) > most_bytes:
                    raise too_large(limit_bytes)
                if not body:  # often this is all of it
                    body = piece
                elif piece:
                    if isinstance(body, bytes):
                        body = bytearray(body)
                    body += piece
                on_arrival(len(body))
    except TimeoutError as error:
        raise InputTooSlow(
            f"only {len(body)} bytes of the body were here after {within_s:g} s",
            hint="send a smaller file, or raise limits.body_s",
        ) from error
    return body


class _Times(NamedTuple):
    """How long a body may be unpacked: by its declared length, 0 where there is none."""

    declared: int
    free_bytes: float

    def check(self, unpacked: int, arrived: int, *, whole: bool = False) -> None:
        """Check what is unpacked so far, or the whole of it.

        Raises:
            InvalidInput: It is too long for what it was packed in.
        """
        packed = arrived if whole else max(self.declared, arrived)
        ahead = 0 if whole or self.declared else AHEAD_BYTES
        if unpacked > max(self.free_bytes, MOST_TIMES * packed) + ahead:
            raise InvalidInput(
                f"the body is more than {MOST_TIMES} times as long unpacked",
                hint="send images without Content-Encoding: they are packed already; and tensors "
                "as binary data",
            )


async def _unpacked(
    packed: AsyncIterator[bytes], encoding: str, times: _Times, on_arrival: Arrived
) -> AsyncIterator[bytes]:
    """Pieces of what was packed, each `PIECE_BYTES` long at most.

    Source: RFC 1952, 2.2: members follow one another, and their contents are one.
    """
    unpacking = zlib.decompressobj(ENCODINGS[encoding])
    arrived = unpacked = members = 0
    async for chunk in packed:
        if chunk and not arrived and encoding == "deflate":
            unpacking = zlib.decompressobj(_deflate_bits(chunk[0]))
        arrived += len(chunk)
        on_arrival(arrived, times.declared)
        view = memoryview(chunk)
        while view:
            if unpacking.eof:
                members += 1
                _check_member(encoding, view[0], members, arrived)
                unpacking = zlib.decompressobj(ENCODINGS[encoding])
            given = view[:PACKED_BYTES]
            try:
                piece = unpacking.decompress(given, PIECE_BYTES)
            except zlib.error as error:
                raise InvalidInput(f"the body is not {encoding} data, or damaged") from error
            left = unpacking.unused_data if unpacking.eof else unpacking.unconsumed_tail
            view = view[len(given) - len(left) :]
            unpacked += len(piece)
            times.check(unpacked, arrived)
            yield piece
            await asyncio.sleep(0)
    while piece := unpacking.decompress(b"", PIECE_BYTES):  # what the last piece had no room for
        unpacked += len(piece)
        times.check(unpacked, arrived)
        yield piece
    if arrived and not unpacking.eof:
        raise InvalidInput(f"the {encoding} data of the body is cut off", hint="send all of it")
    times.check(unpacked, arrived, whole=True)


def _deflate_bits(first: int) -> int:
    """The number by which zlib knows a deflate coding that begins with some byte.

    HTTP's is deflate data in zlib's format (RFC 9110, 8.4.1.2). Some clients leave that out, and
    browsers take both. Method 8 is in each zlib header (RFC 1950, 2.2); data that begin with these
    bits would be a stored block with bits in its padding, which no one writes.
    """
    return zlib.MAX_WBITS if first & 0x0F == 8 else -zlib.MAX_WBITS


def _check_member(encoding: str, first: int, members: int, arrived: int) -> None:
    """Check what is behind the end of packed data: another member of a gzip file, of not many."""
    if ENCODINGS[encoding] != ENCODINGS["gzip"] or first != GZIP_BEGINS:
        raise InvalidInput(f"the body has bytes behind the end of its {encoding} data")
    if members > FREE_MEMBERS + arrived // MEMBER_BYTES:
        raise InvalidInput(
            f"the body has more than {members} members of gzip in {arrived} bytes",
            hint="pack it as one member",
        )


def too_large(limit_bytes: int) -> InputTooLarge:
    """The error of a body over the limit."""
    return InputTooLarge(
        f"the request is over the limit of {limit_bytes} bytes",
        hint="send a smaller file, or raise limits.body_bytes",
    )
