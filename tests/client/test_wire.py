"""Errors of a service become those that it raised."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

from scripted_service import MODEL
from seatrial import errors
from seatrial.client.wire import CODES, HttpAnswer, read_model, read_reply, refusal
from seatrial.errors import Overloaded, SeatrialError, ServiceFailed, Unauthorized
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
    if kind is Unauthorized:  # how a token is given depends on who calls, and not on the service
        assert found.message == "http://x/detect needs a token: what was wrong"
        assert all(way in found.hint for way in ("--token-file", "SEATRIAL_TOKEN", "token="))
        return
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
    for odd in ("soon", "-1", "1e9", "\u0667", "9" * 10, "9" * 400, "9" * 5000):
        found = refusal("", HttpAnswer(503, {"x-predicted-wait-ms": odd}, bytes(response.body)))
        assert isinstance(found, Overloaded)
        assert found.wait_s == 1


def test_long_and_strange_answers_are_shortened() -> None:
    found = refusal("http://x", HttpAnswer(502, {}, b"<p>" + b"a \n" * 100_000))
    assert type(found) is ServiceFailed
    assert len(found.message) < 300
    assert "\n" not in found.message


@pytest.mark.parametrize("code", ["Overloaded", "InvalidImage", "Unknown"])
def test_long_messages_are_shortened(code: str) -> None:
    told = {"code": code, "message": "m" * 10_000, "hint": "h" * 10_000, "reason": "r" * 10_000}
    body = json.dumps({"error": told}).encode()
    found = refusal("http://x", HttpAnswer(503, {}, body))
    assert len(found.message) < 2100
    assert found.hint == "h" * 2000


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (b"<html><TITLE lang=en>\n Bad \n gateway </Title><p>more", "Bad gateway"),
        (b"<title>\xc4\xb0 \xff</title>", "\u0130 \N{REPLACEMENT CHARACTER}"),
        (b"<title>no end", "<title>no end"),
        (b"<title", "<title"),
        (b"</title><p>", "</title><p>"),
        (b"<title> </title> else", "<title> </title> else"),
    ],
)
def test_the_title_of_a_page(page: bytes, said: str) -> None:
    found = refusal("http://x", HttpAnswer(502, {}, page))
    assert found.message == f"http://x answers 502 (Bad Gateway): {said}"


@pytest.mark.parametrize("page", [b"<title>%s", b"<title>%s<", b"<title%s", b"<title>x%s</titl"])
def test_white_space_takes_no_time(page: bytes) -> None:
    begun = time.thread_time()
    refusal("http://x", HttpAnswer(500, {}, page % (b" " * 4089)))
    assert time.thread_time() - begun < 1  # a tenth of a millisecond; it was 23 s


ROW = {"box": [0, 0, 1, 1], "confidence": 0.5, "class_id": 0, "label": "red"}
HUGE = int("9" * 400)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": {"width": HUGE, "height": 3}},
        {"image": {"width": 4, "height": 0}},
        {"timing_ms": {"infer": HUGE}},
        {"timing_ms": {"infer": 1e308}},
        {"timing_ms": {"infer": -1e308}},
        {"detections": [{**ROW, "box": [0, 0, 1e300, 1]}]},
        {"detections": [{**ROW, "box": [0, 0, HUGE, 1]}]},
        {"detections": [{**ROW, "confidence": -0.1}]},
        {"detections": [{**ROW, "confidence": 1e300}]},
        {"detections": [{**ROW, "class_id": 2**63}]},
        {"detections": [{**ROW, "class_id": HUGE}]},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_numbers_that_no_service_sends(changes: dict[str, Any]) -> None:
    whole = {"image": {"width": 4, "height": 3}, "detections": [ROW], "timing_ms": {"infer": 2}}
    assert (
        len(read_reply("http://x", HttpAnswer(200, {}, json.dumps(whole).encode()), 1).labels) == 1
    )
    body = json.dumps({**whole, **changes}).encode()
    with pytest.raises(ServiceFailed, match="answers something else"):
        read_reply("http://x", HttpAnswer(200, {}, body), 1)


@pytest.mark.parametrize("layout", [{"workers": 0}, {"instances": -1}, {"workers": HUGE}])
def test_a_layout_that_no_service_has(layout: dict[str, int]) -> None:
    body = json.dumps({**MODEL, "layout": layout}).encode()
    with pytest.raises(ServiceFailed, match="does not describe a detector"):
        read_model("http://x", HttpAnswer(200, {}, body))


def test_no_layout_makes_threads_without_end() -> None:
    body = json.dumps({**MODEL, "layout": {"workers": 1024, "instances": 1024}}).encode()
    assert read_model("http://x", HttpAnswer(200, {}, body)).concurrency == 1024


ROW = {"box": [0, 0, 1, 1], "confidence": 1, "class_id": 0, "label": "{a}"}
FOUND: dict[str, Any] = {"image": {"width": 1, "height": 1}, "detections": []}


def test_no_more_is_read_than_was_asked_for() -> None:
    """Whatever an answer of the longest length holds, it becomes little, and in no time."""

    def read(most: int = 2, **more: Any) -> Any:
        body = json.dumps({**FOUND, **more}).encode()
        return read_reply("http://x", HttpAnswer(200, {}, body), most)

    assert len(read(detections=[ROW] * 2).labels) == 2
    assert len(read(timing_ms={str(n): n for n in range(64)}).timing_ms) == 64
    assert len(read(warnings=["odd"] * 64).warnings) == 64
    with pytest.raises(ServiceFailed, match="more than the 2 detections"):
        read(detections=[ROW] * 3)
    for more in (
        {"timing_ms": {str(n): n for n in range(65)}},
        {"timing_ms": {"x" * 5000: 1}},
        {"warnings": [""] * 65},
        {"warnings": ["w" * 70_000]},
    ):
        with pytest.raises(ServiceFailed, match="more times or warnings than a service has"):
            read(**more)


@pytest.mark.parametrize(
    "body",
    [
        b'{"image":{"width":1,"height":1},"detections":[],"timing_ms":{%s}}'
        % b",".join(b'"%x":0' % n for n in range(100_000)),
        b'{"image":{"width":1,"height":1},"detections":[],"warnings":[%s""]}' % (b'"",' * 300_000),
        b'{"image":{"width":1,"height":1},"detections":[%s]}'
        % b",".join([json.dumps(ROW).encode()] * 10_000),
    ],
    ids=["times", "warnings", "detections"],
)
def test_what_is_too_much_is_not_made(body: bytes) -> None:
    """Objects are many times their JSON."""
    tracemalloc.start()
    try:
        with pytest.raises(ServiceFailed, match="more t"):
            read_reply("http://x", HttpAnswer(200, {}, body), 1000)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(body) + 2**16
    finally:
        tracemalloc.stop()
