"""The JSON of errors."""

from __future__ import annotations

import json

from seatrial.serve.protocols.error_body import error_body, protocol_error_body
from seatrial.serve.trace_context import Trace, traced


def test_an_error_names_its_request_where_it_belongs_to_one() -> None:
    outside = {"code": "X", "message": "m", "hint": "h"}
    assert json.loads(error_body("X", "m", "h")) == {"error": outside}
    with traced(Trace([(b"x-request-id", b"job-7")])):
        inside = json.loads(error_body("X", "m", "h"))["error"]
        named = json.loads(error_body("X", "m", "h", "queue", "job-8"))["error"]
    assert inside == {**outside, "request_id": "job-7"}
    assert named == {**outside, "reason": "queue", "request_id": "job-8"}


def test_an_error_of_the_open_inference_protocol_is_a_text() -> None:
    assert json.loads(protocol_error_body("m")) == {"error": "m"}
