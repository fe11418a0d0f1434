"""Answers without end, packed ones, and numbers that no service sends: each has an error."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import seatrial
from raw_service import CHUNK, CHUNKED, HEAD, answer, raw_service
from scripted_service import ANSWER, MODEL
from seatrial.client.wire import LEAST_DETECTIONS, reply_bytes
from seatrial.config import encode_json
from seatrial.errors import DeadlineExceeded, Overloaded, ServiceFailed

pytestmark = pytest.mark.usefixtures("time_limit")
MOST_BYTES = reply_bytes(LEAST_DETECTIONS)
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
MANY = b"".join(b"x-%d: y\r\n" % number for number in range(1000))
BUSY = b'{"error": {"code": "Overloaded", "message": "busy"}}'


def endless(status: int) -> Iterable[bytes]:
    return itertools.chain([HEAD % (status, CHUNKED)], itertools.repeat(CHUNK))


def detect(
    url: str, waits: bool, timeout_s: float = 60.0, max_detections: int | None = None
) -> Any:
    if waits:
        with seatrial.Client(url, timeout_s=timeout_s, retries=0) as client:
            return client.detect(b"x", max_detections=max_detections)

    async def ask() -> Any:
        async with seatrial.AsyncClient(url, timeout_s=timeout_s, retries=0) as client:
            return await client.detect(b"x", max_detections=max_detections)

    return asyncio.run(ask())


def detector(found: Callable[[], Iterable[bytes]]) -> Callable[[bytes], Iterable[bytes]]:
    """Describes itself, and answers images with something."""
    described = answer(200, encode_json(MODEL))
    return lambda asked: [described] if asked == b"GET /model" else found()


@pytest.mark.parametrize("waits", [True, False], ids=["threads", "asyncio"])
@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda: endless(200), "its answer is longer than 1128 KiB"),
        (lambda: endless(500), "its answer is longer than 1 MiB"),
        (
            lambda: [HEAD % (200, b"Content-Length: %d\r\n" % (MOST_BYTES + 1))],
            "its answer is longer than 1128 KiB",
        ),
        (lambda: itertools.repeat(PROCESSING * 1000), "head of its answer is longer than 128 KiB"),
        (
            lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(MANY)),
            "does not answer as a .* the head of its answer is too long",
        ),
        (
            lambda: [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"],
            "no HTTP service is at .* what answers there is not HTTP",
        ),
        (
            lambda: [answer(200, ANSWER, b"Content-Encoding: gzip\r\n")],
            r"its answer is encoded \(gzip\), which was not asked for",
        ),
    ],
    ids=["found", "error", "declared", "informational", "headers", "no HTTP", "encoded"],
)  # fmt: skip
def test_what_no_service_answers(
    found: Callable[[], Iterable[bytes]], said: str, waits: bool
) -> None:
    with (
        raw_service(detector(found)) as url,
        pytest.raises(ServiceFailed, match=said) as caught,
    ):
        detect(url, waits)
    assert caught.value.hint


@pytest.mark.parametrize("waits", [True, False], ids=["threads", "asyncio"])
def test_the_answer_may_be_as_long_as_what_was_asked_for(waits: bool) -> None:
    for length, most in ((reply_bytes(2000), 2000), (reply_bytes(1), 1)):
        for over in (0, 1):
            body = ANSWER + b" " * (length + over - len(ANSWER))
            with raw_service(detector(lambda body=body: [answer(200, body)])) as url:
                if not over:
                    assert len(detect(url, waits, max_detections=most)) == 0
                    continue
                with pytest.raises(ServiceFailed, match="its answer is longer than"):
                    detect(url, waits, max_detections=most)


@pytest.mark.parametrize("waits", [True, False], ids=["threads", "asyncio"])
def test_an_encoding_that_changes_nothing_and_some_informational_answers(waits: bool) -> None:
    whole = PROCESSING * 10 + answer(200, ANSWER, b"Content-Encoding: Identity\r\n")
    with raw_service(detector(lambda: [whole])) as url:
        assert len(detect(url, waits)) == 0


@pytest.mark.parametrize("waits", [True, False], ids=["threads", "asyncio"])
def test_a_refusal_that_is_packed_is_one(waits: bool) -> None:
    packed = answer(503, BUSY, b"Content-Encoding: br\r\n")
    with (
        raw_service(detector(lambda: [packed])) as url,
        pytest.raises(ServiceFailed, match="answers 503"),
    ):
        detect(url, waits)


@pytest.mark.parametrize("digits", [10, 400, 5000])
def test_a_wait_of_any_number_of_digits(digits: int) -> None:
    wait = b"X-Predicted-Wait-Ms: %s\r\nRetry-After: %s\r\n" % ((b"9" * digits,) * 2)
    with (
        raw_service(detector(lambda: [answer(503, BUSY, wait)])) as url,
        pytest.raises(Overloaded) as caught,
    ):
        detect(url, waits=True)
    assert caught.value.wait_s == 1


def test_the_moment_holds_while_an_answer_comes() -> None:
    """Each byte comes at once; what is ready is never waited for."""
    slow = itertools.chain([HEAD % (200, CHUNKED)], itertools.repeat(b"1\r\n \r\n" * 20_000))
    with (
        raw_service(detector(lambda: slow)) as url,
        pytest.raises(DeadlineExceeded),
    ):
        detect(url, waits=True, timeout_s=0.5)
