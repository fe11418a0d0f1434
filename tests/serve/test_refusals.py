"""Refusals by the headers alone: their words, and that none is left uncounted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.errors import Overloaded
from seatrial.serve import refusals
from seatrial.serve.metrics import request_metrics
from seatrial.serve.trace_context import Trace

Running = Any
Metric = Callable[..., float]
REFUSED = b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na"


def test_a_service_that_ends_has_counted_all(
    run_app: Callable[..., Any], metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "COUNTED_EVERY_S", 3600.0)

    def counts() -> list[float]:
        return [
            metric("seatrial_requests_total", route="/detect", code="503"),
            metric("seatrial_request_seconds_count", code="503"),
            metric("seatrial_refusals_total", reason="queue"),
            metric("seatrial_model_requests_total", model="detector", outcome="failure"),
            metric("seatrial_variant_requests_total", variant="live", code="503"),
        ]

    before = counts()
    variants = request_metrics().variants
    variants.set_share(0.5)  # beside a canary
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        for _ in range(5):
            connection.sendall(REFUSED)
            assert read_response(connection)[0] == 503
        assert counts() == before
    variants.set_share(0)
    assert counts() == [value + 5 for value in before]


def test_those_that_are_refused_together_do_not_come_again_together(
    run_app: Callable[..., Any],
) -> None:
    found = set()
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        for _ in range(60):
            connection.sendall(REFUSED)
            found.add(read_response(connection)[1]["retry-after"])
    assert found == {"1", "2"}


def test_what_was_counted_is_not_counted_again_at_the_end(
    run_app: Callable[..., Any], metric: Metric, until: Callable[..., Any]
) -> None:
    def refused() -> float:
        return metric("seatrial_refusals_total", reason="queue")

    before = refused()
    with run_app(Limits(queue=1)) as running, running.lanes_held(), running.connect() as connection:
        connection.sendall(REFUSED)
        assert read_response(connection)[0] == 503
        until(lambda: refused() == before + 1)
    assert refused() == before + 1


def test_while_a_service_ends_the_application_answers_and_the_connection_ends(
    run_app: Callable[..., Any],
) -> None:
    with run_app(Limits(queue=1)) as running, running.lanes_held():
        for ends in (False, True):
            running.service.health.draining = ends
            with running.connect() as connection:
                connection.sendall(REFUSED)
                status, headers, _ = read_response(connection)
            assert (status, headers.get("connection")) == (503, "close" if ends else None)


def test_its_headers_are_those_of_any_refusal_in_their_units() -> None:
    trace = Trace()
    answer = refusals._answer(Overloaded("x", wait_s=2.5), trace)
    assert b"\r\nx-predicted-wait-ms: 2500\r\n" in answer
    assert trace.fields() in answer
    assert int(answer.partition(b"retry-after: ")[2].partition(b"\r")[0]) in range(3, 7)
