"""Closed-loop load: each session sends its next image when the last one is answered.

The figures of such a load say how a service scales. They are never an SLO result: a slow service
slows its own load down, so the requests that would have waited are not there to be measured.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter_ns
from typing import Literal, Protocol

import aiohttp
import msgspec
from yarl import URL

from seatrial.load.http_client import CONNECT, DISCONNECT, Sample, exchange, http_session
from seatrial.load.target import Body

TICK_S = 0.5
# A closed loop against a dead service would spin; a real caller waits before it tries again.
RETRY_S = 0.05
# Unreachable for as long as this: the service is gone, not restarting a worker.
GIVE_UP_S = 2.0
# A warm-up that waits for a number of answers gives up waiting this long after its time.
WARMUP_PATIENCE_S = 10.0


class Load(msgspec.Struct, frozen=True):
    """What is sent.

    Attributes:
        sessions: Requests in flight at a time, each on its own keep-alive connection.
        seconds: Longest measured window.
        requests: The window ends earlier when this many requests are finished; None: never.
        warmup_s: Shortest warm-up.
        warmup_requests: Fewest requests of the warm-up, over all sessions.
        timeout_s: A request that takes longer failed.
        seed: Of the order in which each session sends the images.
    """

    sessions: int
    seconds: float
    requests: int | None = None
    warmup_s: float = 1.0
    warmup_requests: int = 1
    timeout_s: float = 30.0
    seed: int = 0


class Recording(msgspec.Struct, frozen=True):
    """What was seen, whole.

    Attributes:
        samples: Finished within the measured window, in order of their end.
        stragglers: Sent before the window's end and finished after it.
        open_ns: Begin of the window, `perf_counter_ns`.
        close_ns: Its end.
        ended: What closed the window. `unreachable`: the service was gone.
    """

    samples: tuple[Sample, ...]
    stragglers: tuple[Sample, ...]
    open_ns: int
    close_ns: int
    warmup_requests: int
    ended: Literal["time", "requests", "unreachable"]


class Observer(Protocol):
    """Looks at the machine while the load runs. Called from the loop: must be quick."""

    def opened(self) -> None:
        """The measured window begins."""

    def tick(self) -> None:
        """About twice a second."""

    def closed(self) -> None:
        """The measured window ended."""


class Window:
    """Decides what is warm-up, what is measured and what came too late."""

    def __init__(self, load: Load, observer: Observer) -> None:
        self.samples: list[Sample] = []
        self.stragglers: list[Sample] = []
        self.closed = asyncio.Event()
        self.ended: Literal["time", "requests", "unreachable"] = "time"
        self.open_ns = self.close_ns = 0
        self.warmed = self.failed = 0
        self._load, self._observer = load, observer
        self._loop = asyncio.get_running_loop()
        self._start_ns = perf_counter_ns()
        self._gone_since_ns: int | None = None
        patience_s = load.warmup_s + WARMUP_PATIENCE_S
        self._timer = self._loop.call_later(patience_s, self._open)

    def add(self, sample: Sample) -> None:
        """Account for a request that has just finished."""
        self._watch(sample)
        if self.closed.is_set():
            self.stragglers.append(sample)
        elif self.open_ns:
            self.samples.append(sample)
            self.failed += bool(sample.error)
            if len(self.samples) == self._load.requests:
                self.close("requests")
        else:
            self._warm(sample)

    def close(self, ended: Literal["time", "requests", "unreachable"]) -> None:
        """End the window now; requests under way become stragglers."""
        if self.closed.is_set():
            return
        self._timer.cancel()
        if not self.open_ns:
            self._open()
            self._timer.cancel()
        self.close_ns = perf_counter_ns()
        self.ended = ended
        self._observer.closed()
        self.closed.set()

    def _warm(self, sample: Sample) -> None:
        self.warmed += 1
        warm_s = (sample.end_ns - self._start_ns) / 1e9
        if self.warmed >= self._load.warmup_requests and warm_s >= self._load.warmup_s:
            self._open()

    def _open(self) -> None:
        self._timer.cancel()
        self._observer.opened()
        self.open_ns = perf_counter_ns()
        self._timer = self._loop.call_later(self._load.seconds, self.close, "time")

    def _watch(self, sample: Sample) -> None:
        if sample.error not in (CONNECT, DISCONNECT):
            self._gone_since_ns = None
        elif self._gone_since_ns is None:
            self._gone_since_ns = sample.end_ns
        elif sample.end_ns - self._gone_since_ns > GIVE_UP_S * 1e9:
            self.close("unreachable")


def image_order(count: int, seed: int, session: int) -> Iterator[int]:
    """Endless seeded order of image indices; each pass over the images is a new shuffle.

    No two sessions are in step, so an image's size or content never hits all at once.
    """
    chance = random.Random(f"{seed}/{session}")  # noqa: S311 - no secret
    while True:
        yield from chance.sample(range(count), count)


async def run_load(
    url: URL,
    bodies: Sequence[Body],
    load: Load,
    observer: Observer,
    on_tick: Callable[[Window], None],
) -> Recording:
    """Put a service under load and record every request.

    Args:
        url: Where the bodies are posted.
        bodies: One prepared request per image.
        load: Sessions, times, seed.
        observer: Sees the window's begin and end, and a tick.
        on_tick: Called with the state of the window about twice a second, and at its end.
    """
    window = Window(load, observer)
    async with http_session(load.sessions, load.timeout_s) as http:
        work = [_session(http, url, bodies, load, window, n) for n in range(load.sessions)]
        tasks = [asyncio.create_task(job) for job in (*work, _ticker(window, observer, on_tick))]
        try:
            await asyncio.gather(*tasks)
        finally:
            # Ctrl-C arrives as a cancellation: no request outlives this function.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return Recording(
        samples=tuple(window.samples),
        stragglers=tuple(window.stragglers),
        open_ns=window.open_ns,
        close_ns=window.close_ns,
        warmup_requests=window.warmed,
        ended=window.ended,
    )


async def _session(
    http: aiohttp.ClientSession,
    url: URL,
    bodies: Sequence[Body],
    load: Load,
    window: Window,
    number: int,
) -> None:
    for index in image_order(len(bodies), load.seed, number):
        if window.closed.is_set():
            return
        sample = await exchange(http, url, bodies[index])
        window.add(sample)
        if sample.error in (CONNECT, DISCONNECT):
            await asyncio.sleep(RETRY_S)


async def _ticker(window: Window, observer: Observer, on_tick: Callable[[Window], None]) -> None:
    while not window.closed.is_set():
        observer.tick()
        on_tick(window)
        try:
            await asyncio.wait_for(window.closed.wait(), TICK_S)
        except TimeoutError:
            continue
    on_tick(window)
