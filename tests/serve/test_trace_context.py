"""Names of requests: W3C Trace Context, request ids, and where both show."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from raw_http import read_response
from seatrial.serve.trace_context import Trace, current_request_id, parse_parent
from served_application import Running

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
Metric = Callable[..., float]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PARENT, (TRACE, SPAN, 1)),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, 0)),
        (f"00-{TRACE}-{SPAN}-ff", (TRACE, SPAN, 1)),  # flags that are not defined are dropped
        (f"cc-{TRACE}-{SPAN}-01", (TRACE, SPAN, 1)),  # a later version
        (f"cc-{TRACE}-{SPAN}-01-what-comes", (TRACE, SPAN, 1)),
        (f"00-{TRACE}-{SPAN}-01-what-comes", None),
        (f"cc-{TRACE}-{SPAN}-01.what", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f" {PARENT}", None),
        (f"{PARENT}\n", None),
        ("", None),
    ],
)
def test_a_parent_is_read_strictly(value: str, expected: tuple[str, str, int] | None) -> None:
    assert parse_parent(value.encode()) == expected


def test_a_request_is_a_span_of_its_own_in_the_trace_of_its_caller() -> None:
    trace = Trace([(b"host", b"x"), (b"traceparent", PARENT.encode())])
    assert (trace.trace_id, trace.parent_id, trace.request_id) == (TRACE, SPAN, TRACE)
    assert re.fullmatch("[0-9a-f]{16}", trace.span_id)
    assert trace.span_id not in (SPAN, "0" * 16)
    assert dict(trace.headers()) == {
        b"x-request-id": TRACE.encode(),
        b"traceparent": f"00-{TRACE}-{trace.span_id}-01".encode(),
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a=1"], "a=1"),
        (["a=1,b=2", "c=3"], "a=1,b=2,c=3"),
        (["congo=t61 r,\t rojo@x-y/z=00f0"], "congo=t61 r,rojo@x-y/z=00f0"),
        (["a=1,,b=2,"], "a=1,b=2"),  # empty members are allowed
        (["1a=1"], "1a=1"),
        (["a=1,a=2"], ""),
        (["A=1"], ""),
        (["a=1=2"], ""),
        (["a=", "b=2"], ""),
        (["a=\x7f"], ""),
        (["a=\xe9"], ""),
        (["a=1\r\nb: 2"], ""),
        ([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32))),
        ([",".join(f"k{n}=1" for n in range(33))], ""),
        (["a=" + "x" * 256], "a=" + "x" * 256),
        (["a=" + "x" * 257], ""),
        (["," * 3000], ""),
    ],
)
def test_the_state_of_a_trace_is_passed_on_where_it_is_valid(
    values: list[str], expected: str
) -> None:
    headers = [(b"tracestate", one.encode("latin-1")) for one in values]
    trace = Trace([(b"traceparent", PARENT.encode()), *headers])
    assert trace.state == expected
    assert dict(trace.headers()).get(b"tracestate", b"") == expected.encode()
    assert (b"tracestate" in trace.fields()) == bool(expected)
    assert Trace(headers).state == ""  # of no trace


@pytest.mark.parametrize("parents", [[], ["nonsense"], [PARENT, PARENT]])
def test_without_one_valid_parent_there_is_a_new_trace(parents: list[str]) -> None:
    traces = [Trace([(b"traceparent", one.encode()) for one in parents]) for _ in range(2)]
    ids = {trace.trace_id for trace in traces}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids - {TRACE})
    assert TRACE not in ids
    assert {trace.parent_id for trace in traces} == {""}


@pytest.mark.parametrize(
    ("given", "kept"), [("job-7/a.b", True), ("a" * 128, True), ("a" * 129, False), ("", False),
                        ("a b", False), ('x"}', False)],
)  # fmt: skip
def test_a_request_id_of_the_caller_is_kept_where_it_is_one(given: str, kept: bool) -> None:
    trace = Trace([(b"x-request-id", given.encode())])
    assert trace.request_id == (given if kept else trace.trace_id)


def test_outside_of_a_request_there_is_none() -> None:
    assert current_request_id() == ""


def test_every_answer_and_every_error_names_its_request(running: Running, photo: bytes) -> None:
    sent = {"traceparent": PARENT, "x-request-id": "job-7"}
    for path, content, status in (
        ("/detect", photo, 200), ("/detect", b"hello", 415), ("/nothing", photo, 404),
    ):  # fmt: skip
        answer = running.client.post(path, content=content, headers=sent)
        assert answer.status_code == status
        assert answer.headers["x-request-id"] == "job-7"
        version, trace, span, flags = answer.headers["traceparent"].split("-")
        assert (version, trace, flags) == ("00", TRACE, "01")
        assert span != SPAN
        if status != 200:
            assert answer.json()["error"]["request_id"] == "job-7"


def test_what_no_application_sees_has_a_name_as_well(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        status, headers, body = read_response(connection)
    assert status == 400
    assert json.loads(body)["error"]["request_id"] == headers["x-request-id"]


def test_requests_in_a_row_on_a_connection_keep_their_names_apart(running: Running) -> None:
    """The second one is here before the first is answered."""
    head = "GET /nothing HTTP/1.1\r\nHost: x\r\nX-Request-Id: {}\r\n\r\n"
    with running.connect() as connection:
        connection.sendall("".join(head.format(name) for name in "abc").encode())
        received = b""
        while received.count(b"}}") < 3:
            received += connection.recv(65536)
    named = re.findall(rb'x-request-id: (.).*?"request_id":"(.)"', received, re.DOTALL)
    assert named == [(b"a", b"a"), (b"b", b"b"), (b"c", b"c")]


def test_the_time_to_send_an_answer_is_a_stage(
    running: Running, photo: bytes, metric: Metric, until: Callable[..., Any]
) -> None:
    def sent() -> float:
        return metric("seatrial_stage_seconds_count", stage="send")

    def seconds() -> float:
        return metric("seatrial_stage_seconds_sum", stage="send")

    before, before_s, began = sent(), seconds(), time.perf_counter()
    assert running.client.post("/detect", content=photo).status_code == 200
    assert running.client.post("/detect", content=b"hello").status_code == 415
    until(lambda: sent() == before + 1)
    assert 0 < seconds() - before_s < time.perf_counter() - began
