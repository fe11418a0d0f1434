"""The system that LoadGen tests: a service, by way of our clients."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns
from typing import Any

import msgspec

from seatrial.load.run import Send
from seatrial.load.samples import CONNECT, DISCONNECT, Sample
from seatrial.load.statistics import Latency, latency, rate_per_s
from seatrial.load.target import Body
from seatrial.load.window import GIVE_UP_S


class ClientFigures(msgspec.Struct, frozen=True, kw_only=True, tag="client"):
    """The same run by the clock of the client.

    Attributes:
        queries: Number of queries.
        images: Number of images sent.
        failed: Number of images without a good answer.
        errors: Kind of failure -> number of images.
        good_per_s: Good answers over the time from the first query to the last answer.
        latency: From LoadGen's call to the last byte of the query's last answer.
        service: From the send to the last byte, of each image.
        hand_over: From LoadGen's call to the send, of each image: the client's own delay, and in
            offline the wait for the images before it.
        gone: Whether the service stopped answering, which ended the run.
    """

    queries: int
    images: int
    failed: int
    errors: dict[str, int]
    good_per_s: float
    latency: Latency
    service: Latency
    hand_over: Latency
    gone: bool


class _Query(msgspec.Struct):
    issued_ns: int
    left: int
    samples: list[Sample] = msgspec.field(default_factory=list)


class ServiceUnderTest:
    """Sends what LoadGen issues to a service, and tells LoadGen when it is answered.

    LoadGen knows no failed query: one that is never completed hangs the run, and one that is
    completed at its failure would count as a fast answer. A failed one is completed `timeout_s`
    after its issue, as late as any answer could have come; the run has failed all the same.

    Args:
        send: Sends one request.
        bodies: One prepared request per image.
        complete: Tells LoadGen that the image with this id is answered.
        places: Most requests under way at a time; 0: no limit.
        timeout_s: Longest time of one request.

    Attributes:
        queries: What was issued, in order.
        gone: Set when the service does not answer any more.
        failure: Error that no client should raise; None where there was none.
    """

    def __init__(
        self,
        send: Send,
        bodies: Sequence[Body],
        complete: Callable[[int], object],
        *,
        places: int,
        timeout_s: float,
    ) -> None:
        self.queries: list[_Query] = []
        self.gone = asyncio.Event()
        self.failure: BaseException | None = None
        self.done = self.failed = 0
        self._send, self._bodies, self._complete = send, bodies, complete
        self._places, self._timeout_s = places, timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[_Query, int, int]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = False

    def issue(self, samples: Iterable[Any]) -> None:
        """Take a query; called by LoadGen's thread, which goes on at once."""
        issued_ns = perf_counter_ns()
        wanted = [(one.id, one.index) for one in samples]
        self._loop.call_soon_threadsafe(self._begin, wanted, issued_ns)

    def _begin(self, wanted: Sequence[tuple[int, int]], issued_ns: int) -> None:
        query = _Query(issued_ns, len(wanted))
        self.queries.append(query)
        self._waiting.extend((query, number, index) for number, index in wanted)
        self._fill()

    def _fill(self) -> None:
        """Send what waits, as far as there are places."""
        while self._waiting and not (self._places and len(self._tasks) >= self._places):
            task = self._loop.create_task(self._one(*self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (failure := task.exception()) is not None:  # LoadGen would wait for this query for ever
            self.failure = failure
            self.gone.set()
        self._fill()

    async def _one(self, query: _Query, number: int, index: int) -> None:
        sample = await self._send(self._bodies[index], None)
        query.samples.append(sample)
        self.done += 1
        if sample.error:
            self.failed += 1
            if sample.error in (CONNECT, DISCONNECT):
                self._ask_again(self._bodies[index])
            left_s = self._timeout_s - (perf_counter_ns() - query.issued_ns) / 1e9
            self._loop.call_later(max(0.0, left_s), self._complete, number)
        else:
            self._complete(number)

    def _ask_again(self, body: Body) -> None:
        """Find out whether a service that broke a connection is gone."""

        async def ask() -> None:
            before = self.done - self.failed
            await asyncio.sleep(GIVE_UP_S)
            sample = await self._send(body, None)
            self._asking = False
            if sample.error in (CONNECT, DISCONNECT) and before == self.done - self.failed:
                self.gone.set()

        if not self._asking:
            self._asking = True
            self._asked = self._loop.create_task(ask())

    def figures(self) -> ClientFigures:
        """Figures of all that was recorded."""
        samples = [one for query in self.queries for one in query.samples]
        whole = [one for one in self.queries if len(one.samples) == one.left]
        good = [one for one in whole if not any(sample.error for sample in one.samples)]
        good_samples = [one for one in samples if not one.error]
        failed = len(samples) - len(good_samples)
        waited = [
            (sample.start_ns - query.issued_ns) / 1e6
            for query in self.queries
            for sample in query.samples
        ]
        begin_ns = min((one.issued_ns for one in self.queries), default=0)
        end_ns = max((one.end_ns for one in samples), default=begin_ns)
        return ClientFigures(
            queries=len(self.queries),
            images=len(samples),
            failed=failed,
            errors=dict(Counter(one.error for one in samples if one.error)),
            good_per_s=rate_per_s(len(good_samples), (end_ns - begin_ns) / 1e9),
            latency=latency(
                [(max(s.end_ns for s in one.samples) - one.issued_ns) / 1e6 for one in good],
                len(self.queries) - len(good),
            ),
            service=latency([one.service_ms for one in good_samples], failed),
            hand_over=latency(waited),
            gone=self.gone.is_set(),
        )
