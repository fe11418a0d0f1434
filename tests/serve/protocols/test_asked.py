"""Headers by which a request says how urgent and how long it is."""

from __future__ import annotations

import pytest

from seatrial.errors import InvalidInput
from seatrial.serve.admission import Asked
from seatrial.serve.protocols.asked import read_asked


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({}, Asked(0, None, batch=False)),
        ({"content-length": "12"}, Asked(12)),
        ({"transfer-encoding": "chunked"}, Asked(None)),
        ({"content-length": "many"}, Asked(0)),  # the server has refused it already
        ({"x-request-timeout-ms": "250"}, Asked(0, 0.25)),
        ({"x-request-timeout-ms": " 1 "}, Asked(0, 0.001)),
        ({"x-request-timeout-ms": "60000"}, Asked(0, 60.0)),
        ({"x-request-priority": "batch"}, Asked(0, batch=True)),
        ({"x-request-priority": " Live"}, Asked(0)),
    ],
)
def test_what_is_asked_for(headers: dict[str, str], asked: Asked) -> None:
    given = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert read_asked([(b"host", b"x"), *given], 60.0) == asked


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", "1e3", "60001", "9" * 5000, "\u0663"])
def test_a_deadline_is_a_whole_number_within_the_limit(value: str) -> None:
    with pytest.raises(InvalidInput, match="milliseconds from 1 to 60000") as refusal:
        read_asked([(b"x-request-timeout-ms", value.encode())], 60.0)
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize("value", ["", "high", "live, batch"])
def test_a_priority_is_one_of_two(value: str) -> None:
    with pytest.raises(InvalidInput, match="is neither live nor batch"):
        read_asked([(b"x-request-priority", value.encode())], 60.0)


def test_the_length_of_a_packed_body_is_not_known() -> None:
    """Unpacked it may be as long as a body may be, and that much is held for it."""
    for length in ([], [(b"content-length", b"9")]):
        for headers in (
            [(b"content-encoding", b"gzip"), *length], [*length, (b"content-encoding", b"gzip")]
        ):  # fmt: skip
            assert read_asked(headers, 60).body_bytes is None
