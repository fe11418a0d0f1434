"""Arrival laws: when the requests of a load are due."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Protocol

import msgspec


class ClosedLoop(msgspec.Struct, frozen=True, tag="closed"):
    """Each session sends its next request when its last one is answered; nothing has a due time.

    The figures of such a load say how a service scales. They are never an SLO result: a slow
    service slows its own load down, so the requests that would have waited are not sent.

    Attributes:
        sessions: Requests under way at a time, each on its own keep-alive connection.
        think_time_s: Pause of a session between an answer and its next request.
    """

    sessions: int
    think_time_s: float = 0.0


class OpenLoop(Protocol):
    """Requests are sent when they are due, whether earlier ones are answered or not.

    Latency counts from the due time, so a request that the client sends late, because the machine
    is full, counts in full. A further law (Poisson, a replayed log) is a struct with this method.
    """

    def due_s(self, seed: int) -> Iterator[float]:
        """Times at which requests are due, ascending, seconds after the begin of the load.

        Args:
            seed: Seed of a schedule that is drawn at random.
        """


class ConstantRate(msgspec.Struct, frozen=True, tag="constant"):
    """One request every ``1 / rate_hz`` seconds.

    Attributes:
        rate_hz: Requests per second.
    """

    rate_hz: float

    def due_s(self, seed: int) -> Iterator[float]:
        """0, 1 / rate, 2 / rate, ...: the same for every seed."""
        return (number / self.rate_hz for number in itertools.count())


class Poisson(msgspec.Struct, frozen=True, tag="poisson"):
    """Requests of many independent senders: the times between them are exponential.

    Attributes:
        rate_hz: Mean of the requests per second.
    """

    rate_hz: float

    def due_s(self, seed: int) -> Iterator[float]:
        """Times that a seed always draws alike."""
        draw = random.Random(seed)  # noqa: S311 - no secret
        due_s = 0.0
        while True:
            due_s += draw.expovariate(self.rate_hz)
            yield due_s


Arrivals = ClosedLoop | OpenLoop
