"""Arrival laws: when the requests of a load are due.

A law is data. An open loop draws all its due times before it begins, so no answer and no delay of
the client can change them. Rates that change with time are drawn by inversion (Cinlar, Introduction
to Stochastic Processes, 1975, 4.7): arrivals of rate 1 on the axis of expected counts, taken back
to the axis of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidConfig

# Points on which the expected count of a curved rate is inverted, of one period where it repeats
# itself; straight lines between them.
CURVE_POINTS = 20_001
# Of one schedule. It is kept in memory, as are its answers.
MOST_REQUESTS = 20_000_000

Times = NDArray[np.float64]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
RateOrNone = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
# What is shorter than a millisecond is nothing that a client could send.
Seconds = Annotated[float, msgspec.Meta(ge=1e-3, le=1e7)]
Spacing = Literal["random", "even"]


class ClosedLoop(msgspec.Struct, frozen=True, tag="closed", forbid_unknown_fields=True):
    """Each session sends its next query when its last one is answered; nothing has a due time.

    The figures of such a load say how a service scales. They are never an SLO result: a slow
    service slows its own load down, so the requests that would have waited are not sent.

    Attributes:
        sessions: Queries under way at a time, each on its own keep-alive connections.
        think_time_s: Pause of a session between an answer and its next query; its mean, where
            `thinking` is random.
        thinking: Whether each pause is the same, or drawn from an exponential distribution.
        images_per_query: Images that are sent at once; the query ends with the last answer
            (MLPerf's multi-stream).
        once: Whether each image is sent once, and the load ends with the last one (MLPerf's
            offline).
    """

    sessions: int
    think_time_s: float = 0.0
    thinking: Spacing = "even"
    images_per_query: int = 1
    once: bool = False

    @property
    def pause(self) -> str:
        """The pauses in words; empty without any."""
        if not self.think_time_s:
            return ""
        kind = "random pauses with a mean of" if self.thinking == "random" else "pauses of"
        return f"{kind} {self.think_time_s:g} s"


class OpenLoop(Protocol):
    """Requests are sent when they are due, whether earlier ones are answered or not.

    Latency counts from the due time, so a request that the client sends late, because the machine
    is full, counts in full. A further law is a struct with these methods.
    """

    def due_s(self, seed: int, until_s: float) -> Times:
        """Times at which requests are due, ascending, seconds after the begin of the load.

        Args:
            seed: Seed of a schedule that is drawn at random.
            until_s: End of the load; no time reaches it.
        """

    def words(self) -> str:
        """The law in a few words, with its rates."""


class ConstantRate(msgspec.Struct, frozen=True, tag="constant", forbid_unknown_fields=True):
    """One request every ``1 / rate_hz`` seconds.

    Attributes:
        rate_hz: Requests per second.
    """

    rate_hz: Rate

    def due_s(self, seed: int, until_s: float) -> Times:
        """0, 1 / rate, 2 / rate, ...: the same for every seed."""
        _check_count(self.rate_hz * until_s)
        return np.arange(math.ceil(self.rate_hz * until_s - 1e-9)) / self.rate_hz

    def words(self) -> str:
        """The law in a few words."""
        return f"constant, {self.rate_hz:.4g}/s"


class Poisson(msgspec.Struct, frozen=True, tag="poisson", forbid_unknown_fields=True):
    """Requests of many independent senders: the times between them are exponential.

    Attributes:
        rate_hz: Mean of the requests per second.
    """

    rate_hz: Rate

    def due_s(self, seed: int, until_s: float) -> Times:
        """Times that a seed always draws alike; a longer load begins like a shorter one."""
        return _counted(self.rate_hz * until_s, seed, "random") / self.rate_hz

    def words(self) -> str:
        """The law in a few words."""
        return f"Poisson, {self.rate_hz:.4g}/s"


class Ramp(msgspec.Struct, frozen=True, tag="ramp", forbid_unknown_fields=True):
    """A rate that rises or falls evenly from one value to another, and stays there.

    Attributes:
        from_hz: Rate at the begin, requests per second.
        to_hz: Rate from `over_s` on.
        over_s: Time that the change takes, seconds.
        spacing: Whether arrivals are Poisson at each moment (random), or as even as the rate
            allows.
    """

    from_hz: RateOrNone
    to_hz: RateOrNone
    over_s: Seconds
    spacing: Spacing = "random"

    @property
    def length_s(self) -> float:
        """Time of the whole change, seconds."""
        return self.over_s

    def due_s(self, seed: int, until_s: float) -> Times:
        """Times that a seed always draws alike."""
        at_s = np.linspace(0.0, min(self.over_s, until_s), CURVE_POINTS)
        slope = (self.to_hz - self.from_hz) / self.over_s
        counts = self.from_hz * at_s + slope * at_s**2 / 2
        return _straight(at_s, counts, self.to_hz, until_s, seed, self.spacing)

    def words(self) -> str:
        """The law in a few words."""
        return f"ramp, {self.from_hz:.4g} to {self.to_hz:.4g}/s in {self.over_s:.4g} s"


class Steps(msgspec.Struct, frozen=True, tag="steps", forbid_unknown_fields=True):
    """Rates one after the other, each for the same time; the last one stays.

    Attributes:
        rates_hz: Requests per second.
        each_s: Time of each rate, seconds.
        spacing: Whether arrivals are Poisson at each moment (random), or even.
    """

    rates_hz: Annotated[tuple[RateOrNone, ...], msgspec.Meta(min_length=1)]
    each_s: Seconds
    spacing: Spacing = "random"

    @property
    def length_s(self) -> float:
        """Time of all rates, seconds."""
        return self.each_s * len(self.rates_hz)

    def due_s(self, seed: int, until_s: float) -> Times:
        """Times that a seed always draws alike."""
        rates = np.array(self.rates_hz)
        edges_s = self.each_s * np.arange(len(rates) + 1, dtype=np.float64)
        counts = np.concatenate([[0.0], np.cumsum(rates * self.each_s)])
        return _straight(edges_s, counts, self.rates_hz[-1], until_s, seed, self.spacing)

    def words(self) -> str:
        """The law in a few words."""
        rates = ", ".join(f"{rate:.4g}" for rate in self.rates_hz)
        return f"steps, {rates}/s for {self.each_s:.4g} s each"


class Bursts(msgspec.Struct, frozen=True, tag="bursts", forbid_unknown_fields=True):
    """A high rate and a low one in turn (on-off), beginning with the high one.

    Attributes:
        on_hz: Rate within a burst, requests per second.
        off_hz: Rate between bursts.
        on_s: Length of a burst, seconds.
        off_s: Time between two bursts.
        spacing: Whether arrivals are Poisson at each moment (random), or even.
    """

    on_hz: Rate
    off_hz: RateOrNone = 0.0
    on_s: Seconds = 1.0
    off_s: Seconds = 1.0
    spacing: Spacing = "random"

    def due_s(self, seed: int, until_s: float) -> Times:
        """Times that a seed always draws alike."""
        edges_s = np.cumsum([0.0, self.on_s, self.off_s])
        counts = np.cumsum([0.0, self.on_s * self.on_hz, self.off_s * self.off_hz])
        return _periodic(edges_s, counts, until_s, seed, self.spacing)

    def words(self) -> str:
        """The law in a few words."""
        return (
            f"bursts, {self.on_hz:.4g}/s for {self.on_s:.4g} s, {self.off_hz:.4g}/s for "
            f"{self.off_s:.4g} s"
        )


class Diurnal(msgspec.Struct, frozen=True, tag="diurnal", forbid_unknown_fields=True):
    """A day: a rate that goes up and down as a sine does, beginning at its lowest.

    Attributes:
        low_hz: Lowest rate, requests per second.
        high_hz: Highest rate, half a period later.
        period_s: Length of a day; shorter than a real one to see one in a test, seconds.
        spacing: Whether arrivals are Poisson at each moment (random), or as even as the rate
            allows.
    """

    low_hz: RateOrNone
    high_hz: Rate
    period_s: Seconds = 86_400.0
    spacing: Spacing = "random"

    @property
    def length_s(self) -> float:
        """Length of a day, seconds."""
        return self.period_s

    def due_s(self, seed: int, until_s: float) -> Times:
        """Times that a seed always draws alike."""
        mean, half = (self.low_hz + self.high_hz) / 2, (self.high_hz - self.low_hz) / 2
        turn = 2 * math.pi / self.period_s
        at_s = np.linspace(0.0, self.period_s, CURVE_POINTS)
        counts = mean * at_s - half / turn * np.sin(turn * at_s)
        return _periodic(at_s, counts, until_s, seed, self.spacing)

    def words(self) -> str:
        """The law in a few words."""
        return f"diurnal, {self.low_hz:.4g} to {self.high_hz:.4g}/s in {self.period_s:.4g} s"


Law = ConstantRate | Poisson | Ramp | Steps | Bursts | Diurnal
Arrivals = ClosedLoop | OpenLoop

# Laws of one number: a mean rate, for a search and for a contract.
LAWS_BY_RATE: dict[str, Callable[[float], Law]] = {
    "poisson": Poisson,
    "constant": ConstantRate,
    # Twice the rate for a second, none for the next.
    "bursts": lambda rate_hz: Bursts(on_hz=2 * rate_hz),
}


def _check_count(expected: float) -> None:
    if expected > MOST_REQUESTS:
        raise InvalidConfig(
            f"the schedule would have {expected:.3g} requests, and at most {MOST_REQUESTS:,} are "
            "kept in memory",
            hint="a lower rate, or a shorter time",
        )


def _counted(until: float, seed: int, spacing: Spacing) -> Times:
    """Arrivals of rate 1 in ``[0, until)``: Poisson, or 0, 1, 2, ..."""
    _check_count(until)
    if spacing == "even":
        return np.arange(math.ceil(until - 1e-9), dtype=np.float64)
    draw = np.random.default_rng(seed)
    parts: list[Times] = []
    last = 0.0
    while last < until:
        # Blocks of one size: a longer load draws the same numbers first.
        parts.append(last + np.cumsum(draw.exponential(size=4096)))
        last = float(parts[-1][-1])
    times = np.concatenate(parts) if parts else np.empty(0)
    return times[times < until]


def _straight(
    edges_s: Times, counts: Times, last_hz: float, until_s: float, seed: int, spacing: Spacing
) -> Times:
    """Arrivals of a rate that is constant between edges, by its expected counts at the edges.

    Args:
        edges_s: Times from 0 on.
        counts: Expected counts of requests until these times.
        last_hz: Rate after the last edge.
        until_s: End of the load.
        seed: Seed of the arrivals.
        spacing: Whether they are random.
    """
    if until_s > edges_s[-1]:
        counts = np.append(counts, counts[-1] + last_hz * (until_s - edges_s[-1]))
        edges_s = np.append(edges_s, until_s)
    whole = float(np.interp(until_s, edges_s, counts))
    arrivals = _counted(whole, seed, spacing)
    # Where the rate is 0 several times have one count, and `np.interp` takes the last of them: an
    # evenly spaced arrival that falls on such a count comes with the next burst.
    due_s = np.interp(arrivals, counts, edges_s)
    return due_s[due_s < until_s]


def _periodic(edges_s: Times, counts: Times, until_s: float, seed: int, spacing: Spacing) -> Times:
    """Arrivals of a rate that repeats itself, by its expected counts at the edges of one period.

    That period alone is inverted: its curve is as exact, and takes as little memory, in a load of
    a million of them.
    """
    period_s, each = float(edges_s[-1]), float(counts[-1])
    turns, rest_s = divmod(until_s, period_s)
    arrivals = _counted(turns * each + float(np.interp(rest_s, edges_s, counts)), seed, spacing)
    turn, rest = np.divmod(arrivals, each)
    due_s = turn * period_s + np.interp(rest, counts, edges_s)
    # Rounding: the end of one period may lie behind the begin of the next one.
    due_s = np.maximum.accumulate(due_s)
    return due_s[due_s < until_s]
