from __future__ import annotations

import asyncio
import itertools
import socket
import time

import msgspec
import pytest
import uvloop
from multidict import CIMultiDict
from yarl import URL

from raw_service import answer, raw_service
from seatrial.load.http_client import (
    JSON_BYTES,
    READ_BYTES,
    ask,
    exchange,
    read_answer,
    refusal,
    server_timing,
)
from seatrial.load.http_session import HttpSession
from seatrial.load.samples import Reply
from seatrial.load.target import Body


def test_detections_are_counted_and_stage_times_read():
    payload = msgspec.json.encode(
        {"detections": [{"box": [1]}, {"box": [2]}], "timing_ms": {"infer": 3, "total": 4.5}}
    )
    assert read_answer(payload) == (2, {"infer": 3.0, "total": 4.5})


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"predictions": []}', (None, None)),
        (b'{"detections": []}', (0, None)),
        (b'{"detections": [], "timing_ms": {}}', (0, None)),
        (b'{"detections": 7}', (None, None)),
        (b"[1, 2]", (None, None)),
        (b"<html>", (None, None)),
        (b"\xff\xfe", (None, None)),
        (b"", (None, None)),
    ],
)
def test_other_shapes_of_answers_are_no_error(payload, expected):
    assert read_answer(payload) == expected


def test_only_times_are_taken_for_stages():
    payload = msgspec.json.encode(
        {"timing_ms": {"infer": 3, "note": "warm", "cached": True, "skew": -1.0, "none": None}}
    )
    assert read_answer(payload) == (None, {"infer": 3.0})


@pytest.mark.parametrize(
    ("outputs", "count"),
    [
        ([{"name": "boxes", "shape": [2, 4]}, {"name": "scores", "shape": [2]}], 2),
        ([{"name": "scores", "shape": [1, 2]}], None),
        ([{"name": "output0", "shape": [1, 84, 8400]}], None),
        ([], None),
    ],
)
def test_answers_of_the_open_inference_protocol(outputs, count):
    head = msgspec.json.encode({"model_name": "m", "outputs": outputs})
    headers = CIMultiDict({JSON_BYTES.lower(): str(len(head)), "server-timing": "infer;dur=3.5"})
    assert read_answer(head + b"\xff\0 tensors", headers) == (count, {"infer": 3.5})
    assert read_answer(head) == (count, None)
    assert read_answer(head, {JSON_BYTES: "many"}) == (None, None)


def test_stage_times_of_a_header():
    assert server_timing('decode;dur=1.5, batch;desc="2", infer;dur=3') == {
        "decode": 1.5,
        "infer": 3.0,
    }
    assert server_timing("") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("decode;dur=1,infer;dur=20, total;dur=25", {"decode": 1.0, "infer": 20.0, "total": 25.0}),
        ('total;dur=12.3;desc="x"', {"total": 12.3}),
        ("total; dur=5 ,a;DUR=2", {"total": 5.0, "a": 2.0}),
        ('db;desc="Data, base;dur=9";dur=53.2', {"db": 53.2}),
        ('db;dur="4"', {"db": 4.0}),
        ('cache;desc="hit", missed, odd;dur=soon', None),
    ],
    ids=["no-space", "after", "spaces", "quoted", "quoted-number", "none"],
)
def test_server_timing_is_read_as_its_grammar_is(text, found):
    assert server_timing(text) == found


def test_stage_times_are_read_where_the_answer_cannot_be():
    headers = {"Server-Timing": "infer;dur=2"}
    assert read_answer(b'{"scores": [NaN]}', headers) == (None, {"infer": 2.0})


@pytest.fixture
def talk():
    """Runs a conversation with a client: ``talk(lambda http: ask(http, url))``."""

    def run(job, *, timeout_s=60.0):
        async def conversation():
            async with HttpSession(2, timeout_s) as http:
                return await job(http)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(conversation())

    return run


BODY = Body(b"\xff\xd8", {"Content-Type": "image/jpeg"})


def nobody():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_good_exchange_holds_what_was_answered_and_when(detector, talk):
    url = URL(detector(hold_ms=5).url) / "detect"
    before = time.perf_counter_ns()
    sample = talk(lambda http: exchange(http, url, BODY, due_ns=before))
    after = time.perf_counter_ns()
    assert (sample.status, sample.error, sample.detections) == (200, "", 2)
    assert sample.timing_ms.keys() == {"decode", "queue", "infer", "total"}
    assert sample.received_bytes > 100
    assert before == sample.due_ns <= sample.start_ns < sample.end_ns <= after
    assert sample.service_ms == (sample.end_ns - sample.start_ns) / 1e6 >= 4
    assert sample.latency_ms == (sample.end_ns - before) / 1e6 >= sample.service_ms


def test_a_refusal_is_a_failure_of_its_status(detector, talk):
    url = URL(detector(behaviour="refuse").url) / "detect"
    sample = talk(lambda http: exchange(http, url, BODY))
    assert (sample.status, sample.error) == (422, "http-422")
    assert (sample.detections, sample.timing_ms, sample.due_ns) == (None, None, None)
    assert sample.received_bytes > 0


def test_a_redirect_is_not_followed(detector, talk):
    url = URL(detector(behaviour="moved").url) / "detect"
    assert talk(lambda http: exchange(http, url, BODY)).error == "http-307"


def test_failures_without_an_answer_have_a_kind_and_an_end(detector, talk):
    broken = URL(detector(behaviour="die", after=1).url) / "detect"
    hanging = URL(detector(behaviour="hang").url) / "detect"
    talk(lambda http: exchange(http, hanging, BODY))
    for url, error, timeout_s in (
        (URL(nobody()), "connect", 60.0),
        (broken, "disconnect", 60.0),
        (hanging, "timeout", 0.3),
    ):
        sample = talk(lambda http, url=url: exchange(http, url, BODY), timeout_s=timeout_s)
        assert (sample.status, sample.error, sample.received_bytes) == (0, error, 0)
        assert sample.end_ns > sample.start_ns
    assert sample.service_ms >= 290


def test_a_question_gives_status_and_body_or_the_reason(detector, talk):
    base = URL(detector(behaviour="loading").url)
    assert talk(lambda http: ask(http, base / "text")) == Reply(200, b"none of your business")
    assert talk(lambda http: ask(http, base / "readyz")).status == 503
    assert talk(lambda http: ask(http, base / "detect")).status == 405
    assert talk(lambda http: ask(http, base / "detect", BODY)).status == 200
    gone = talk(lambda http: ask(http, URL(nobody())))
    assert gone.status == 0
    assert gone.error


def test_a_question_that_is_not_answered_in_time(detector, talk):
    url = URL(detector(behaviour="hang").url) / "detect"
    talk(lambda http: ask(http, url, BODY))
    assert talk(lambda http: ask(http, url, BODY), timeout_s=0.3) == Reply(
        0, error="no answer in time"
    )


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(422, b'{"error": {"message": "not to my taste"}}'), "not to my taste"),
        (Reply(500, b"<html>  oops \n"), "<html>  oops"),
        (Reply(500, b"x" * 300), "x" * 200),
        (Reply(400, b'{"error": "%s"}' % (b"x" * 10_000)), "x" * 2000),
        (Reply(400, b'{"error": "unknown model"}'), "unknown model"),
        (Reply(308, b"moved", location="/there"), "the new place is /there"),
        (Reply(500, b'{"error": 5}'), '{"error": 5}'),
        (Reply(500, b"\xff"), "\N{REPLACEMENT CHARACTER}"),
        (Reply(500, b""), ""),
        (Reply(0, b"", "connection refused"), "connection refused"),
    ],
)
def test_the_reason_of_a_refusal(reply, reason):
    assert refusal(reply) == reason


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"<html>502 Bad Gateway</html>"),
        answer(200, b'{"error": "overloaded"}'),
        answer(200, b'{"detections": [{"box": [1, 2,'),
        answer(204, b""),
    ],
    ids=["page", "error", "cut", "nothing"],
)
def test_an_answer_that_must_be_readable_and_is_not_is_a_failure(talk, said):
    """Where the service's first answers could be read; otherwise its shape is a foreign one."""
    with raw_service(lambda _: [said]) as url:
        foreign = talk(lambda http: exchange(http, URL(url), BODY))
        known = msgspec.structs.replace(BODY, readable=True)
        sample = talk(lambda http: exchange(http, URL(url), known))
    assert (foreign.status // 100, foreign.error) == (2, "")
    assert (sample.status // 100, sample.error, sample.detections) == (2, "unreadable", None)


def test_an_answer_that_must_be_readable_and_is(talk):
    known = msgspec.structs.replace(BODY, readable=True)
    nothing, long = answer(200, b'{"detections": []}'), answer(200, b"," * (READ_BYTES + 1))
    for said, count in ((nothing, 0), (long, None)):
        with raw_service(lambda _, said=said: [said]) as url:
            sample = talk(lambda http, url=url: exchange(http, URL(url), known))
        assert (sample.error, sample.detections) == ("", count)


def test_a_request_that_was_sent_again_is_timed_from_its_first_send(talk):
    first_read = []
    numbers = itertools.count()

    def answers(asked):
        if next(numbers) == 1:
            first_read.append(time.perf_counter_ns())
            raise OSError  # the connection ends
        return [answer(200, b'{"detections": []}')]

    async def twice(http):
        return [await exchange(http, URL(url), BODY) for _ in range(2)]

    with raw_service(answers) as url:
        before, after = talk(twice)
    assert (before.retried, after.retried, after.error) == (False, True, "")
    assert after.start_ns < first_read[0] < after.end_ns
