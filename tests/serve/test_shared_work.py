"""Pages that are the same for all who ask: one is made at a time, for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from seatrial.serve.http_protocol import HttpProtocol
from seatrial.serve.metrics_page import METRICS
from seatrial.serve.shared_work import SharedWork

Running = Any
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")

MANY = 24


@pytest.mark.parametrize(
    ("path", "made", "pieces"),
    [
        ("/metrics", "seatrial.serve.metrics_page.page", 1),
        ("/v2/models/stats", "seatrial.serve.protocols.model_description.recorded_statistics", 2),
        ("/v2/models/tiny/stats", "seatrial.serve.protocols.model_description.recorded_statistics",
         1),
    ],
)  # fmt: skip
def test_one_page_is_made_for_all_who_ask_before_it_begins(
    run_app: Callable[..., Any],
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    made: str,
    pieces: int,
) -> None:
    """And for nobody who asks after that: whoever scrapes behind an answer sees it."""
    module, _, name = made.rpartition(".")
    make = getattr(__import__(module, fromlist=[name]), name)
    go_on, asked, at_work, most = threading.Event(), [], [], []

    def noted(*args: Any) -> Any:
        at_work.append(1)
        most.append(len(at_work))
        try:
            assert go_on.wait(60)
            return make(*args)
        finally:
            at_work.pop()

    complete = HttpProtocol.on_headers_complete

    def counted(self: HttpProtocol) -> None:
        complete(self)
        asked.append(self.scope["path"])

    monkeypatch.setattr(made, noted)
    monkeypatch.setattr(HttpProtocol, "on_headers_complete", counted)
    with run_app(probes=[METRICS]) as running, ThreadPoolExecutor(MANY) as pool:

        def ask() -> int:
            with running.connect() as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                return int(connection.recv(65536).split()[1])

        first = pool.submit(ask)
        until(lambda: most)
        others = [pool.submit(ask) for _ in range(MANY - 1)]
        until(lambda: asked.count(path) == MANY)
        for _ in range(3):  # their tasks have begun by then
            assert running.client.get("/livez").status_code == 200
        go_on.set()
        assert {one.result() for one in (first, *others)} == {200}
    assert most == [1] * (2 * pieces)


def test_what_the_work_raises_is_raised_to_all_and_the_next_one_begins() -> None:
    async def ask() -> None:
        shared, made = SharedWork(), []

        def work() -> int:
            made.append(1)
            if len(made) == 1:
                raise KeyError("first")
            return len(made)

        found = await asyncio.gather(*(shared("a", work) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [KeyError] * 3
        assert await shared("a", work) == 2
        assert not shared._next

    asyncio.run(ask())


def test_who_leaves_takes_the_page_from_nobody() -> None:
    async def ask() -> None:
        shared, begun, go_on = SharedWork(), threading.Event(), threading.Event()

        def work() -> str:
            begun.set()
            assert go_on.wait(60)
            return "page"

        leaving, staying = (asyncio.create_task(shared("a", work)) for _ in range(2))
        await asyncio.to_thread(begun.wait)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        go_on.set()
        assert await staying == "page"

    asyncio.run(ask())
