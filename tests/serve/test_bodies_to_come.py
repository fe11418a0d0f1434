"""Clients that send heads and nothing more keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.errors import Overloaded
from seatrial.serve import bodies_to_come
from seatrial.serve.bodies_to_come import BodiesToCome

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
        for number in range(QUEUE if b"Length" in field else 3):
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


def test_what_has_just_begun_and_what_arrives_stay(
    narrow: Running, photo: bytes, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a line that is full of bodies each is slow, and none of them silent."""
    monkeypatch.setattr(bodies_to_come, "GIVES_WAY_S", 3600.0)
    with silent(narrow, *SILENT["queue"], until) as clients:
        assert narrow.client.post("/detect", content=photo).status_code == 503
        monkeypatch.setattr(bodies_to_come, "GIVES_WAY_S", 0.0)
        monkeypatch.setattr(bodies_to_come, "LEAST_BYTES_PER_S", 1e-6)
        for one in clients:
            one.sendall(b"x")
        until(
            lambda: all(one.arrived_bytes == 1 for one in narrow.service.dispatcher.bodies._waiting)
        )
        assert narrow.client.post("/detect", content=photo).status_code == 503
    until(lambda: narrow.detector.lanes.present == 0)


def test_none_ends_where_that_would_not_be_enough() -> None:
    async def wait() -> None:
        bodies = BodiesToCome()
        never = asyncio.Event()
        held = [Held(size) for size in (10, 20, 30)]
        bodies_of = [asyncio.create_task(bodies.receive(one, never.wait())) for one in held]
        await asyncio.sleep(0.01)
        assert not bodies.give_way(4, 0)
        assert not bodies.give_way(0, 61)
        assert bodies.give_way(0, 10)  # the first has as many
        assert bodies.give_way(0, 11)
        await asyncio.wait(bodies_of[:2])
        assert [one.done() for one in bodies_of] == [True, True, False]
        with pytest.raises(Overloaded, match="long in coming"):
            await bodies_of[0]
        bodies_of[2].cancel()
        await asyncio.gather(*bodies_of, return_exceptions=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies_to_come, "GIVES_WAY_S", 0.0)
        asyncio.run(wait())
