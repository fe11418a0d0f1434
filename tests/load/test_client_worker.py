"""The program of a client process: its messages, and its end."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence

import msgspec
import pytest

from seatrial.errors import InvalidConfig
from seatrial.load.client_worker import START, Outbox, Outcomes, framed, receive
from seatrial.load.samples import Sample
from seatrial.load.target import Body
from seatrial.system.children import same_code

pytestmark = pytest.mark.usefixtures("time_limit")


def read(data: bytes) -> Outcomes:
    async def reading() -> bytes:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        message = await receive(reader)
        with pytest.raises(EOFError):
            await receive(reader)
        return message

    return msgspec.msgpack.decode(asyncio.run(reading()), type=Outcomes)


def test_samples_are_told_once_and_whole() -> None:
    async def telling() -> list[bytes]:
        written: list[bytes] = []
        outbox = Outbox(written.append)
        for one in SAMPLES:
            outbox.add(one)
        outbox.tell()
        outbox.add(SAMPLES[0])
        outbox.finish()
        return written

    first, last = map(read, asyncio.run(telling()))
    assert first == Outcomes(list(SAMPLES))
    assert last == Outcomes([SAMPLES[0]], last=True)


SAMPLES: Sequence[Sample] = (
    Sample(1, 2**60, 200, "", 12, 3, {"infer": 1.5}, 0),
    Sample(5, 6, 0, "timeout"),
)


def test_the_word_to_stop_is_passed_on() -> None:
    async def stopping() -> list[str]:
        heard: list[str] = []
        outbox = Outbox(lambda _: None)
        outbox.open()
        outbox.on_closed = lambda: heard.append("closed")
        assert not outbox.closed.is_set()
        outbox.stop()
        assert outbox.closed.is_set()
        return heard

    assert asyncio.run(stopping()) == ["closed"]


def program(data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(same_code(START), input=data, capture_output=True, check=False)


@pytest.mark.parametrize("data", [b"", b"\0", framed(b"")[:4]], ids=["none", "part", "length"])
def test_it_says_that_its_input_ended(data: bytes) -> None:
    done = program(data)
    found = read(done.stdout)
    assert (found.last, found.samples) == (True, [])
    assert found.failure.startswith("IncompleteReadError")
    assert done.stderr == b""


def test_an_error_is_told_with_its_kind_and_words() -> None:
    bodies = msgspec.msgpack.encode([Body(b"", {})])
    part = {"url": "http://127.0.0.1:1", "token": "\n", "ca_file": None, "timeout_s": 1.0}
    found = read(program(framed(bodies) + framed(msgspec.msgpack.encode(part))).stdout)
    assert found.failure.startswith(InvalidConfig.__name__)
    assert "token" in found.failure


def test_what_is_no_message_is_an_error() -> None:
    assert "DecodeError" in read(program(framed(b"\xc1")).stdout).failure
