"""Reading a request's image: a raw body or a multipart field, never more than the limit."""

from __future__ import annotations

import re
from functools import partial

from starlette.requests import Request

from seatrial.deployment import Thresholds
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.body import Arrived, read_unpacked_body, too_large
from seatrial.serve.protocols.off_loop import MOST_BINARY_BYTES, read_off_loop

FIELD = "image"
# Fields that are meant for the detector -> its name of the parameter; Ultralytics has the last two.
PARAMETERS = {
    **{name: name for name in Thresholds.__struct_fields__},
    "conf": "confidence", "max_det": "max_detections",
}  # fmt: skip
# Boundary lines and part headers around the image.
MULTIPART_OVERHEAD_BYTES = 8 * 1024
MAX_PARTS = 64  # a form of a million empty parts would hold up all other requests
MAX_HEADER_BYTES = 2048  # a content type, or the headers of a part
# A parameter of a header: its name, and its value with or without quotes (RFC 9110 5.6.6).
_PARAMETER = re.compile(rb';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.DOTALL)
# The same as browsers write it in a form: quotes are %22 there, and a backslash is itself (WHATWG
# HTML, multipart/form-data).
_BROWSERS_PARAMETER = re.compile(rb';\s*([\w*-]+)\s*=\s*(?:"([^"]*)"|([^\s;"]*))')
_FOLD = re.compile(rb"\r\n[ \t]+")  # of a header over several lines (RFC 5322, 2.2.3)
_END_OF_LINE = re.compile(rb"[ \t]*\r\n")


async def read_image(
    request: Request, limit_bytes: int, within_s: float, on_arrival: Arrived
) -> bytes | bytearray:
    """Read the encoded image of a request.

    Args:
        request: ``image/*`` (or no type, or octet-stream) with the file as its body, or
            ``multipart/form-data`` with the file in the field ``image``; packed or not, see
            `read_unpacked_body`.
        limit_bytes: Largest image. A declared length over it is refused unread; an undeclared
            one as soon as it is passed.
        within_s: Longest time for the body to arrive, seconds.
        on_arrival: Called after each piece.

    Raises:
        InputTooLarge: Over the limit.
        InputTooSlow: The body was not complete by then.
        InvalidInput: Empty, malformed, without the field, or of another content type.
        UnsupportedCoding: It is packed otherwise than with gzip or deflate.
        ClientDisconnect: The client went away while sending.
    """
    content_type = request.headers.get("content-type", "").encode("latin-1")
    if len(content_type) > MAX_HEADER_BYTES:
        raise InvalidInput(f"the content type is longer than {MAX_HEADER_BYTES} bytes")
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        boundary = _parameters(content_type).get(b"boundary")
        if not boundary:
            raise InvalidInput(
                "multipart/form-data without a boundary",
                hint="leave the content type to your HTTP client: it writes the boundary there",
            )
        body = await read_unpacked_body(
            request, limit_bytes, within_s, MULTIPART_OVERHEAD_BYTES, on_arrival
        )
        image: bytes | bytearray = await read_off_loop(
            len(body), partial(_field, body, boundary), MOST_BINARY_BYTES
        )
        if len(image) > limit_bytes:
            raise too_large(limit_bytes)
    elif kind in (b"", b"application/octet-stream") or kind.startswith(b"image/"):
        image = await read_unpacked_body(request, limit_bytes, within_s, on_arrival=on_arrival)
    else:
        raise InvalidInput(
            f"content type {kind.decode('latin-1')!r} is not accepted",
            hint=f"send the file as an image/* body, or as multipart/form-data field {FIELD!r}",
        )
    if not image:
        raise InvalidInput("the image is empty (0 bytes)", hint="send the file's content")
    return image


def _parameters(header: bytes, form: re.Pattern[bytes] = _PARAMETER) -> dict[bytes, bytes]:
    """The parameters behind a header's value, by their names in lower case."""
    return {name.lower(): quoted or token for name, quoted, token in form.findall(header)}


def _field(body: bytes | bytearray, boundary: bytes) -> bytes:
    """The content of the form's field ``image``.

    A form costs at most `MAX_PARTS` searches, each over a part of the body of its own, whatever
    is in it.
    """
    parts = _parts(body, boundary)
    names = [name for name, _ in parts]
    if FIELD not in names:
        raise InvalidInput(
            f"no form field {FIELD!r}; the form has: {', '.join(map(_shown, names)) or 'none'}",
            hint=f"name the field {FIELD!r}, for example: curl -F {FIELD}=@photo.jpg",
        )
    if misplaced := [name for name in names if name in PARAMETERS]:
        name = PARAMETERS[misplaced[0]]
        raise InvalidInput(
            f"the form has the field {misplaced[0]!r}, which is not read",
            hint=f"parameters belong into the address: /detect?{name}=...",
        )
    if names.count(FIELD) > 1:
        raise InvalidInput(
            f"the form has {names.count(FIELD)} fields {FIELD!r}",
            hint="send one image in each request",
        )
    return bytes(memoryview(body)[parts[names.index(FIELD)][1]])


def _parts(body: bytes | bytearray, boundary: bytes) -> list[tuple[str, slice]]:
    """Name and place of each part (RFC 2046 5.1.1, RFC 7578)."""
    delimiter = b"\r\n--" + boundary
    found: list[tuple[str, slice]] = []
    if body.startswith(delimiter[2:]):
        position = len(delimiter) - 2
    else:  # text may stand before the first part
        end = body.find(delimiter)
        if end < 0:
            raise _malformed("it does not begin with its boundary")
        position = end + len(delimiter)
    while not body.startswith(b"--", position):
        if len(found) == MAX_PARTS:
            raise InvalidInput(f"the form has more than {MAX_PARTS} parts")
        line = _END_OF_LINE.match(body, position)
        if line is None and position < len(body) - 1:
            raise _malformed("a boundary does not end its line")
        # A part without headers begins with its empty line.
        headers = line.end() - 2 if line else position
        start = body.find(b"\r\n\r\n", headers, headers + MAX_HEADER_BYTES)
        end = body.find(delimiter, start + 4) if start >= 0 else -1
        if start < 0 and len(body) - headers >= MAX_HEADER_BYTES:
            raise _malformed(f"the headers of a part are longer than {MAX_HEADER_BYTES} bytes")
        if end < 0:
            raise InvalidInput(
                "the multipart body is cut off: its last boundary is missing",
                hint="send the whole body",
            )
        name = _name_of_part(bytes(body[headers:start]))
        found.append((name, slice(start + 4, end)))
        position = end + len(delimiter)
    return found


def _name_of_part(headers: bytes) -> str:
    for line in _FOLD.sub(b" ", headers).split(b"\r\n"):
        kind, _, value = line.partition(b":")
        if kind.strip().lower() == b"content-disposition":
            # Both are sent: curl escapes quotes with a backslash, browsers end a name in one.
            for form in (_PARAMETER, _BROWSERS_PARAMETER):
                if name := _parameters(value, form).get(b"name"):
                    return name.decode("utf-8", "replace")
    return ""


def _shown(name: str) -> str:
    return repr(name) if name else "a part without a name"


def _malformed(why: str) -> InvalidInput:
    return InvalidInput(f"the multipart body is malformed: {why}")
