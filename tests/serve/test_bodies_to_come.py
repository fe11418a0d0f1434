"""Clients that send heads and nothing more keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.errors import Overloaded
from seatrial.serve import bodies_to_come
from seatrial.serve.bodies_to_come import BodiesToCome
from seatrial.serve.protocols.body import MOST_TIMES

Running = Any
Until = Callable[[Callable[[], Any]], Any]
QUEUE, BODY = 4, 2**18
SILENT = {
    "queue": (b"POST /detect", b"Content-Length: 9"),
    "bytes": (b"POST /detect", b"Transfer-Encoding: chunked"),  # as long as a body may be
    "protocol": (b"POST /v2/models/tiny/infer", b"Transfer-Encoding: chunked"),
}


class Held:
    """A request of which nothing has arrived."""

    def __init__(self, held_bytes: int) -> None:
        self.held_bytes = held_bytes
        self.arrived_bytes: int | None = 0
        self.body_s = BODY_S
        self.own_time = False


pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def narrow(run_app: Callable[..., Any]) -> Iterator[Running]:
    limits = Limits(queue=QUEUE, body_bytes=BODY, bytes_in_flight=3 * BODY, deadline_s=30.0)
    with run_app(limits) as served:
        yield served


@contextlib.contextmanager
def silent(running: Running, head: bytes, field: bytes, until: Until) -> Iterator[list[Any]]:
    """As many clients as the service takes, whose bodies never come."""
    lanes = running.detector.lanes
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []
        for number in range(QUEUE if field.endswith(b" 9") else 3):
            clients.append(stack.enter_context(running.connect()))
            clients[-1].sendall(head + b" HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\n")
            until(lambda have=number + 1: lanes.present == have)
        yield clients


@pytest.mark.parametrize("kind", SILENT)
def test_who_sends_nothing_gives_way_to_who_sends(
    narrow: Running, photo: bytes, until: Until, metric: Callable[..., float], kind: str
) -> None:
    slow = metric("seatrial_refusals_total", reason="slow")
    with silent(narrow, *SILENT[kind], until) as clients:
        until(lambda: narrow.client.post("/detect", content=photo).status_code == 200)
        status, _, body = read_response(clients[0])
    assert status == 503
    assert b'"reason":"slow"' in body or b"long in coming" in body
    assert metric("seatrial_refusals_total", reason="slow") == slow + 1
    until(lambda: narrow.detector.lanes.present == 0)


def test_a_packed_body_holds_what_its_length_may_unpack_to(
    narrow: Running, photo: bytes, until: Until, metric: Callable[..., float]
) -> None:
    """Three of unknown length would be all the bytes that there are."""
    slow = metric("seatrial_refusals_total", reason="slow")
    fields = b"Content-Length: 100\r\nContent-Encoding: gzip"
    with silent(narrow, b"POST /detect", fields, until):
        waiting = narrow.service.dispatcher.bodies._waiting
        until(lambda: len(waiting) == 3)
        assert {one.held_bytes for one in waiting} == {100 * MOST_TIMES}
        assert narrow.client.post("/detect", content=photo).status_code == 200
        assert len(waiting) == 3
    until(lambda: narrow.detector.lanes.present == 0)
    assert metric("seatrial_refusals_total", reason="slow") == slow


def test_a_packed_body_is_as_far_as_its_packed_bytes(narrow: Running, until: Until) -> None:
    """What is here of it unpacked says nothing of when it will be whole."""
    packed = gzip.compress(bytes(20_000) + random.Random(0).randbytes(3000))
    half = len(packed) // 2
    head = (
        b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    )
    with narrow.connect() as client:
        client.sendall(head % len(packed) + packed[:half])
        waiting = narrow.service.dispatcher.bodies._waiting
        until(lambda: [one.arrived_bytes for one in waiting if one.arrived_bytes])
        (one,) = waiting
        until(lambda: one.arrived_bytes == one.held_bytes * half // len(packed))
        assert one.held_bytes == MOST_TIMES * len(packed)
        client.sendall(packed[half:])
        assert read_response(client)[0] == 415  # no image
    until(lambda: narrow.detector.lanes.present == 0)


@pytest.mark.parametrize("path", ["/detect", "/v2/models/tiny/infer"])
@pytest.mark.parametrize("packed", [False, True], ids=["chunked", "packed"])
def test_a_body_that_is_here_holds_its_own_length(
    narrow: Running, photo: bytes, monkeypatch: pytest.MonkeyPatch, path: str, packed: bool
) -> None:
    """Sixteen photos of unknown length would fill a service for as long as they wait."""
    changes: list[int] = []
    monkeypatch.setattr(narrow.service.dispatcher, "on_bytes", changes.append)
    headers = {"Inference-Header-Content-Length": "0"}
    content: Any = iter([photo])
    held = BODY
    if packed:
        content = gzip.compress(photo)
        headers["Content-Encoding"] = "gzip"
        held = min(BODY, MOST_TIMES * len(content))
    answer = narrow.client.post(path, content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert changes == [held, len(photo) - held, -len(photo)]


def test_heads_of_long_bodies_give_way_at_once_to_who_sends_less(
    narrow: Running, photo: bytes, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes new ones all the time would keep all the bytes: none gets old."""
    for name in ("BEGINS_S", "GIVES_WAY_S", "PACE_KNOWN_S"):
        monkeypatch.setattr(bodies_to_come, name, 3600.0)
    assert len(photo) < BODY
    with silent(narrow, b"POST /detect", b"Content-Length: %d" % BODY, until):
        assert narrow.client.post("/detect", content=photo).status_code == 200
        same = narrow.client.post("/detect", content=bytes(BODY))
        assert same.status_code == 415  # one has gone, so that it has room
    until(lambda: narrow.detector.lanes.present == 0)


def test_what_has_just_begun_and_what_arrives_stay(
    narrow: Running, photo: bytes, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a line that is full of bodies each is slow, and none of them silent."""
    monkeypatch.setattr(bodies_to_come, "PACE_KNOWN_S", 3600.0)
    for name in ("BEGINS_S", "GIVES_WAY_S"):
        monkeypatch.setattr(bodies_to_come, name, 3600.0)
    with silent(narrow, *SILENT["queue"], until) as clients:
        assert narrow.client.post("/detect", content=photo).status_code == 503
        for one in clients:
            one.sendall(b"x")
        until(
            lambda: all(one.arrived_bytes == 1 for one in narrow.service.dispatcher.bodies._waiting)
        )
        for name, value in (("BEGINS_S", 0.0), ("GIVES_WAY_S", 0.0), ("FIRST_BYTES", 1)):
            monkeypatch.setattr(bodies_to_come, name, value)
        monkeypatch.setattr(bodies_to_come, "LEAST_BYTES_PER_S", 1e-6)
        assert narrow.client.post("/detect", content=photo).status_code == 503
    until(lambda: narrow.detector.lanes.present == 0)


class Waiting:
    """Bodies that are waited for, by a clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.bodies = BodiesToCome(lambda: self.now_s)
        self.tasks: list[asyncio.Task[Any]] = []

    async def begin(self, *held: Held) -> None:
        never = asyncio.Event()
        for one in held:
            self.tasks.append(asyncio.create_task(self.bodies.receive(one, never.wait())))
        await asyncio.sleep(0)

    async def ended(self) -> list[bool]:
        """Of each body, whether its request was told to end."""
        for _ in range(10):  # its time-out is over at once, and each step is one of the loop
            await asyncio.sleep(0)
        return [one.done() for one in self.tasks]

    async def end(self) -> None:
        for one in self.tasks:
            one.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def run(test: Callable[[Waiting], Any]) -> None:
    async def ran() -> None:
        waiting = Waiting()
        try:
            await test(waiting)
        finally:
            await waiting.end()

    asyncio.run(ran())


LONG = 2**24
BODY_S = 10.0


def test_none_ends_where_that_would_not_be_enough() -> None:
    async def test(waiting: Waiting) -> None:
        bodies = waiting.bodies
        await waiting.begin(*(Held(size) for size in (30, 20, 10)))
        waiting.now_s = 1.0
        assert not bodies.give_bytes(61, 100)
        assert await waiting.ended() == [False] * 3
        assert bodies.give_bytes(30, 100)  # who misses most has as many
        assert bodies.going_bytes == 30
        assert bodies.give_bytes(21, 100)
        assert bodies.going == 3
        assert not bodies.give_place()
        assert await waiting.ended() == [True] * 3
        assert bodies.going == bodies.going_bytes == 0
        with pytest.raises(Overloaded, match="long in coming"):
            await waiting.tasks[0]

    run(test)


def test_places_come_from_who_has_begun_nothing() -> None:
    async def test(waiting: Waiting) -> None:
        first, second, third = Held(LONG), Held(LONG), Held(9)
        await waiting.begin(first, second, third)
        first.arrived_bytes = bodies_to_come.FIRST_BYTES
        assert not waiting.bodies.give_place()  # all are new
        waiting.now_s = 0.1
        assert waiting.bodies.give_place()
        assert waiting.bodies.give_place()
        assert not waiting.bodies.give_place()
        assert await waiting.ended() == [False, True, True]

    run(test)


@pytest.mark.parametrize("passed_s", [0.02, 0.2, 1.0, 5.0, 9.0])
def test_a_body_that_will_be_whole_in_time_stays(passed_s: float) -> None:
    async def test(waiting: Waiting) -> None:
        one = Held(LONG)
        await waiting.begin(one)
        waiting.now_s = passed_s
        one.arrived_bytes = int(1.01 * LONG * passed_s / BODY_S)
        assert not waiting.bodies.give_bytes(1, 1)
        assert not waiting.bodies.give_place()
        assert await waiting.ended() == [False]

    run(test)


@pytest.mark.parametrize("passed_s", [0.001, 0.2, 1.0, 5.0])
def test_a_body_that_cannot_be_whole_in_time_gives_way(passed_s: float) -> None:
    """Sixteen of the longest, each just faster than a slow line, would keep all others out."""

    async def test(waiting: Waiting) -> None:
        one = Held(LONG)
        await waiting.begin(one)
        waiting.now_s = passed_s
        one.arrived_bytes = int(70_000 * passed_s)
        # To one of the same length only when it is clear that it is no line that begins slowly.
        clear = passed_s > bodies_to_come.PACE_KNOWN_S
        assert waiting.bodies.give_bytes(1, LONG) == clear
        if not clear:
            assert waiting.bodies.give_bytes(1, 100_000)
        assert await waiting.ended() == [True]

    run(test)


def test_what_has_not_begun_gives_way_however_young_it_is() -> None:
    """A few bytes are enough for the pace of the first moments."""

    async def test(waiting: Waiting) -> None:
        one = Held(LONG)
        await waiting.begin(one)
        waiting.now_s = 0.001
        one.arrived_bytes = bodies_to_come.FIRST_BYTES
        assert not waiting.bodies.give_bytes(1, 100_000)
        one.arrived_bytes -= 1
        assert one.arrived_bytes > LONG * waiting.now_s / BODY_S
        assert waiting.bodies.give_bytes(1, 100_000)
        assert await waiting.ended() == [True]

    run(test)


def test_who_misses_most_goes_first() -> None:
    """Heads alone end no body that comes: they are what misses most."""

    async def test(waiting: Waiting) -> None:
        slow, silent_one = Held(LONG), Held(LONG)
        await waiting.begin(slow, silent_one)
        waiting.now_s = 1.0
        slow.arrived_bytes = 2**20
        assert waiting.bodies.give_bytes(1, 100)
        assert await waiting.ended() == [False, True]

    run(test)
