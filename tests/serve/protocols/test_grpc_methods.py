"""Names and errors of gRPC calls; methods are called in `test_inference_grpc.py`."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from seatrial.errors import InvalidInput, Overloaded
from seatrial.serve.protocols.grpc_methods import (
    MOST_DETAILS,
    call_headers,
    error_metadata,
    error_text,
    metadata_of,
    report_call,
)
from seatrial.serve.trace_context import Trace


def test_metadata_and_headers_are_the_same() -> None:
    given = (("x-request-id", "seven"), ("trace-bin", b"\x00\xff"))
    context = SimpleNamespace(invocation_metadata=lambda: given)
    headers = call_headers(context)
    assert headers == [(b"x-request-id", b"seven"), (b"trace-bin", b"\x00\xff")]
    assert metadata_of(headers[:1]) == given[:1]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidInput("it is wrong", hint="send another"), "it is wrong; send another"),
        (InvalidInput("it is wrong"), "it is wrong"),
    ],
)
def test_a_client_is_told_what_to_do(error: InvalidInput, text: str) -> None:
    assert error_text(error) == text


def test_a_long_message_is_shortened() -> None:
    """Metadata of a call may take 8 KiB, and what is not ASCII takes three times its length."""
    text = error_text(InvalidInput("é" * 5000))
    assert len(text) <= MOST_DETAILS
    assert len(text.encode()) * 1.5 < 8000


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(200, 200), (InvalidInput("x"), 400), (asyncio.CancelledError(), 499), (ValueError(), 500)],
)
def test_who_is_told_of_requests_is_told_what_became_of_them(
    outcome: int | BaseException, status: int
) -> None:
    told: list[tuple[Any, ...]] = []
    serving: Any = SimpleNamespace(reports=[lambda *words: told.append(words)])
    scope, trace = {"path": "/x"}, Trace()
    report_call(serving, scope, None, outcome)
    assert told == []
    report_call(serving, scope, trace, outcome, 7)
    assert told == [(scope, trace, status, 7)]


def test_errors_have_their_name_and_refusals_the_time_to_come_again() -> None:
    assert error_metadata(InvalidInput("x")) == (("x-error-code", "InvalidInput"),)
    told = dict(error_metadata(Overloaded("x", reason="deadline", wait_s=2.5)))
    assert (told["x-error-code"], told["x-refused-for"]) == ("Overloaded", "deadline")
    assert told["x-predicted-wait-ms"] == "2500"
    assert 3 <= int(told["retry-after"]) <= 7
    assert told["grpc-retry-pushback-ms"] == f"{told['retry-after']}000"
