"""Puts a load on a service and records every request."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from time import perf_counter_ns
from typing import Literal, Protocol

import msgspec
from yarl import URL

from seatrial.client.credentials import NONE, Credentials
from seatrial.client.inference_wire import GRPC
from seatrial.load.arrivals import Arrivals, ClosedLoop
from seatrial.load.due_timer import DueTimer
from seatrial.load.http_client import exchange
from seatrial.load.http_session import HttpSession
from seatrial.load.samples import CONNECT, DISCONNECT, Sample
from seatrial.load.target import Body

TICK_S = 0.5
OVERLOADED = 503
# A closed loop against a service that is dead or refuses would spin, and take the cores that answer
# the others; a real caller waits before it tries again.
RETRY_S = 0.05
# Unreachable for as long as this: the service is gone, not restarting a worker.
GIVE_UP_S = 2.0
# A warm-up that waits for a number of answers gives up waiting this long after its time.
WARMUP_PATIENCE_S = 10.0

Ended = Literal["time", "requests", "unreachable"]
Loop = Literal["closed", "open"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A load: which requests are sent, and when.

    Attributes:
        arrivals: Law by which requests become due.
        measure_s: Longest measured window.
        requests: Finished requests that end the window earlier; None: time alone ends it.
        warmup_s: Shortest warm-up.
        warmup_requests: Fewest requests of the warm-up, over all sessions.
        timeout_s: Time after which a request has failed.
        image_seed: Seed of the order in which the images are sent.
        schedule_seed: Seed of the arrival law.
    """

    arrivals: Arrivals
    measure_s: float
    requests: int | None = None
    warmup_s: float = 1.0
    warmup_requests: int = 1
    timeout_s: float = 30.0
    image_seed: int = 0
    schedule_seed: int = 0

    @property
    def loop(self) -> Loop:
        """Whether the answers pace the requests (closed) or a schedule does (open)."""
        return "closed" if isinstance(self.arrivals, ClosedLoop) else "open"

    @property
    def sessions(self) -> int:
        """Most requests under way at a time; 0 in an open loop, where there is no such limit."""
        return self.arrivals.sessions if isinstance(self.arrivals, ClosedLoop) else 0


class Recording(msgspec.Struct, frozen=True):
    """Every request of a load.

    Attributes:
        samples: Requests that finished within the measured window, in order of their end.
        stragglers: Requests sent before the window's end that finished after it.
        open_ns: Begin of the window, `perf_counter_ns`.
        close_ns: End of the window.
        warmup_requests: Number of requests that finished before the window.
        ended: What closed the window. `unreachable`: the service was gone.
    """

    samples: tuple[Sample, ...]
    stragglers: tuple[Sample, ...]
    open_ns: int
    close_ns: int
    warmup_requests: int
    ended: Ended


class Observer(Protocol):
    """Watches the machine while the load runs; called from the event loop, so it must be quick."""

    def opened(self) -> None:
        """The measured window begins."""

    def tick(self) -> None:
        """Called about twice a second."""

    def closed(self) -> None:
        """The measured window ended."""


class Window:
    """Decides what is warm-up, what is measured and what came too late."""

    def __init__(self, load: Load, observer: Observer) -> None:
        self.samples: list[Sample] = []
        self.stragglers: list[Sample] = []
        self.closed = asyncio.Event()
        self.on_closed: Callable[[], object] = lambda: None
        self.ended: Ended = "time"
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

    def close(self, ended: Ended) -> None:
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
        self.on_closed()

    def _warm(self, sample: Sample) -> None:
        self.warmed += 1
        warm_s = (sample.end_ns - self._start_ns) / 1e9
        if self.warmed >= self._load.warmup_requests and warm_s >= self._load.warmup_s:
            self._open()

    def _open(self) -> None:
        self._timer.cancel()
        self._observer.opened()
        self.open_ns = perf_counter_ns()
        self._timer = self._loop.call_later(self._load.measure_s, self.close, "time")

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
    on_tick: Callable[[Window], object],
    credentials: Credentials = NONE,
) -> Recording:
    """Put a service under load and record every request.

    Args:
        url: Where the bodies are posted.
        bodies: One prepared request per image.
        load: Arrival law, times, seeds.
        observer: Called at the window's begin and end, and at each tick.
        on_tick: Called with the state of the window about twice a second, and at its end.
        credentials: What the service wants to see.
    """
    window, arrivals = Window(load, observer), load.arrivals
    async with _exchanges(url, load, credentials) as send_body:

        async def send(index: int, due_ns: int | None = None) -> Sample:
            sample = await send_body(bodies[index], due_ns)
            window.add(sample)
            return sample

        def order(session: int) -> Iterator[int]:
            return image_order(len(bodies), load.image_seed, session)

        jobs = [_ticker(window, observer, on_tick)]
        if isinstance(arrivals, ClosedLoop):
            think_s, count = arrivals.think_time_s, arrivals.sessions
            jobs += [_session(send, order(n), think_s, window) for n in range(count)]
        else:
            jobs += [_scheduled(send, order(0), arrivals.due_s(load.schedule_seed), window)]
        tasks = [asyncio.create_task(job) for job in jobs]
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


@contextlib.asynccontextmanager
async def _exchanges(
    url: URL, load: Load, credentials: Credentials
) -> AsyncIterator[Callable[[Body, int | None], Awaitable[Sample]]]:
    """Connections to a service, as what sends one request and gives the record of it."""
    if url.scheme in GRPC:
        from seatrial.load.grpc_client import grpc_session

        async with grpc_session(url, load.sessions, load.timeout_s, credentials) as session:
            yield session.send
        return
    async with HttpSession(load.sessions, load.timeout_s, credentials) as http:
        yield lambda body, due_ns: exchange(http, url, body, due_ns)


async def _session(
    send: Callable[[int], Awaitable[Sample]],
    order: Iterator[int],
    think_time_s: float,
    window: Window,
) -> None:
    for index in order:
        if window.closed.is_set():
            return
        sample = await send(index)
        if sample.error in (CONNECT, DISCONNECT) or sample.status == OVERLOADED:
            await asyncio.sleep(RETRY_S)
        elif think_time_s:
            await asyncio.sleep(think_time_s)


async def _scheduled(
    send: Callable[[int, int], Coroutine[object, object, Sample]],
    order: Iterator[int],
    due_s: Iterator[float],
    window: Window,
) -> None:
    begin_ns = perf_counter_ns()
    with DueTimer() as timer:
        window.on_closed = timer.stop
        async with asyncio.TaskGroup() as requests:
            for index, due in zip(order, due_s, strict=False):
                due_ns = begin_ns + round(due * 1e9)
                await asyncio.sleep(0)  # a late schedule gives way to the requests under way
                if not await timer.wait(due_ns) or window.closed.is_set():
                    return
                requests.create_task(send(index, due_ns))


async def _ticker(window: Window, observer: Observer, on_tick: Callable[[Window], object]) -> None:
    while not window.closed.is_set():
        observer.tick()
        on_tick(window)
        try:
            await asyncio.wait_for(window.closed.wait(), TICK_S)
        except TimeoutError:
            continue
    on_tick(window)
