"""Answers without end, packed ones, and numbers that cannot be: failed requests with a kind."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
import uvloop
from yarl import URL

from raw_service import CHUNK, CHUNKED, HEAD, answer, raw_service
from seatrial.load.http_client import READ_BYTES, ask, exchange, read_answer
from seatrial.load.http_session import HttpSession
from seatrial.load.samples import ANSWER_BYTES, Reply, Sample
from seatrial.load.target import Body

pytestmark = pytest.mark.usefixtures("time_limit")
BODY = Body(b"\xff\xd8", {"Content-Type": "image/jpeg"})
BLANKS = gzip.compress(b" " * 2**20)
GZIP = b"Content-Encoding: gzip\r\n"
HUGE = b"9" * 400


def endless() -> Iterable[bytes]:
    return itertools.chain([HEAD % (200, CHUNKED)], itertools.repeat(CHUNK))


def too_long() -> Iterable[bytes]:
    return [HEAD % (200, b"Content-Length: %d\r\n" % (ANSWER_BYTES + 1))]


def packed() -> Iterable[bytes]:
    return [answer(200, BLANKS, GZIP)]


def talk(
    answers: Callable[[], Iterable[bytes]], job: Callable[[Any, URL], Awaitable[Any]]
) -> tuple[Any, Any]:
    """Two conversations in a row, of which the first may have closed its connection."""

    async def conversation() -> tuple[Any, Any]:
        async with HttpSession(1, 60.0) as http:
            return await job(http, URL(url)), await job(http, URL(url))

    with (
        raw_service(lambda asked: answers()) as url,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(conversation())


@pytest.mark.parametrize(
    ("answers", "error"),
    [(endless, "too-long"), (too_long, "too-long"), (packed, "encoded")],
    ids=["endless", "declared", "packed"],
)
def test_an_answer_that_is_not_read_is_a_failure(
    answers: Callable[[], Iterable[bytes]], error: str
) -> None:
    for sample in talk(answers, lambda http, url: exchange(http, url, BODY)):
        assert (sample.status, sample.error, sample.received_bytes) == (0, error, 0)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (endless, "its answer is longer than 8 MiB"),
        (too_long, "its answer is longer than 8 MiB"),
        (packed, "its answer is packed, which was not asked for"),
    ],
    ids=["endless", "declared", "packed"],
)
def test_a_question_has_the_same_bounds(
    answers: Callable[[], Iterable[bytes]], reason: str
) -> None:
    assert talk(answers, lambda http, url: ask(http, url)) == (Reply(0, error=reason),) * 2


def test_answers_in_parts_are_read_whole() -> None:
    parts = [HEAD % (200, CHUNKED), CHUNK * 3, b"0\r\n\r\n"]
    samples = talk(lambda: parts, lambda http, url: exchange(http, url, BODY))
    assert [(one.error, one.received_bytes) for one in samples] == [("", 3 * 65536)] * 2


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"detections": [], "timing_ms": {"infer": %s}}' % HUGE, b""),
        (b'{"detections": [], "timing_ms": {"infer": 1e308}}', b""),
        (b'{"outputs": [{"name": "scores", "shape": [%s]}]}' % HUGE, b""),
        (b'{"outputs": [{"name": "scores", "shape": [-1]}]}', b""),
        (b'{"detections": []}', b"Server-Timing: infer;dur=nan\r\n"),
        (b'{"detections": []}', b"Server-Timing: a;dur=1, infer;dur=inf\r\n"),
        (b'{"detections": []}', b"Server-Timing: infer;dur=-1e308\r\n"),
        (b'{"detections": []}', b"Server-Timing: infer;dur=%s\r\n" % HUGE),
    ],
)
def test_numbers_that_cannot_be_are_a_failure(body: bytes, headers: bytes) -> None:
    sample: Sample
    for sample in talk(
        lambda: [answer(200, body, headers)], lambda http, url: exchange(http, url, BODY)
    ):
        assert (sample.status, sample.error) == (200, "impossible-numbers")
        assert (sample.detections, sample.timing_ms) == (None, None)
        assert sample.received_bytes == len(body)


def test_a_time_below_zero_is_left_out() -> None:
    assert read_answer(b"{}", {"Server-Timing": "a;dur=-1, b;dur=2"}) == (None, {"b": 2.0})


def test_a_json_longer_than_any_is_timed_and_not_read() -> None:
    """Each of its commas would become an object."""
    long = b'{"detections": [%s0]}' % (b"0," * (READ_BYTES // 2))
    assert read_answer(long) == (None, None)
    assert read_answer(long, {"Server-Timing": "a;dur=1"}) == (None, {"a": 1.0})
