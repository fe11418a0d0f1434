"""When a request that arrives now would be answered, learnt from the requests before it.

A detector takes nearly the same time for each image of a size, so what is here tells when the next
request will be answered. Nothing is configured:

- Work of a request: seconds that a thread spends on it, without its waits. It is learnt for each
  class of body sizes; a neighbour on the machine that takes the cores makes it longer at once. Of a
  run of the engine that requests share, each has its part as work; it lasts as long as the whole.
- Decoding: what it takes of the bound that the header of an image gives, see
  `seatrial.detect.decode_cost`. With the header, the work of a request is foretold anew.
- Rate: work that the service does in a second while all of its lanes have work. It is near the
  number of lanes, and above it, since decoding goes on beside them.
- Spread: how far answers were from what was promised, of live requests and of those of a batch.

A live request waits for those of a batch that run already, and for no other; these wait for all.

Sources: Clockwork (OSDI 2020) for the idea; RFC 6298 for the mean with its deviation.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

# Means forget in this time, or in so many requests, whichever is longer.
MEMORY_S, MEMORY_REQUESTS = 0.5, 10
# The rate is measured while all lanes have work. A low one is forgotten in so many seconds in which
# they have not: a service that lets in one request at a time, since its rate is low, would never
# measure it again.
UNMEASURED_S = 2.0
# Large images give way to other live requests for so long after one of these was answered.
COMPANY_S = 5.0
# The spread grows with a share of the newest request, and forgets slowly: under overload the
# request that is let in when it is smallest would be late.
GROWING, SPREAD_MEMORY_S = 0.2, 10.0
DEVIATIONS = 2.0  # that an answer may be later than promised
# An image of which the header says so many times the work of its class of sizes was foretold wrong
# by itself: it teaches the class, and says nothing about how wrong others are.
SURPRISE = 2.0
WRONG = 2.0  # but no more than so many times what was promised
# Where less work than that of so many for each lane goes before, it counts so much at most: a few
# clients that wait for their answers would be refused on a machine whose speed changes, in half of
# the time that they have.
SHORT, SHORT_WRONG = 2.0, 0.25
# A single stall, such as a suspended machine, counts as no more than this many times the mean.
LONGEST = 8.0
MOST_WHOLE = 64.0  # images of a run
# Stages in which no thread works for the request.
WAITS = ("receive", "queue")
# Rate within these factors of the number of lanes, and of threads, whatever is measured.
LEAST_RATE, MOST_RATE = 0.25, 2.0
# Decoding by its bound, before one was measured; and how much of the sums of both the next keeps.
PACE, PACE_KEPT = 0.5, 0.95
# A body that is not here after this long is behind those that are: it counts again when it is.
ARRIVAL_S = 0.1


class Took(NamedTuple):
    """Time that an answered request took.

    Attributes:
        work_s: Seconds of a thread, of a shared run its part.
        whole_s: The same with all of a shared run.
        decode_s: Seconds of decoding.
        bound_s: Its bound; 0 where there was none.
    """

    work_s: float
    whole_s: float
    decode_s: float = 0.0
    bound_s: float = 0.0


def took_by(stages_ms: Mapping[str, float], size: int, bound_s: float) -> Took:
    """The time that a request took, by its clock.

    Args:
        stages_ms: Stage -> milliseconds.
        size: Number of requests that shared its run.
        bound_s: Bound of its decoding, seconds.
    """
    whole_s = 1e-3 * sum(stages_ms[stage] for stage in stages_ms if stage not in WAITS)
    others_s = 1e-3 * stages_ms.get("infer", 0.0) * (1 - 1 / size)
    return Took(whole_s - others_s, whole_s, 1e-3 * stages_ms.get("decode", 0.0), bound_s)


class Promise:
    """Forecast of one request, made when it arrived.

    Attributes:
        work_s: Seconds of a thread that it will take.
        finish_s: Seconds after its arrival until it is answered.
        batch: Whether live requests go before it.
        short: Whether few requests go before it.
        surprise: Whether the header of its image says that it takes far longer than was foretold.
        large_s: Its work while it counts among large images at work, otherwise 0.
    """

    __slots__ = (
        "arrived", "batch", "counted", "finish_s", "kind", "large_s", "ready", "short", "surprise",
        "work_s",
    )  # fmt: skip

    def __init__(
        self, kind: int, work_s: float, finish_s: float, arrived: float, batch: bool
    ) -> None:
        self.kind = kind
        self.batch = batch
        self.work_s = work_s
        self.finish_s = finish_s
        self.arrived = arrived
        self.counted = False
        self.ready = False
        self.short = False
        self.surprise = False
        self.large_s = 0.0


class Forecast:
    """Foretells when requests will be answered. Thread-safe.

    Args:
        lanes: Number of requests that the engine computes at a time.
        work_s: Seconds of one request, as measured at start-up.
        clock: Gives the time, seconds.
        threads: Number of threads that work for requests of one priority; None: two for each lane.
    """

    def __init__(
        self,
        lanes: int,
        work_s: float,
        clock: Callable[[], float] = time.monotonic,
        threads: int | None = None,
    ) -> None:
        self._clock = clock
        self._lanes = lanes
        self._threads = threads or 2 * lanes
        self._first_s = work_s
        self._rest_s = work_s  # without decoding
        self._whole = 1.0  # time of a request, as times of its work: more where runs are shared
        self._bound_s, self._decode_s = 1e-3, 1e-3 * PACE  # sums
        self._work_s: dict[int, float] = {}
        # Each of live requests, and of those of a batch.
        self._spread_s = [work_s / 2, work_s / 2]
        self._backlog_s = [0.0, 0.0]  # work of requests that are here
        self._arriving: deque[Promise] = deque()  # those of them whose body is not
        self._large_s = 0.0  # work of live requests whose large images are at work
        self._ordinary = -math.inf  # when a live request without one was last answered
        self._ready = 0
        self._busy_s = work_s * MEMORY_REQUESTS / lanes
        self._done_s = self._busy_s * lanes
        self._now = self._ended = clock()
        self._lock = threading.Lock()

    @property
    def rate(self) -> float:
        """Seconds of work that are done in a second while all lanes have work."""
        rate = self._done_s / self._busy_s
        return min(max(rate, LEAST_RATE * self._lanes), MOST_RATE * self._threads)

    @property
    def pace(self) -> float:
        """Seconds that decoding takes for each second of its bound."""
        return self._decode_s / self._bound_s

    def promise(self, body_bytes: int, *, batch: bool = False) -> Promise:
        """Foretell a request of which the headers are here; nothing is counted yet.

        Args:
            body_bytes: Declared length of its body; 0 if it is not declared.
            batch: Whether live requests go before it.
        """
        kind = body_bytes.bit_length()
        with self._lock:
            now = self._advance()
            work_s = self._mean_s(kind)
            promise = Promise(kind, work_s, 0.0, now, batch)
            self._foretell(promise)
            return promise

    def nearly_all_s(self, promise: Promise) -> float:
        """Seconds in which at least 19 of 20 requests of such a promise are answered.

        At most three times the foretold time: what is more wrong than that was a stall, such as a
        neighbour that took the cores, and says little about others.
        """
        spread_s = DEVIATIONS * self._spread_s[promise.batch]
        return promise.finish_s + min(spread_s, WRONG * promise.finish_s)

    def late_s(self, promise: Promise) -> float:
        """Seconds of the deadline that such a request needs to be let in.

        Those in which nearly all are answered; of a short queue a quarter more than foretold at
        most: where that is wrong, more are let in, and some of them are late.
        """
        nearly_all_s = self.nearly_all_s(promise)
        if not promise.short:
            return nearly_all_s
        return min(nearly_all_s, (1 + SHORT_WRONG) * promise.finish_s)

    def accept(self, promise: Promise) -> None:
        """Count a request among those that are here."""
        with self._lock:
            self._backlog_s[promise.batch] += promise.work_s
            promise.counted = True
            self._arriving.append(promise)

    def yields(self, promise: Promise) -> None:
        """Live requests go before one that was taken for a live one."""
        with self._lock:
            if promise.counted and not promise.batch:
                self._add(promise, -promise.work_s)
                self._backlog_s[True] += promise.work_s
            promise.batch = True

    def arrived(self, promise: Promise) -> None:
        """The body of a request is here. One that took long to arrive is foretold anew."""
        with self._lock:
            if promise.ready:
                return
            now = self._advance()
            promise.ready = True
            self._ready += 1
            if promise.counted:
                return
            promise.arrived = now
            self._foretell(promise)
            self._backlog_s[promise.batch] += promise.work_s
            promise.counted = True

    def work_s(self, bound_s: float) -> float:
        """Seconds of a thread for an image, by the most that its decoding takes."""
        return self._rest_s + self.pace * bound_s

    def weighed(self, promise: Promise, bound_s: float) -> float:
        """The header of a request's image is read, and a thread works for it: foretell it anew.

        Args:
            promise: What was foretold of it.
            bound_s: Most seconds that decoding takes, see `seatrial.detect.decode_cost`.

        Returns:
            Seconds from now until it is answered, where it waits for nothing.
        """
        with self._lock:
            work_s = self.work_s(bound_s)
            more_s = work_s - promise.work_s
            promise.surprise = promise.surprise or work_s > SURPRISE * promise.work_s
            if promise.counted:
                self._add(promise, more_s)
            promise.finish_s = max(work_s, promise.finish_s + more_s)
            promise.work_s = work_s
            return work_s * self._whole

    def large_ones_s(self, promise: Promise, most_s: float) -> float:
        """Count a large image among those at work, where they leave enough to others.

        Args:
            promise: What was foretold of it, `weighed`, of a live request.
            most_s: It is not counted where this would take longer.

        Returns:
            Seconds until all of them are done with it; 0 where it is the only one, or where no live
            request without one was answered within `COMPANY_S`.
        """
        with self._lock:
            others_s = self._large_s - promise.large_s
            beside = others_s > 0 and self._clock() - self._ordinary < COMPANY_S
            all_s = (others_s + promise.work_s) / self.rate if beside else 0.0
            if all_s <= most_s:
                promise.large_s, self._large_s = promise.work_s, others_s + promise.work_s
            return all_s

    def ended(
        self, promise: Promise, took: Took | float | None = None, decoded: Took | None = None
    ) -> None:
        """A request is here no more. To say it again changes nothing.

        Args:
            promise: What was foretold of it.
            took: Time that it took, or its seconds of work alone; None where it was not answered.
            decoded: Time that decoding took, where it was decoded and not answered.
        """
        if isinstance(took, Took):
            with self._lock:
                self._learn_parts(took)
            took = took.work_s
        self._ended_after(promise, took, decoded)

    def _ended_after(
        self, promise: Promise, work_s: float | None, decoded: Took | None = None
    ) -> None:
        with self._lock:
            now = self._advance()
            if promise.large_s:
                left_s = self._large_s - promise.large_s
                self._large_s = left_s if left_s > 1e-6 else 0.0  # rounding is no image
                promise.large_s = 0.0
            elif work_s is not None and not promise.batch:
                self._ordinary = now
            if promise.counted:
                self._add(promise, -promise.work_s)
                promise.counted = False
            busy = self._ready >= self._lanes
            self._ready -= promise.ready
            promise.ready = False
            if work_s is None:
                # Otherwise its time would count as one in which nothing was done, and only what is
                # decoded quickly would say how long decoding takes.
                if decoded is not None:
                    self._learn_pace(decoded)
                    if busy:
                        self._done_s += min(promise.work_s, decoded.work_s)
                return
            if busy:
                self._done_s += promise.work_s
            mean_s = self._mean_s(promise.kind)
            since_s, self._ended = now - self._ended, now
            work_s = min(work_s, LONGEST * mean_s)
            newest = min(-math.expm1(-since_s / MEMORY_S), 1 / MEMORY_REQUESTS)
            self._work_s[promise.kind] = mean_s + newest * (work_s - mean_s)
            if promise.surprise:
                return
            wrong_s = min(abs(now - promise.arrived - promise.finish_s), LONGEST * mean_s)
            spread_s = self._spread_s[promise.batch]
            if wrong_s < spread_s:
                newest = min(-math.expm1(-since_s / SPREAD_MEMORY_S), 1 / MEMORY_REQUESTS)
            else:
                newest = GROWING
            self._spread_s[promise.batch] += newest * (wrong_s - spread_s)

    def _foretell(self, promise: Promise) -> None:
        """Foretell when a request is answered that comes behind all that go before it."""
        work_s = promise.work_s
        before_s, batch_s = self._backlog_s
        if promise.batch:
            before_s += batch_s
        else:
            before_s += min(batch_s, self._lanes * work_s)  # what runs is not broken off
            if promise.arrived - self._ordinary < COMPANY_S:
                # A large image holds no lane while it is decoded: others go past it.
                before_s -= max(0.0, self._large_s - self._lanes * work_s)
        promise.finish_s = max(work_s * self._whole, (before_s + work_s) / self.rate)
        promise.short = before_s < SHORT * self._lanes * work_s

    def _add(self, promise: Promise, work_s: float) -> None:
        left_s = self._backlog_s[promise.batch] + work_s
        self._backlog_s[promise.batch] = max(0.0, left_s)

    def _learn_parts(self, took: Took) -> None:
        newest = 1 / MEMORY_REQUESTS
        if took.work_s > 0:
            self._whole += newest * (min(took.whole_s / took.work_s, MOST_WHOLE) - self._whole)
        if took.bound_s > 0:
            self._learn_pace(took)
            rest_s = min(took.work_s - took.decode_s, LONGEST * self._rest_s)
            self._rest_s += newest * (rest_s - self._rest_s)

    def _learn_pace(self, took: Took) -> None:
        self._bound_s = PACE_KEPT * self._bound_s + took.bound_s
        self._decode_s = PACE_KEPT * self._decode_s + took.decode_s

    def _mean_s(self, kind: int) -> float:
        """Work of a kind of request; of the kind next to it where there was none yet."""
        known = self._work_s
        if kind in known:
            return known[kind]
        return known[min(known, key=lambda other: abs(other - kind))] if known else self._first_s

    def _advance(self) -> float:
        """Let time pass: it counts for the rate while all lanes have work."""
        now = self._clock()
        if self._ready >= self._lanes:
            passed_s = now - self._now
            memory_s = max(MEMORY_S, MEMORY_REQUESTS * self._mean_s(0) / self._lanes)
            kept = math.exp(-passed_s / memory_s)
            self._busy_s = self._busy_s * kept + passed_s
            self._done_s *= kept
        else:
            forgotten = -math.expm1(-(now - self._now) / UNMEASURED_S)
            self._done_s += forgotten * max(0.0, self._busy_s * self._lanes - self._done_s)
        self._now = now
        while self._arriving and (
            self._arriving[0].ready
            or not self._arriving[0].counted
            or now - self._arriving[0].arrived > ARRIVAL_S
        ):
            slow = self._arriving.popleft()
            if slow.counted and not slow.ready:
                self._backlog_s[slow.batch] -= slow.work_s
                slow.counted = False
        return now


def in_words(seconds: float, limit_s: float) -> str:
    """Seconds beyond a limit, in few digits and still beyond it.

    Args:
        seconds: More than the limit.
        limit_s: The limit, as it is shown.
    """
    short = float(f"{seconds:.2g}")
    return f"{short if short > limit_s else math.ceil(1e3 * seconds) / 1e3:g}"
