"""The measured window of a load: which requests count, and which are warm-up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.load.arrivals import Arrivals, ClosedLoop
from seatrial.load.samples import CONNECT, DISCONNECT, Sample
from seatrial.load.schedule import to_ns

# Unreachable for as long as this: the service is gone, not restarting a worker.
GIVE_UP_S = 2.0
GIVE_UP = 5  # failures in a row at least: at a low rate two are no outage
# A warm-up that waits for a number of answers gives up waiting this long after its time.
WARMUP_PATIENCE_S = 10.0

Ended = Literal["time", "requests", "unreachable", "hopeless", "interrupted"]
Loop = Literal["closed", "open"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A load: which requests are sent, and when.

    Attributes:
        arrivals: Law by which requests become due.
        measure_s: Longest measured window.
        requests: Requests that end the window earlier: finished ones of a closed loop, due ones of
            an open loop; None: time alone ends it.
        warmup_s: Shortest warm-up; of an open loop its length.
        warmup_requests: Fewest requests of the warm-up of a closed loop, over all sessions.
        timeout_s: Time after which a request has failed.
        image_seed: Seed of the order in which the images are sent.
        schedule_seed: Seed of the arrival law.
        think_seed: Seed of the pauses of sessions, where they are random.
    """

    arrivals: Arrivals
    measure_s: float
    requests: int | None = None
    warmup_s: float = 1.0
    warmup_requests: int = 1
    timeout_s: float = 30.0
    image_seed: int = 0
    schedule_seed: int = 0
    think_seed: int = 0

    @property
    def loop(self) -> Loop:
        """Whether the answers pace the requests (closed) or a schedule does (open)."""
        return "closed" if isinstance(self.arrivals, ClosedLoop) else "open"

    @property
    def sessions(self) -> int:
        """Most queries under way at a time; 0 in an open loop, where there is no such limit."""
        return self.arrivals.sessions if isinstance(self.arrivals, ClosedLoop) else 0

    @property
    def in_flight(self) -> int:
        """Most requests under way at a time; 0: there is no limit."""
        law = self.arrivals
        return law.sessions * law.images_per_query if isinstance(law, ClosedLoop) else 0


class Recording(msgspec.Struct, frozen=True):
    """Every request of a load.

    Attributes:
        samples: Requests that count, in order of their end: those that finished within the
            measured window; of an open loop those that were due in it, whenever they finished.
        stragglers: Requests of a closed loop sent before the window's end that finished after it.
        open_ns: Begin of the window, `perf_counter_ns`.
        close_ns: End of the window.
        warmup_requests: Number of requests before the window.
        ended: What closed the window. `unreachable`: the service was gone; `hopeless`: too many
            requests were late for the rest to matter; `interrupted`: Ctrl-C.
        carried: Requests of an open loop that were due before the window and answered within it.
    """

    samples: tuple[Sample, ...]
    stragglers: tuple[Sample, ...]
    open_ns: int
    close_ns: int
    warmup_requests: int
    ended: Ended
    carried: int = 0


class Observer(Protocol):
    """Watches the machine while the load runs; called from the event loop, so it must be quick."""

    def opened(self) -> None:
        """The measured window begins."""

    def tick(self) -> None:
        """Called about twice a second."""

    def closed(self) -> None:
        """The measured window ended."""


class Recorder(Protocol):
    """Takes the outcomes of requests, and says when no more are wanted.

    Attributes:
        closed: Event that is set when no more requests are sent.
        on_closed: Called when it is set.
        begin_ns: Begin of the load, from which due times count, `perf_counter_ns`.
        close_ns: Time from which on no request is due.
    """

    closed: asyncio.Event
    on_closed: Callable[[], object]
    begin_ns: int
    close_ns: int

    def add(self, sample: Sample) -> None:
        """Account for a request that has just finished."""

    def open(self) -> None:
        """Begin the window now."""

    def finish(self) -> None:
        """Note that every request has its outcome, and that no more will be sent."""


class Window:
    """Decides what is warm-up, what is measured and what came too late, in a closed loop.

    Args:
        load: The load.
        observer: Called at the window's begin and end.
        begin_ns: Begin of the load, `perf_counter_ns`; None: now.
    """

    def __init__(self, load: Load, observer: Observer, begin_ns: int | None = None) -> None:
        self.samples: list[Sample] = []
        self.stragglers: list[Sample] = []
        self.closed = asyncio.Event()
        self.on_closed: Callable[[], object] = lambda: None
        self.ended: Ended = "time"
        self.open_ns = self.close_ns = 0
        self.warmed = self.failed = self.carried = 0
        self._load, self._observer = load, observer
        self._loop = asyncio.get_running_loop()
        self.begin_ns = perf_counter_ns() if begin_ns is None else begin_ns
        self._gone_since_ns: int | None = None
        self._gone = 0
        self._timer = self._first_timer()

    @property
    def over(self) -> asyncio.Event:
        """Event that is set when nothing more will be recorded that counts."""
        return self.closed

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

    def open(self) -> None:
        """Begin the window now."""
        if self.open_ns:
            return
        self._timer.cancel()
        self._observer.opened()
        self.open_ns = perf_counter_ns()
        self._timer = self._loop.call_later(self._load.measure_s, self.close, "time")

    def close(self, ended: Ended) -> None:
        """End the window now; requests under way become stragglers."""
        if self.closed.is_set():
            return
        self.open()
        self._timer.cancel()
        self.close_ns = perf_counter_ns()
        self.ended = ended
        self._observer.closed()
        self.closed.set()
        self.on_closed()

    def finish(self) -> None:
        """Note that every request has its outcome, and that no more will be sent."""
        self.close("requests")

    def recording(self) -> Recording:
        """All that was recorded."""
        return Recording(
            samples=tuple(sorted(self.samples, key=lambda one: one.end_ns)),
            stragglers=tuple(self.stragglers),
            open_ns=self.open_ns,
            close_ns=self.close_ns,
            warmup_requests=self.warmed,
            ended=self.ended,
            carried=self.carried,
        )

    def _first_timer(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._in_s(self._load.warmup_s + WARMUP_PATIENCE_S), self.open)

    def _in_s(self, after_begin_s: float) -> float:
        """Time from now to one that counts from the begin, seconds."""
        return after_begin_s + (self.begin_ns - perf_counter_ns()) / 1e9

    def _warm(self, sample: Sample) -> None:
        self.warmed += 1
        warm_s = (sample.end_ns - self.begin_ns) / 1e9
        law = self._load.arrivals
        if isinstance(law, ClosedLoop) and law.once:
            return  # opened when no warm-up request is under way
        if self.warmed >= self._load.warmup_requests and warm_s >= self._load.warmup_s:
            self.open()

    def _watch(self, sample: Sample) -> None:
        if sample.error not in (CONNECT, DISCONNECT):
            self._gone_since_ns, self._gone = None, 0
            return
        self._gone += 1
        if self._gone_since_ns is None:
            self._gone_since_ns = sample.end_ns
        elif sample.end_ns - self._gone_since_ns > GIVE_UP_S * 1e9 and self._gone >= GIVE_UP:
            self.close("unreachable")


class DueWindow(Window):
    """The window of an open loop: what is due in it counts, whenever it is answered.

    A window that counted what ends in it would leave out the slowest requests of its end.

    Args:
        load: The load.
        observer: Called at the window's begin and end.
        due_s: (N,) due times of all requests, ascending, seconds after the begin.
        begin_ns: Begin of the load, `perf_counter_ns`; None: now.

    Attributes:
        drained: Event that is set when every request has its outcome, and the window has ended.
    """

    def __init__(
        self,
        load: Load,
        observer: Observer,
        due_s: NDArray[np.float64],
        begin_ns: int | None = None,
    ) -> None:
        super().__init__(load, observer, begin_ns)
        self.drained = asyncio.Event()
        self._finished = self._ended = False
        dues_ns, open_ns = to_ns(due_s), int(to_ns(load.warmup_s))
        end_ns = int(to_ns(load.warmup_s + load.measure_s))
        first = int(np.searchsorted(dues_ns, open_ns))
        if load.requests is not None and first + load.requests < len(due_s):
            end_ns, self.ended = int(dues_ns[first + load.requests]), "requests"
        self.open_ns = self.begin_ns + open_ns
        self.close_ns = self.begin_ns + end_ns
        self._end = self._loop.call_later(self._in_s(end_ns / 1e9), self._ends)

    @property
    def over(self) -> asyncio.Event:
        """Event that is set when every request has its outcome, and the window has ended."""
        return self.drained

    def add(self, sample: Sample) -> None:
        """Account for a request that has just finished."""
        self._watch(sample)
        due_ns = sample.start_ns if sample.due_ns is None else sample.due_ns
        if due_ns >= self.open_ns:
            self.samples.append(sample)
            self.failed += bool(sample.error)
        else:
            self.warmed += 1
            self.carried += bool(sample.status) and self.open_ns <= sample.end_ns < self.close_ns

    def close(self, ended: Ended) -> None:
        """End the window early: nothing more is sent. What was sent is waited for."""
        if self._ended or self._end.when() <= self._loop.time():
            return
        self._timer.cancel()
        self._end.cancel()
        self.close_ns = min(self.close_ns, max(perf_counter_ns(), self.open_ns))
        self.ended = ended
        self._ends()
        self.closed.set()
        self.on_closed()

    def finish(self) -> None:
        """Note that every request has its outcome, and that no more will be sent."""
        self._finished = True
        if self._ended:
            self.drained.set()

    def _ends(self) -> None:
        self._ended = True
        self._observer.closed()
        if self._finished:
            self.drained.set()

    def _first_timer(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._in_s(self._load.warmup_s), self._observer.opened)
