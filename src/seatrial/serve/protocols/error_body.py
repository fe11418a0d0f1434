"""The JSON of an error, whichever part of the server answers."""

from __future__ import annotations

import msgspec

from seatrial.serve.trace_context import current_request_id

MEDIA_TYPE = "application/json"


class RequestError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of a request.

    Attributes:
        code: Name of the kind of error; it stays the same across releases.
        message: What was wrong, in words.
        hint: What to do next; may be empty.
        reason: Limit that a request which was refused under load would have exceeded: ``deadline``,
            ``queue``, ``bytes``, ``lanes``, ``pixels`` or ``memory``; ``slow`` where its body was
            long in coming; ``drain`` where the service
            ended before the answer was there. Other errors have none.
        request_id: Name of the request in the service's log.
    """

    code: str
    message: str
    hint: str
    reason: str = ""
    request_id: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    """The JSON of every error but those of the Open Inference Protocol."""

    error: RequestError


class ProtocolErrorBody(msgspec.Struct, frozen=True):
    """The JSON of every error of the Open Inference Protocol.

    Attributes:
        error: What was wrong, and what to do next.
    """

    error: str


def error_body(
    code: str, message: str, hint: str = "", reason: str = "", request_id: str = ""
) -> bytes:
    """The body of an answer with an error; see `RequestError`.

    Without a ``request_id`` it is that of the request that this task answers.
    """
    error = RequestError(code, message, hint, reason, request_id or current_request_id())
    return msgspec.json.encode(ErrorBody(error))


def protocol_error_body(message: str) -> bytes:
    """The body of an answer with an error of the Open Inference Protocol."""
    return msgspec.json.encode(ProtocolErrorBody(message))
