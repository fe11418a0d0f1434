"""The JSON of an error, whichever part of the server answers."""

from __future__ import annotations

import msgspec

MEDIA_TYPE = "application/json"


class RequestError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of a request.

    Attributes:
        code: Name of the kind of error; it stays the same across releases.
        message: What was wrong, in words.
        hint: What to do next; may be empty.
        reason: Limit that a request which was refused under load would have exceeded: ``deadline``,
            ``queue``, ``bytes``, ``lanes``, ``pixels`` or ``memory``. Other errors have none.
    """

    code: str
    message: str
    hint: str
    reason: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    """The JSON of every error but those of the Open Inference Protocol."""

    error: RequestError


class ProtocolErrorBody(msgspec.Struct, frozen=True):
    """The JSON of every error of the Open Inference Protocol.

    Attributes:
        error: What was wrong, and what to do next.
    """

    error: str


def error_body(code: str, message: str, hint: str = "", reason: str = "") -> bytes:
    """The body of an answer with an error; see `RequestError`."""
    return msgspec.json.encode(ErrorBody(RequestError(code, message, hint, reason)))


def protocol_error_body(message: str) -> bytes:
    """The body of an answer with an error of the Open Inference Protocol."""
    return msgspec.json.encode(ProtocolErrorBody(message))
