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
# Of a service with no capacity left nearly all requests are late: the share grows no more.
MOST_SHARE = 0.3
# Slopes that are usual, as medians and deviations of the logarithm. A queue with one place, at a
# bound of 5 to 20 service times, has slopes of 5 to 30.
SLOPE, SLOPE_DEVIATION = 8.0, 0.55
# The same of variance over mean of counts of late requests, where the share is the allowed one.
DISPERSION, DISPERSION_DEVIATION = 10.0, 0.8
SLOPES = np.geomspace(1.0, 150.0, 25)
DISPERSIONS = np.geomspace(1.5, 200.0, 13)
# Distances from the middle, as shares of it: close together near it.
DISTANCES = 0.7 * np.sinh(6 * np.linspace(-1, 1, 161)) / math.sinh(6)
# Probability of a wrong verdict on one rate, one-sided. It is small, as many rates are judged.
MISJUDGED = 0.002


class LossLine(msgspec.Struct, frozen=True):
    """The logarithm of the share of late requests over the rate, as a straight line.

    Attributes:
        rates_hz: Rates at which the share may be the allowed one, ascending.
        below: Probability that it is so at each of them or below.
        slope: Growth of the logarithm as the rate grows by its own size.
        dispersion: Variance over mean of counts of late requests, at the allowed share.
        events: Late requests that the line rests on, in bursts.
    """

    rates_hz: Floats
    below: Floats
    slope: float
    dispersion: float
    events: float

    def crossing(self, confidence: float) -> tuple[float, float, float]:
        """Lower end, median and upper end of the rate at which the share is the allowed one."""
        wanted = ((1 - confidence) / 2, 0.5, (1 + confidence) / 2)
        low, middle, high = np.interp(wanted, self.below, self.rates_hz)
        return float(low), float(middle), float(high)


def fit_line(
    rows: Sequence[tuple[float, int, int]], middle_hz: float, allowed: float
) -> LossLine | None:
    """Fit a line to parts of trials.

    Args:
        rows: Rate, requests and late requests of each part.
        middle_hz: Middle of the rates that matter.
        allowed: Share of the requests that may be late.

    Returns:
        The line; None where no part is near, or none has late requests.
    """
    if not rows:
        return None
    rate, offered, bad = np.array([row for row in rows if row[1]], float).T
    shares = {r: bad[rate == r].sum() / offered[rate == r].sum() for r in np.unique(rate)}
    keep = np.array([shares[r] < max(MOST_SHARE, 2 * allowed) for r in rate])
    rate, offered, bad = rate[keep], offered[keep], bad[keep]
    found, reach = None, FIRST_REACH
    for _ in range(3):  # nearer each time: the line is straight on a short way alone
        weights = np.exp(-0.5 * ((rate / middle_hz - 1.0) / reach) ** 2)
        used = weights > LEAST_WEIGHT
        if not bad[used].any():
            return found
        found = _fitted(
            rate[used] / middle_hz - 1.0, allowed * offered[used], bad[used], weights[used],
            middle_hz,
        )  # fmt: skip
        middle_hz = found.crossing(0.5)[1]
        reach = min(max(SPAN / found.slope, LEAST_REACH), FIRST_REACH)
    return found


def _fitted(at: Floats, due: Floats, bad: Floats, weights: Floats, middle_hz: float) -> LossLine:
    """What parts say of the crossing.

    With ``z = slope * (at - crossing)`` a part has ``2 * due * exp(z / 2) / dispersion`` bursts of
    ``dispersion * exp(z / 2) / 2`` requests in the mean.

    Args:
        at: Distance of the rate from the middle, as a share of it, (N,).
        due: Late requests that are allowed, (N,).
        bad: Late requests, (N,).
        weights: Weight of each part, (N,).
        middle_hz: The middle.
    """
    from scipy.special import ive

    half = SLOPES / 2
    over = (weights * due) @ np.exp(at[:, None] * half)  # (S,)
    under = (weights * bad) @ np.exp(-at[:, None] * half)
    ways = np.outer(half, DISTANCES)
    cost = 2 * (over[:, None] * np.exp(-ways) + under[:, None] * np.exp(ways))  # (S, C)
    some = bad > 0
    roots = 4 * np.sqrt(due[some] * bad[some]) / DISPERSIONS[:, None]
    # Density of a sum of bursts, without what all dispersions share.
    sizes = (np.log(ive(1, roots)) + roots - np.log(DISPERSIONS)[:, None]) @ weights[some]
    usual = ((np.log(DISPERSIONS / DISPERSION)) / DISPERSION_DEVIATION) ** 2
    slopes = (np.log(SLOPES / SLOPE) / SLOPE_DEVIATION) ** 2
    log_p = (sizes - usual / 2)[:, None, None] - cost / DISPERSIONS[:, None, None]
    log_p = log_p - slopes[:, None] / 2 + np.log(np.gradient(DISTANCES))
    p = np.exp(log_p - log_p.max())  # (D, S, C)
    p /= p.sum()
    masses = p.sum(axis=(0, 1))
    dispersion = math.exp(float(p.sum(axis=(1, 2)) @ np.log(DISPERSIONS)))
    return LossLine(
        rates_hz=middle_hz * (1 + DISTANCES),
        below=np.cumsum(masses) - masses / 2,
        slope=math.exp(float(p.sum(axis=(0, 2)) @ np.log(SLOPES))),
        dispersion=dispersion,
        events=float(weights @ bad) / dispersion,
    )


def loss_verdict(offered: int, bad: int, allowed: float, dispersion: float) -> str:
    """Whether the trials of one rate clearly hold (good), clearly do not (bad), or neither (open).

    Args:
        offered: Requests of all trials.
        bad: Those of them that were late or failed.
        allowed: Share of the requests that may be late.
        dispersion: Variance over mean of counts of late requests.
    """
    from scipy.stats import chi2

    events, expected = bad / dispersion, allowed * offered / dispersion
    high = float(chi2.ppf(1 - MISJUDGED, 2 * events + 2)) / 2
    low = float(chi2.ppf(MISJUDGED, 2 * events)) / 2 if events else 0.0
    if high <= expected:
        return "good"
    return "bad" if low >= expected else "open"
