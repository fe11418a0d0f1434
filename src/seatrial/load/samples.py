"""The record of one request, whatever carried it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

# An image that is posted; the Open Inference Protocol over HTTP; the same over gRPC.
ProtocolName = Literal["http", "v2", "grpc"]
# Failures before any byte of an answer; the others are `http-<status>`
# and `grpc-<status>`.
CONNECT, DISCONNECT, TIMEOUT, PROTOCOL = "connect", "disconnect", "timeout", "protocol"
# Failures of an answer that came: longer than `ANSWER_BYTES`; packed, which no request asks for;
# with numbers that no service counts or measures; without detections, which the first answers had.
TOO_LONG, ENCODED, NUMBERS, UNREADABLE = "too-long", "encoded", "impossible-numbers", "unreadable"
# Of one answer. Ten times the JSON of 30,000 boxes, the most that a service of ours finds; foreign
# ones answer with tensors of a network, written out in digits.
ANSWER_BYTES = 64 * 2**20


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One request and its answer.

    Attributes:
        start_ns: `perf_counter_ns` before the send.
        end_ns: The same clock after the last byte of the answer, or at the failure.
        status: HTTP status, or the one that says the same as gRPC's; 0 where there was no whole
            answer.
        error: Kind of failure: `connect`, `timeout`, `http-503`, `too-long`, ...; empty for a good
            answer.
        received_bytes: Size of the answer's body.
        detections: Number of detections in the answer; None where it does not say.
        timing_ms: Stage times of the service itself; None where it gives none.
        due_ns: The same clock when the request was due; None in a closed loop, where a request
            is due when it is sent.
        retried: Whether it was sent again on a new connection, as the service had closed the one
            that it was sent on; it is timed from the first send.
    """

    start_ns: int
    end_ns: int
    status: int
    error: str = ""
    received_bytes: int = 0
    detections: int | None = None
    timing_ms: dict[str, float] | None = None
    due_ns: int | None = None
    retried: bool = False

    @property
    def latency_ms(self) -> float:
        """Time from the due time to the last byte; from the send where there is no due time."""
        return (self.end_ns - (self.start_ns if self.due_ns is None else self.due_ns)) / 1e6

    @property
    def service_ms(self) -> float:
        """Time from the send to the last byte."""
        return (self.end_ns - self.start_ns) / 1e6


def joined(samples: Sequence[Sample]) -> Sample:
    """The record of a query of several images: it ends with its last answer.

    It fails where one of its images does. Stage times are left out: those of images that are
    worked on side by side do not add up to the time of the query.
    """
    failed = next((one for one in samples if one.error), None)
    found = [one.detections for one in samples if one.detections is not None]
    return Sample(
        start_ns=min(one.start_ns for one in samples),
        end_ns=max(one.end_ns for one in samples),
        status=min(one.status for one in samples) if failed is None else failed.status,
        error="" if failed is None else failed.error,
        received_bytes=sum(one.received_bytes for one in samples),
        detections=sum(found) if len(found) == len(samples) else None,
        retried=any(one.retried for one in samples),
    )


class Reply(msgspec.Struct, frozen=True):
    """The answer to a small question.

    Attributes:
        status: HTTP status; 0 where no answer came.
        payload: Body of the answer.
        error: Why no answer came; empty where one came.
        location: Place that it is redirected to; empty where it is not, or to none.
    """

    status: int
    payload: bytes = b""
    error: str = ""
    location: str = ""
