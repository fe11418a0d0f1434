"""A simulated service that decodes and infers on cores which its threads share."""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from seatrial.errors import Overloaded
from seatrial.serve.decode_time import check_beside, check_in_time
from seatrial.serve.forecast import Forecast, Promise, Took, took_by

DEADLINE_S = 1.0


@dataclass(frozen=True)
class Image:
    """What an image costs.

    Attributes:
        body_bytes: Length of its file.
        decode_s: Seconds of a core that decoding takes.
        bound_s: What its header says of that.
    """

    body_bytes: int
    decode_s: float
    bound_s: float


PHOTO = Image(100_000, 0.006, 0.02)
# A PNG of one colour and 25 megapixels: as long as the photo.
LARGE = Image(84_000, 0.26, 0.85)


@dataclass(eq=False)
class Request:
    """A request that was let in.

    Attributes:
        image: Its image.
        promise: What was foretold of it.
        arrived: Second of its arrival.
        told: Called with its status when its client knows it.
        left_s: Seconds of a core that the stage still takes which runs.
        then: Called when that stage has ended.
        stages_ms: Stage -> milliseconds.
        done: Whether its client has had its answer.
    """

    image: Image
    promise: Promise
    arrived: float
    told: Callable[[int], None]
    left_s: float = 0.0
    then: Callable[[Request], None] = lambda request: None
    stages_ms: dict[str, float] = field(default_factory=dict)
    done: bool = False


@dataclass
class SharedCores:
    """A service whose threads share the cores, in front of it an admission by the forecast.

    Attributes:
        cores: Number of cores, and of lanes.
        infer_s: Seconds of a core that the engine takes for an image.
        idle_s: Seconds of cores in which no thread had work for them.
        answers: Image and status of each request, with the second in which its client had it.
    """

    cores: int = 2
    infer_s: float = 0.045
    now: float = 0.0
    idle_s: float = 0.0
    answers: list[tuple[Image, int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forecast = Forecast(self.cores, self.infer_s, lambda: self.now, 2 * self.cores)
        self._free_threads, self._free_lanes = 2 * self.cores, self.cores
        self._present = 0
        self._for_thread: deque[Request] = deque()
        self._for_lane: deque[Request] = deque()
        self._at_work: list[Request] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something when so many seconds have passed."""
        self._count += 1
        heapq.heappush(self._later, (self.now + seconds, self._count, call))

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while self.now < until_s:
            threads = len(self._at_work)
            pace = min(1.0, self.cores / threads) if threads else 0.0
            next_s = min(self._later[0][0] if self._later else math.inf, until_s) - self.now
            done = min(self._at_work, key=lambda one: one.left_s, default=None)
            passed_s = min(next_s, done.left_s / pace if done else math.inf)
            self.now += passed_s
            self.idle_s += passed_s * max(0, self.cores - threads)
            for one in self._at_work:
                one.left_s -= passed_s * pace
            if done and passed_s < next_s:
                self._at_work.remove(done)
                done.then(done)
            elif self._later and self.now >= self._later[0][0]:
                heapq.heappop(self._later)[2]()

    def counts(self, image: Image) -> Counter[int]:
        """Status -> number of requests with such an image."""
        return Counter(status for one, status, _ in self.answers if one is image)

    def ask(self, image: Image, told: Callable[[int], None] = lambda status: None) -> None:
        """Let a request arrive now."""

        def answered(status: int) -> None:
            self.answers.append((image, status, self.now))
            told(status)

        promise = self.forecast.promise(image.body_bytes)
        if self._present and self.forecast.late_s(promise) > DEADLINE_S:
            answered(503)
            return
        request = Request(image, promise, self.now, answered)
        self._present += 1
        self.forecast.accept(promise)
        self.forecast.arrived(promise)
        self._for_thread.append(request)
        self.after(DEADLINE_S, lambda: self._too_late(request))
        self._begin()

    def _too_late(self, request: Request) -> None:
        if request.done:
            return
        request.done = True
        request.told(504)
        if request in self._for_thread:
            self._for_thread.remove(request)
            self._end(request, None)
        elif request in self._for_lane:
            self._for_lane.remove(request)
            self._leave(request, None)

    def _begin(self) -> None:
        while self._for_thread and self._free_threads:
            request = self._for_thread.popleft()
            self._free_threads -= 1
            left_s = request.arrived + DEADLINE_S - self.now
            place = cast(Any, SimpleNamespace(remaining_s=lambda left_s=left_s: left_s))
            alone = self._present <= 1
            try:
                bound_s = request.image.bound_s
                check_in_time(place, request.promise, self.forecast, bound_s, alone=alone)
                check_beside(self.forecast, request.promise, bound_s, DEADLINE_S, together=False)
            except Overloaded:
                request.done = True
                request.told(503)
                self._leave(request, None)
                continue
            self._work(request, "decode", request.image.decode_s, self._decoded)

    def _work(
        self, request: Request, stage: str, seconds: float, then: Callable[[Request], None]
    ) -> None:
        began = self.now

        def done(request: Request) -> None:
            request.stages_ms[stage] = 1e3 * (self.now - began)
            then(request)

        request.left_s, request.then = seconds, done
        self._at_work.append(request)

    def _decoded(self, request: Request) -> None:
        if request.done:
            decode_s = 1e-3 * request.stages_ms["decode"]
            took = Took(decode_s, decode_s, decode_s, request.image.bound_s)
            self._leave(request, None, took)
        else:
            self._for_lane.append(request)
            self._hand_out()

    def _hand_out(self) -> None:
        while self._for_lane and self._free_lanes:
            self._free_lanes -= 1
            self._work(self._for_lane.popleft(), "infer", self.infer_s, self._inferred)

    def _inferred(self, request: Request) -> None:
        self._free_lanes += 1
        self._leave(request, took_by(request.stages_ms, 1, request.image.bound_s))
        if not request.done:
            request.done = True
            request.told(200)
        self._hand_out()

    def _leave(self, request: Request, took: Took | None, decoded: Took | None = None) -> None:
        self._free_threads += 1
        self._end(request, took, decoded)
        self._begin()

    def _end(self, request: Request, took: Took | None, decoded: Took | None = None) -> None:
        self._present -= 1
        self.forecast.ended(request.promise, took, decoded)


def in_a_loop(service: SharedCores, image: Image, clients: int, pause_s: float = 0.05) -> None:
    """Clients that ask again when they know what became of their request.

    Args:
        service: Is asked.
        image: What they send.
        clients: Number of clients.
        pause_s: Seconds that a client waits after a refusal.
    """

    def ask() -> None:
        service.ask(image, lambda status: service.after(pause_s if status == 503 else 0.002, ask))

    for number in range(clients):
        service.after(0.003 * number, ask)
