"""Shares of late requests: is a trial clearly within what is allowed, and where lies the limit?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

# Trials within this factor of the middle of the bracket are taken for the line.
REACH = 1.6
# Weights fall with the distance from the middle as a normal distribution's, of this deviation: the
# first one, and in the end the way on which the share grows by a factor of e^SPAN.
FIRST_REACH, LEAST_REACH, SPAN = 0.25, 0.02, 1.2
MOST_SHARE = 0.3
# Probability of a wrong verdict on one rate, one-sided. It is small, as many rates are judged.
MISJUDGED = 0.002
# Losses come in bursts even where no part of a trial shows it.
LEAST_DISPERSION, FIRST_DISPERSION = 1.5, 8.0
FEWEST_PARTS = 12  # whose variance is trusted


class LossLine(msgspec.Struct, frozen=True):
    """The logarithm of the share of late requests over the rate, as a straight line.

    Attributes:
        middle_hz: Rate at which `level` is the logarithm of the share, less that of the allowed.
        level: See above.
        slope: Growth of the logarithm as the rate grows by its own size.
        variances: Variance of `level`, of `slope`, and their covariance.
        freedom: Degrees of freedom of the variances.
        events: Late requests that the line rests on, in bursts.
    """

    middle_hz: float
    level: float
    slope: float
    variances: tuple[float, float, float]
    freedom: int
    events: float

    def crossing(self, confidence: float) -> tuple[float, float, float] | None:
        """Lower end, estimate and upper end of the rate at which the share is the allowed one.

        The interval is Fieller's, of the ratio of two estimates; None where it has no end.
        """
        from scipy.stats import t as student

        # Few bursts have a variance that is known badly, however many parts they fell into.
        freedom = max(2.0, min(float(self.freedom), self.events - 2))
        quantile = float(student.ppf((1 + confidence) / 2, freedom))
        level_var, slope_var, both = self.variances
        # Of ratio r = -level / slope: level + r * slope is 0 in the mean.
        a = self.slope**2 - quantile**2 * slope_var
        if self.slope <= 0 or a <= 0:
            return None
        b = self.level * self.slope - quantile**2 * both
        c = self.level**2 - quantile**2 * level_var
        root = math.sqrt(max(0.0, b * b - a * c))
        ends = ((-b - root) / a, -self.level / self.slope, (-b + root) / a)
        low, middle, high = (self.middle_hz * (1 + end) for end in ends)
        return max(low, 0.0), max(middle, 0.0), max(high, 0.0)


def fit_line(
    rows: Sequence[tuple[float, int, int]], middle_hz: float, allowed: float
) -> LossLine | None:
    """Fit a line to parts of trials, by the quasi-likelihood of counts.

    Args:
        rows: Rate, requests and late requests of each part.
        middle_hz: Middle of the rates that matter.
        allowed: Share of the requests that may be late.

    Returns:
        The line; None where the parts do not show one.
    """
    near = np.array([row for row in rows if 1 / REACH <= row[0] / middle_hz <= REACH and row[1]])
    if not near.size:
        return None
    rate, offered, bad = near.T
    # Of a service with no capacity left nearly all are late: the share grows no more.
    shares = {r: bad[rate == r].sum() / offered[rate == r].sum() for r in np.unique(rate)}
    keep = np.array([shares[r] < MOST_SHARE for r in rate])
    rate, offered, bad = rate[keep], offered[keep], bad[keep]
    found, reach = None, FIRST_REACH
    for _ in range(3):  # nearer each time: the line is straight on a short way alone
        found = _fitted(rate / middle_hz - 1.0, offered, bad, allowed, reach, middle_hz)
        if found is None or found.slope <= 0:
            return found
        middle_hz *= 1 + min(max(-found.level / found.slope, -0.3), 0.3)
        reach = min(max(SPAN / found.slope, LEAST_REACH), FIRST_REACH)
    return found


def _fitted(
    at: NDArray[np.float64],
    offered: NDArray[np.float64],
    bad: NDArray[np.float64],
    allowed: float,
    reach: float,
    middle_hz: float,
) -> LossLine | None:
    """A line by iteratively reweighted least squares (McCullagh and Nelder, 2.5)."""
    weights = np.exp(-0.5 * (at / reach) ** 2)
    used = weights > 0.02
    freedom = int(weights.sum()) - 2
    if len(np.unique(at[used])) < 3 or bad[used].sum() < 5 or freedom < 2:
        return None
    at, offered, bad, weights = at[used], offered[used], bad[used], weights[used]
    design = np.stack([np.ones_like(at), at], axis=1)
    beta = np.array([math.log(bad.sum() / offered.sum() / allowed), 1.0 / reach])
    for _ in range(60):
        mean = offered * allowed * np.exp(np.clip(design @ beta, -20, 6))
        score = design.T @ (weights * (bad - mean))
        information = design.T @ (design * (weights * mean)[:, None]) + 1e-9 * np.eye(2)
        step = np.clip(np.linalg.solve(information, score), -1.0, 1.0)
        beta = beta + step
        if np.abs(step).max() < 1e-7:
            break
    mean = offered * allowed * np.exp(np.clip(design @ beta, -20, 6))
    pearson = float(np.sum(weights * (bad - mean) ** 2 / mean) / freedom)
    inverse = np.linalg.inv(information)
    # The larger of two estimates: by one dispersion for all, and by each residual itself (White,
    # 1980), as bursts are longer at higher rates.
    residuals = (weights * (bad - mean)) ** 2 * len(at) / max(1, len(at) - 2)
    each = inverse @ (design.T @ (design * residuals[:, None])) @ inverse
    inner = design.T @ (design * (weights**2 * mean)[:, None])
    same = max(LEAST_DISPERSION, pearson) * inverse @ inner @ inverse
    covariance = same if same[0, 0] >= each[0, 0] else each
    return LossLine(
        middle_hz=middle_hz,
        level=float(beta[0]),
        slope=float(beta[1]),
        variances=(float(covariance[0, 0]), float(covariance[1, 1]), float(covariance[0, 1])),
        freedom=freedom,
        events=float(np.sum(weights * bad)) / max(LEAST_DISPERSION, pearson),
    )


def dispersion_of(rows: Sequence[tuple[float, int, int]], allowed: float) -> float:
    """Variance of counts of late requests over their mean, where their share is near the allowed.

    In a long queue all are late, so losses come in bursts of tens; a trial without any says little
    then. Where nothing is known yet, bursts of `FIRST_DISPERSION` are assumed.
    """
    squares, freedom = 0.0, 0
    for rate in {row[0] for row in rows}:
        offered, bad = np.array([row[1:] for row in rows if row[0] == rate], float).T
        share = bad.sum() / max(offered.sum(), 1.0)
        if len(offered) > 1 and allowed / 4 <= share <= min(20 * allowed, MOST_SHARE):
            mean = offered * share
            squares += float(np.sum((bad - mean) ** 2 / np.maximum(mean, 1e-9)))
            freedom += len(offered) - 1
    if freedom < FEWEST_PARTS:
        return FIRST_DISPERSION
    return max(LEAST_DISPERSION, squares / freedom)


def loss_verdict(offered: int, bad: int, allowed: float, dispersion: float) -> str:
    """Whether the trials of one rate clearly hold (good), clearly do not (bad), or neither (open).

    Args:
        offered: Requests of all trials.
        bad: Those of them that were late or failed.
        allowed: Share of the requests that may be late.
        dispersion: See `dispersion_of`.
    """
    from scipy.stats import chi2

    events, expected = bad / dispersion, allowed * offered / dispersion
    high = float(chi2.ppf(1 - MISJUDGED, 2 * events + 2)) / 2
    low = float(chi2.ppf(MISJUDGED, 2 * events)) / 2 if events else 0.0
    if high <= expected:
        return "good"
    return "bad" if low >= expected else "open"
