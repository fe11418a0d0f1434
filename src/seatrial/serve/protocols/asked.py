"""Deadline, priority and length of a request, from its headers."""

from __future__ import annotations

from collections.abc import Iterable

from seatrial.errors import InvalidInput
from seatrial.serve.asked import Asked
from seatrial.serve.protocols.body import MOST_TIMES

TIMEOUT = b"x-request-timeout-ms"
PRIORITY = b"x-request-priority"
SHORTEST_S = 1e-6
SHOWN = 40  # characters of a wrong value
PLAIN = (b"", b"identity")  # values of Content-Encoding: the body is as it was
PRIORITIES = {b"live": False, b"batch": True}


def read_asked(headers: Iterable[tuple[bytes, bytes]], longest_deadline_s: float) -> Asked:
    """Read the headers that admission needs.

    Args:
        headers: Names in lower case and values, as ASGI has them.
        longest_deadline_s: Longest deadline that a request may ask for.

    Raises:
        InvalidInput: A value is not one of those that the header takes.
    """
    body_bytes = 0
    known, packed = True, False
    deadline_s: float | None = None
    batch = False
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            body_bytes = int(value)
        elif name == b"transfer-encoding":
            known = False
        elif name == b"content-encoding":
            # It is longer when it is unpacked.
            packed = packed or value.strip().lower() not in PLAIN
        elif name == TIMEOUT:
            deadline_s = _deadline_s(value, longest_deadline_s)
        elif name == PRIORITY:
            try:
                batch = PRIORITIES[value.strip().lower()]
            except KeyError:
                raise InvalidInput(
                    f"{PRIORITY.decode()}: {_shown(value)} is neither live nor batch"
                ) from None
    if known and packed:
        return Asked(None, deadline_s, batch, MOST_TIMES * body_bytes)
    return Asked(body_bytes if known else None, deadline_s, batch)


def read_call_asked(
    metadata: Iterable[tuple[str, str | bytes]],
    remaining_s: float | None,
    longest_deadline_s: float,
    likely_bytes: int,
) -> Asked:
    """`read_asked` of a gRPC call, whose deadline is that of the client (``grpc-timeout``).

    Args:
        metadata: Keys and values of the call.
        remaining_s: Seconds until the client gives up; None where it waits for ever.
        longest_deadline_s: Longest deadline; that of a client that waits longer.
        likely_bytes: Expected length of the message, which gRPC does not declare.

    Raises:
        InvalidInput: A value is not one of those that its key takes.
    """
    wanted = [
        (key.encode(), value.encode() if isinstance(value, str) else value)
        for key, value in metadata
        if key.encode() in (TIMEOUT, PRIORITY)
    ]
    asked = read_asked(wanted, longest_deadline_s)
    deadline_s = asked.deadline_s
    if remaining_s is not None:
        # None is left: a deadline all the same, and not the deployment's.
        own_s = max(SHORTEST_S, min(remaining_s, longest_deadline_s))
        deadline_s = own_s if deadline_s is None else min(own_s, deadline_s)
    return Asked(likely_bytes, deadline_s, asked.batch)


def _shown(value: bytes) -> str:
    text = value.decode("latin-1")
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def _deadline_s(value: bytes, longest_s: float) -> float:
    digits, longest_ms = value.strip(), int(1e3 * longest_s)
    if not digits.isdigit() or not int(digits[:9]):
        raise InvalidInput(
            f"{TIMEOUT.decode()}: {_shown(value)} is not a whole number of milliseconds from 1 to "
            f"{longest_ms}"
        )
    if len(digits) > 9 or int(digits) > longest_ms:
        raise InvalidInput(
            f"{TIMEOUT.decode()}: {_shown(value)} is more than {longest_ms} ms, the longest "
            "deadline that a request of this service may ask for",
            hint="ask for less time, or set limits.longest_deadline_s in the deployment",
        )
    return int(digits) / 1e3
