"""Headers by which a request says how urgent and how long it is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seatrial.errors import InvalidInput
from seatrial.serve.asked import Asked
from seatrial.serve.protocols.asked import SHORTEST_S, read_asked, read_call_asked
from seatrial.serve.protocols.body import MOST_TIMES


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


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", "1e3", "\u0663"])
def test_a_deadline_is_a_whole_number_within_the_limit(value: str) -> None:
    with pytest.raises(InvalidInput, match="milliseconds from 1 to 60000") as refusal:
        read_asked([(b"x-request-timeout-ms", value.encode())], 60.0)
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize("value", ["60001", "999999", "9" * 5000])
def test_a_deadline_over_the_limit_names_the_limit(value: str) -> None:
    with pytest.raises(InvalidInput, match="is more than 60000 ms") as caught:
        read_asked([(b"x-request-timeout-ms", value.encode())], 60.0)
    assert "limits.longest_deadline_s" in caught.value.hint
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("value", ["", "high", "live, batch"])
def test_a_priority_is_one_of_two(value: str) -> None:
    with pytest.raises(InvalidInput, match="is neither live nor batch"):
        read_asked([(b"x-request-priority", value.encode())], 60.0)


def test_a_packed_body_may_be_so_many_times_its_length() -> None:
    """Where that is declared; otherwise as long as a body may be."""
    packed, length = (b"content-encoding", b"gzip"), (b"content-length", b"9")
    chunked = (b"transfer-encoding", b"chunked")
    for headers in ([packed, length], [length, packed]):
        assert read_asked(headers, 60.0) == Asked(None, most_bytes=9 * MOST_TIMES)
    for headers in ([packed, chunked], [chunked, packed]):
        assert read_asked(headers, 60.0) == Asked(None)


@pytest.mark.parametrize("value", [b"identity", b" Identity ", b""])
def test_a_body_that_is_said_to_be_plain_has_its_declared_length(value: bytes) -> None:
    plain, length = (b"content-encoding", value), (b"content-length", b"9")
    for headers in ([plain, length], [length, plain]):
        assert read_asked(headers, 60.0) == Asked(9)
    packed = (b"content-encoding", b"gzip")
    for headers in ([plain, packed, length], [packed, plain, length]):
        assert read_asked(headers, 60.0) == Asked(None, most_bytes=9 * MOST_TIMES)


@pytest.mark.parametrize(
    ("metadata", "remaining_s", "asked"),
    [
        ([], None, Asked(1000)),
        ([], 0.25, Asked(1000, 0.25)),
        ([], 300.0, Asked(1000, 60.0)),  # it may wait longer than any request may take
        ([], 0.0, Asked(1000, SHORTEST_S)),
        ([("x-request-timeout-ms", "500")], None, Asked(1000, 0.5)),
        ([("x-request-timeout-ms", "500")], 0.25, Asked(1000, 0.25)),
        ([("x-request-timeout-ms", "100")], 0.25, Asked(1000, 0.1)),
        ([("x-request-priority", "batch")], None, Asked(1000, batch=True)),
        ([("x-request-priority", b"batch")], None, Asked(1000, batch=True)),
        ([("content-length", "5"), ("other-bin", b"\xff")], None, Asked(1000)),
    ],
)
def test_what_a_call_asks_for(
    metadata: list[tuple[str, str | bytes]], remaining_s: float | None, asked: Asked
) -> None:
    assert read_call_asked(metadata, remaining_s, 60.0, 1000) == asked


def test_wrong_metadata_of_a_call_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="is neither live nor batch"):
        read_call_asked([("x-request-priority", "high")], None, 60.0, 1000)


NAMES = (
    b"content-length", b"transfer-encoding", b"content-encoding", b"x-request-timeout-ms",
    b"x-request-priority", b"x",
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=40)), max_size=6))
@settings(max_examples=300)
def test_any_values_are_read_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(InvalidInput):
        asked = read_asked(headers, 60.0)
        assert asked.body_bytes is None or asked.body_bytes >= 0
        assert asked.deadline_s is None or 0 < asked.deadline_s <= 60
