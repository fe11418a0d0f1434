"""Errors of a service become those that it raised."""

from __future__ import annotations

import pytest

from seatrial import errors
from seatrial.client.wire import CODES, HttpAnswer, refusal
from seatrial.errors import Overloaded, SeatrialError, ServiceFailed
from seatrial.serve.protocols.error_answers import FAILED, SEE_LOG, TOLD, error_answer


@pytest.mark.parametrize("kind", CODES.values(), ids=CODES)
def test_each_error_comes_back(kind: type[SeatrialError]) -> None:
    """As the service's own answer has it, which says of its own faults that there is one."""
    response = error_answer("/detect", kind("what was wrong", hint="what to do"))
    headers = {key.decode(): value.decode() for key, value in response.raw_headers}
    found = refusal(
        "http://x/detect", HttpAnswer(response.status_code, headers, bytes(response.body))
    )
    assert type(found) is kind
    told = kind.http_status < 500 or issubclass(kind, TOLD)
    expected = ("what was wrong", "what to do") if told else (FAILED, SEE_LOG)
    assert (found.message, found.hint) == expected


def test_every_class_of_errors_has_a_code() -> None:
    assert CODES["InvalidImage"] is errors.InvalidImage
    assert all(name == kind.__name__ for name, kind in CODES.items())


def test_the_predicted_wait() -> None:
    response = error_answer("/detect", Overloaded("busy", reason="deadline", wait_s=2.5))
    headers = {key.decode(): value.decode() for key, value in response.raw_headers}
    found = refusal("", HttpAnswer(503, headers, bytes(response.body)))
    assert isinstance(found, Overloaded)
    assert (found.wait_s, found.reason) == (2.5, "deadline")
    for odd in ("soon", "-1", "1e9", "\u0667"):
        found = refusal("", HttpAnswer(503, {"x-predicted-wait-ms": odd}, bytes(response.body)))
        assert isinstance(found, Overloaded)
        assert found.wait_s == 1


def test_long_and_strange_answers_are_shortened() -> None:
    found = refusal("http://x", HttpAnswer(502, {}, b"<p>" + b"a \n" * 100_000))
    assert type(found) is ServiceFailed
    assert len(found.message) < 300
    assert "\n" not in found.message
