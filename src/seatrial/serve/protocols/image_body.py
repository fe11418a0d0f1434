"""Reading a request's image: a raw body or a multipart field, never more than the limit."""

from __future__ import annotations

import asyncio

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from seatrial.detect.detector import Ticket
from seatrial.errors import InputTooLarge, InputTooSlow, InvalidInput

FIELD = "image"
# Boundary lines and part headers around the image.
MULTIPART_OVERHEAD_BYTES = 8 * 1024
MAX_PARTS = 64  # a form of a million empty parts would hold up all other requests


async def read_image(request: Request, limit_bytes: int, ticket: Ticket) -> bytes | bytearray:
    """Read the encoded image of a request.

    Args:
        request: ``image/*`` (or no type, or octet-stream) with the file as its body, or
            ``multipart/form-data`` with the file in the field ``image``.
        limit_bytes: Largest image. A declared length over it is refused unread; an undeclared
            one as soon as it is passed.
        ticket: The request's; its deadline is the body's.

    Raises:
        InputTooLarge: Over the limit.
        InputTooSlow: The body was not complete at the deadline.
        InvalidInput: Empty, malformed, without the field, or of another content type.
        ClientDisconnect: The client went away while sending.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"multipart/form-data":
        boundary = options.get(b"boundary")
        if not boundary:
            raise InvalidInput(
                "multipart/form-data without a boundary",
                hint="leave the content type to your HTTP client: it writes the boundary there",
            )
        body = await _read(request, limit_bytes, ticket, MULTIPART_OVERHEAD_BYTES)
        image: bytes | bytearray = _field(body, boundary)
        if len(image) > limit_bytes:
            raise _too_large(limit_bytes)
    elif kind in (b"", b"application/octet-stream") or kind.startswith(b"image/"):
        image = await _read(request, limit_bytes, ticket)
    else:
        raise InvalidInput(
            f"content type {kind.decode('latin-1')!r} is not accepted",
            hint=f"send the file as an image/* body, or as multipart/form-data field {FIELD!r}",
        )
    if not image:
        raise InvalidInput("the image is empty (0 bytes)", hint="send the file's content")
    return image


async def _read(
    request: Request, limit_bytes: int, ticket: Ticket, overhead_bytes: int = 0
) -> bytearray:
    most_bytes = limit_bytes + overhead_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(ticket.remaining_s()):
            async for chunk in request.stream():
                if len(body) + len(chunk) > most_bytes:
                    raise _too_large(limit_bytes)
                body += chunk
    except TimeoutError as error:
        raise InputTooSlow(
            f"only {len(body)} bytes of the body were here after {ticket.deadline_s:g} s",
            hint="send a smaller file, or raise limits.deadline_s",
        ) from error
    return body


def _too_large(limit_bytes: int) -> InputTooLarge:
    return InputTooLarge(
        f"the request is over the limit of {limit_bytes} bytes",
        hint="send a smaller file, or raise limits.body_bytes",
    )


def _field(body: bytearray, boundary: bytes) -> bytes:
    """The content of the form's field ``image``."""
    parts: list[tuple[str, bytearray]] = []
    header = {"name": b"", "value": b""}

    def on_part_begin() -> None:
        if len(parts) == MAX_PARTS:
            raise InvalidInput(f"the form has more than {MAX_PARTS} parts")
        parts.append(("", bytearray()))

    def on_header_field(data: bytes, start: int, end: int) -> None:
        header["name"] += data[start:end]

    def on_header_value(data: bytes, start: int, end: int) -> None:
        header["value"] += data[start:end]

    def on_header_end() -> None:
        if header["name"].lower() == b"content-disposition":
            name = parse_options_header(header["value"])[1].get(b"name", b"")
            parts[-1] = (name.decode("utf-8", "replace"), parts[-1][1])
        header.update(name=b"", value=b"")

    def on_part_data(data: bytes, start: int, end: int) -> None:
        parts[-1][1].extend(memoryview(data)[start:end])

    ended: list[bool] = []
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": on_part_begin,
                "on_header_field": on_header_field,
                "on_header_value": on_header_value,
                "on_header_end": on_header_end,
                "on_part_data": on_part_data,
                "on_end": lambda: ended.append(True),
            },
        )
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError as error:  # a boundary that is too long, a malformed body
        raise InvalidInput(f"the multipart body is malformed: {error}") from error
    if not ended:
        raise InvalidInput(
            "the multipart body is cut off: its last boundary is missing",
            hint="send the whole body",
        )
    names = [name for name, _ in parts]
    if FIELD not in names:
        raise InvalidInput(
            f"no form field {FIELD!r}; the form has: {', '.join(map(repr, names)) or 'none'}",
            hint=f"name the field {FIELD!r}, for example: curl -F {FIELD}=@photo.jpg",
        )
    if names.count(FIELD) > 1:
        raise InvalidInput(
            f"the form has {names.count(FIELD)} fields {FIELD!r}",
            hint="send one image in each request",
        )
    return bytes(parts[names.index(FIELD)][1])
