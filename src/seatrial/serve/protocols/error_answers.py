"""Errors as answers, in the form of the protocol that was asked."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from seatrial.errors import (
    DeadlineExceeded,
    EngineFailed,
    Overloaded,
    SeatrialError,
)
from seatrial.serve.outcome import error_headers
from seatrial.serve.protocols.error_body import MEDIA_TYPE, error_body, protocol_error_body
from seatrial.serve.protocols.request_head import RefusedHead
from seatrial.serve.trace_context import Trace, traced

OTHER_ROUTE = "other"  # label in the metrics of requests that have no route
PROTOCOL = "/v2"  # paths of the Open Inference Protocol begin with it
FAILED, SEE_LOG = "the server failed", "see the server's log"
# Errors of a service that are told to its clients; others may name files of the machine.
TOLD = (Overloaded, DeadlineExceeded, EngineFailed)

# Status -> header fields that a refusal of it has.
EXTRA_FIELDS = {401: b"www-authenticate: Bearer\r\n", 503: b"retry-after: 1\r\n"}


def is_protocol(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol, known or not."""
    return path == PROTOCOL or path.startswith(PROTOCOL + "/")


def error_answer(path: str, error: SeatrialError) -> Response:
    """The answer of an error.

    Args:
        path: Path of the request.
        error: What was wrong.
    """
    if error.http_status >= 500 and not isinstance(error, TOLD):
        return plain_answer(path, error.http_status, error.code, FAILED, SEE_LOG)
    reason = error.reason if isinstance(error, Overloaded) else ""
    message = error.public if isinstance(error, EngineFailed) else error.message
    return plain_answer(
        path, error.http_status, error.code, message, error.hint, error_headers(error), reason
    )


def plain_answer(
    path: str,
    status: int,
    code: str,
    message: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    reason: str = "",
) -> Response:
    """An answer with an error; see `error_body`."""
    if is_protocol(path):
        body = protocol_error_body(f"{message}; {hint}" if hint else message)
    else:
        body = error_body(code, message, hint, reason)
    return Response(body, status, dict(headers or {}), media_type=MEDIA_TYPE)


def refusal_in_bytes(refusal: RefusedHead, trace: Trace) -> bytes:
    """Fields and body of the answer to what no application sees; the line of its status is not."""
    with traced(trace):
        body = error_body(refusal.code, str(refusal), refusal.hint)
    return b"content-type: %s\r\ncontent-length: %d\r\n%s%s\r\n%s" % (
        MEDIA_TYPE.encode(), len(body), trace.fields(), EXTRA_FIELDS.get(refusal.status, b""), body,
    )  # fmt: skip
