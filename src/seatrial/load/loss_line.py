"""Shares of late requests: is a trial clearly within what is allowed, and where lies the limit?

Late requests come in bursts: in a long queue all are late. A count of them is taken to be a sum of
bursts, whose number is Poisson and whose sizes are exponential; that is the Tweedie distribution
with variance proportional to mean^1.5 (Jorgensen, Exponential dispersion models, Journal of the
Royal Statistical Society B 49, 1987). In simulated M/M/1 and M/D/1 the variance of counts grows
with that power, as bursts are longer at higher rates.

Near the limit the logarithm of the share is a straight line over the rate: exactly so in M/M/1, and
nearly in other queues. What trials say of its crossing with the allowed share, of its slope and of
the size of bursts is computed on a grid, with weak prior knowledge of the last two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Weights of trials fall with the distance from the crossing as a normal distribution's, of this
# deviation: the first one, and in the end the way on which the share grows by e^SPAN.
FIRST_REACH, LEAST_REACH, SPAN = 0.25, 0.02, 1.5
LEAST_WEIGHT = 0.02
# Of a service with no capacity left nearly all requests are late: the share grows no more. Beyond
# so much, or three times the allowed share, or half the way from it to 1, a rate is left out.
MOST_SHARE = 0.3
# Slopes that are usual, as medians and deviations of the logarithm. A queue with one place, at a
# bound of 5 to 20 service times, has slopes of 5 to 30.
SLOPE, SLOPE_DEVIATION = 8.0, 0.55
# The same of variance over mean of counts of late requests, where the share is the allowed one and
# that is 1 %; of others see `usual_dispersion`.
DISPERSION, DISPERSION_DEVIATION = 10.0, 0.8
SLOPES = np.geomspace(1.0, 150.0, 21)
DISPERSIONS = np.geomspace(1.5, 200.0, 11)
# Distances from the middle, as shares of it: close together near it.
DISTANCES = 0.7 * np.sinh(6 * np.linspace(-1, 1, 121)) / math.sinh(6)
# Logarithms of the share over the allowed one that are equally probable above a jump.
JUMPED = np.linspace(1.1, 4.6, 36)
# Prior probability of a jump, and the number of places at which one is looked for in detail.
JUMP, PLACES = 0.3, 3
# A part of a trial with more late requests than bursts explain, but in one of so many parts, counts
# with as many as they do: a stall of the machine is no burst.
STALL = 1e-4
# Probability of a wrong verdict on one rate, one-sided. It is small, as many rates are judged.
MISJUDGED = 0.002


class LossLine(msgspec.Struct, frozen=True):
    """The logarithm of the share of late requests over the rate: a straight line, maybe cut short.

    Attributes:
        rates_hz: Rates at which the share may pass the allowed one, ascending.
        below: Probability that it is so at each of them or below.
        slope: Growth of the logarithm as the rate grows by its own size.
        dispersion: Variance over mean of counts of late requests, at the allowed share.
        events: Late requests that the line rests on, in bursts.
        jump: Probability that the share jumps at one of the rates.
        jump_hz: The two rates between which it does most probably; the same twice where no place
            is possible.
    """

    rates_hz: Floats
    below: Floats
    slope: float
    dispersion: float
    events: float
    jump: float
    jump_hz: tuple[float, float]

    def crossing(self, confidence: float) -> tuple[float, float, float]:
        """Lower end, median and upper end of the rate at which the share passes the allowed one."""
        wanted = ((1 - confidence) / 2, 0.5, (1 + confidence) / 2)
        low, middle, high = np.interp(wanted, self.below, self.rates_hz)
        return float(low), float(middle), float(high)


def fit_line(
    rows: Sequence[tuple[float, int, float]], middle_hz: float, allowed: float
) -> LossLine | None:
    """Fit a line to parts of trials.

    Args:
        rows: Rate, requests and late requests of each part.
        middle_hz: Middle of the rates that matter.
        allowed: Share of the requests that may be late.

    Returns:
        The line; None where no part is near, or none has late requests.
    """
    rows = sorted(row for row in rows if row[1])
    if not rows:
        return None
    rate, offered, bad = np.array(rows, float).T
    shares = {r: bad[rate == r].sum() / offered[rate == r].sum() for r in np.unique(rate)}
    most = max(MOST_SHARE, min(3 * allowed, (1 + allowed) / 2))
    keep = np.array([shares[r] < most for r in rate])
    rate, due, bad = rate[keep], allowed * offered[keep], bad[keep]
    found, reach = None, FIRST_REACH
    for _ in range(3):  # nearer each time: the line is straight on a short way alone
        weights = np.exp(-0.5 * ((rate / middle_hz - 1.0) / reach) ** 2)
        used = weights > LEAST_WEIGHT
        if not bad[used].any():
            return found
        near = _Near(rate[used] / middle_hz - 1.0, due[used], bad[used], weights[used], allowed)
        found = near.line(middle_hz)
        middle_hz = found.crossing(0.5)[1]
        reach = min(max(SPAN / found.slope, LEAST_REACH), FIRST_REACH)
    return found


class _Near:
    """Parts of trials near a middle, and what they say of the crossing.

    With ``z = slope * (at - crossing)`` a part has ``2 * due * exp(z / 2) / dispersion`` bursts of
    ``dispersion * exp(z / 2) / 2`` requests in the mean. The logarithm of its probability is then
    ``-2 * (due * exp(z / 2) + bad * exp(-z / 2)) / dispersion``, and what depends on the dispersion
    alone.
    """

    def __init__(
        self, at: Floats, due: Floats, bad: Floats, weights: Floats, allowed: float
    ) -> None:
        """Sum the parts of each rate.

        Args:
            at: Distance of the rate from the middle, as a share of it, ascending, (N,).
            due: Late requests that are allowed, (N,).
            bad: Late requests, (N,).
            weights: Weight of each part, (N,).
            allowed: Share of the requests that may be late.
        """
        from scipy.special import ive

        self.dispersions = DISPERSIONS * usual_dispersion(allowed) / DISPERSION  # (D,)
        self.jumped = JUMPED[math.log(1 / allowed) >= JUMPED]
        self.at, first = np.unique(at, return_index=True)  # (R,)
        self.due = np.add.reduceat(weights * due, first)
        self.bad = np.add.reduceat(weights * bad, first)
        half = SLOPES / 2
        # Of the rates up to each, for each slope: (R, S).
        self.over = np.cumsum(self.due[:, None] * np.exp(self.at[:, None] * half), axis=0)
        self.under = np.cumsum(self.bad[:, None] * np.exp(-self.at[:, None] * half), axis=0)
        some = bad > 0
        roots = 4 * np.sqrt(due[some] * bad[some]) / self.dispersions[:, None]
        sizes = (np.log(ive(1, roots)) + roots - np.log(self.dispersions)[:, None]) @ weights[some]
        usual = (np.log(DISPERSIONS / DISPERSION) / DISPERSION_DEVIATION) ** 2
        slopes = (np.log(SLOPES / SLOPE) / SLOPE_DEVIATION) ** 2
        self.prior = (sizes - usual / 2)[:, None] - slopes / 2  # (D, S)

    def line(self, middle_hz: float) -> LossLine:
        """The line, with and without a jump."""
        whole = self._crossings(len(self.at) - 1)  # (D, S, C)
        places = self._places() if self.jumped.size else []
        cut = [self._crossings(n) + self._above(n)[:, None, None] for n in places]
        logs = [whole + math.log(1 - JUMP)]
        logs += [one + math.log(JUMP * self._width(n)) for n, one in zip(places, cut, strict=True)]
        top = max(float(one.max()) for one in logs)
        p = [np.exp(one - top) for one in logs]
        total = sum(float(one.sum()) for one in p)
        masses = p[0].sum(axis=(0, 1))
        for place, one in zip(places, p[1:], strict=True):
            masses = masses + self._cut_short(one.sum(axis=(0, 1)), place)
        masses /= total
        each = [float(one.sum()) / total for one in p]
        both = np.sum(p, axis=0) / total
        best = places[int(np.argmax(each[1:]))] if places else None
        ends = (0.0, 0.0) if best is None else (self.at[best], self.at[best + 1])
        dispersion = math.exp(float(both.sum(axis=(1, 2)) @ np.log(self.dispersions)))
        return LossLine(
            rates_hz=middle_hz * (1 + DISTANCES),
            below=np.cumsum(masses) - masses / 2,
            slope=math.exp(float(both.sum(axis=(0, 2)) @ np.log(SLOPES))),
            dispersion=dispersion,
            events=float(self.bad.sum()) / dispersion,
            jump=sum(each[1:]),
            jump_hz=(middle_hz * (1 + float(ends[0])), middle_hz * (1 + float(ends[1]))),
        )

    def _width(self, place: int) -> float:
        """Way from a rate to the next, as a share of the whole: a jump is as probable anywhere."""
        return float((self.at[place + 1] - self.at[place]) / (self.at[-1] - self.at[0]))

    def _crossings(self, last: int) -> NDArray[np.float64]:
        """Log probability of each dispersion, slope and crossing, by the rates up to one."""
        ways = np.outer(SLOPES / 2, DISTANCES)
        over, under = self.over[last][:, None], self.under[last][:, None]
        cost = 2 * (over * np.exp(-ways) + under * np.exp(ways))  # (S, C)
        steps = np.log(np.gradient(DISTANCES) / (DISTANCES[-1] - DISTANCES[0]))
        found = self.prior[:, :, None] - cost / self.dispersions[:, None, None] + steps
        return np.asarray(found, np.float64)

    def _above(self, last: int) -> Floats:
        """Log probability of the rates above one, by dispersion: each has any share beyond."""
        due, bad = self.due[last + 1 :, None], self.bad[last + 1 :, None]
        cost = 2 * (due * np.exp(self.jumped / 2) + bad * np.exp(-self.jumped / 2))  # (R, J)
        least = cost.min(axis=1, keepdims=True)  # as exp() of the whole is 0 for small dispersions
        each = np.exp((least - cost) / self.dispersions[:, None, None]).mean(axis=2)
        logs = np.log(each) - least[:, 0] / self.dispersions[:, None]
        return np.asarray(logs.sum(axis=1), np.float64)

    def _places(self) -> list[int]:
        """Rates after which a jump is most probable.

        The crossing is integrated in closed form, to a Bessel function.
        """
        from scipy.special import k0e

        scores = []
        for last in range(len(self.at) - 1):
            roots = np.sqrt(self.over[last] * np.maximum(self.under[last], 1e-3))
            roots = 4 * roots / self.dispersions[:, None]
            line = self.prior + np.log(k0e(roots) / SLOPES) - roots + self._above(last)[:, None]
            score = float(np.logaddexp.reduce(line, axis=None))
            scores.append(score + math.log(self._width(last)))
        return sorted(np.argsort(scores)[::-1][:PLACES].tolist())

    def _cut_short(self, masses: Floats, place: int) -> Floats:
        """Probabilities of crossings, those beyond a jump spread over the gap in which it is."""
        low, high = self.at[place], self.at[place + 1]
        found = np.where(low >= DISTANCES, masses, 0.0)
        edges = np.concatenate([[-1.0], (DISTANCES[1:] + DISTANCES[:-1]) / 2, [1.0]])
        inside = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0.0, None)
        return np.asarray(found + masses[low < DISTANCES].sum() * inside / inside.sum(), np.float64)


def usual_dispersion(allowed: float) -> float:
    """Variance over mean of counts of late requests that is usual at an allowed share."""
    return DISPERSION * math.sqrt(allowed / 0.01)


def without_stalls(
    rows: Sequence[tuple[float, int, int]], allowed: float, dispersion: float
) -> list[tuple[float, int, float]]:
    """Parts of trials, with at most as many late requests as bursts explain.

    The share that a part should have is that of the other parts at its rate. The bound is
    Chernoff's for a Poisson number of exponential bursts.

    Args:
        rows: Rate, requests and late requests of each part.
        allowed: Share of the requests that may be late.
        dispersion: Variance over mean of counts of late requests, at the allowed share.
    """
    by_rate: dict[float, list[tuple[float, int, int]]] = {}
    for row in rows:
        by_rate.setdefault(row[0], []).append(row)
    found = []
    for same in by_rate.values():
        offered, late = sum(row[1] for row in same), sum(row[2] for row in same)
        for rate_hz, count, bad in same:
            share = (late - bad) / (offered - count) if offered > count else 1.0
            root = math.sqrt(max(share, allowed) / allowed)
            bursts, size = 2 * allowed * count * root / dispersion, dispersion * root / 2
            most = size * (math.sqrt(bursts) + math.sqrt(-math.log(STALL))) ** 2
            found.append((rate_hz, count, min(float(bad), most)))
    return found


def loss_verdict(offered: int, bad: float, allowed: float, dispersion: float) -> str:
    """Whether the trials of one rate clearly hold (good), clearly do not (bad), or neither (open).

    Args:
        offered: Requests of all trials.
        bad: Those of them that were late or failed.
        allowed: Share of the requests that may be late.
        dispersion: Variance over mean of counts of late requests.
    """
    from scipy.special import gammaincinv  # half of the quantiles of chi-square

    events, expected = bad / dispersion, allowed * offered / dispersion
    high = float(gammaincinv(events + 1, 1 - MISJUDGED))
    low = float(gammaincinv(events, MISJUDGED)) if events else 0.0
    if high <= expected:
        return "good"
    return "bad" if low >= expected else "open"
