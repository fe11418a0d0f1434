"""The analysis of open loops: whether a service kept up, and up to which rate."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from seatrial.bench.measurement import Measurement

# Share of the requests that may fail for other reasons than too many arrivals.
FEW_FAILED = 0.01
# Slices from which on a growing queue can be told; standard deviations by which it grows.
FEWEST_SLICES, GROWN = 6, 5.0


def is_overwhelmed(point: Measurement) -> bool:
    """Whether a service could not keep up with the arrivals of an open loop.

    It failed more than a few requests, or its queue grew.
    """
    return point.failed > FEW_FAILED * (point.good + point.failed) or queue_grows(point)


def queue_grows(point: Measurement) -> bool:
    """Whether the queue of a window grew.

    Twice as many requests were under way in its last third as in the first, and more than can be
    by chance.
    """
    if point.timeline is None or len(point.timeline.slices) < FEWEST_SLICES:
        return False
    third = len(point.timeline.slices) // 3
    first, last = (
        statistics.fmean(one.in_flight for one in part)
        for part in (point.timeline.slices[:third], point.timeline.slices[-third:])
    )
    return last > 2 * first and last - first > GROWN * max(1.0, first) ** 0.5


def follows(point: Measurement, share: float) -> bool:
    """Whether goodput and throughput of an open loop keep `share` of the offered rate."""
    if point.generator is None or queue_grows(point):
        return False
    kept = min(point.goodput_per_s, point.throughput_per_s)
    return kept >= share * point.generator.offered_per_s


def rate_knee(points: Sequence[Measurement], share: float) -> tuple[int | None, int | None]:
    """Find the highest offered rate below which the goodput of every one follows.

    Returns:
        Index of that point, and of the lowest rate that does not follow; None for what was not
        seen. Void points are left out. A rate that follows above one that does not is no knee: a
        service that held it once need not hold what is below (MLRsearch's lower bound).
    """
    rated = [
        (point.generator.offered_per_s, n)
        for n, point in enumerate(points)
        if point.generator is not None and not point.void
    ]
    if len(rated) < 2:
        return None, None
    ordered = [n for _, n in sorted(rated)]
    kept = list(itertools.takewhile(lambda n: follows(points[n], share), ordered))
    beyond = ordered[len(kept) :]
    return (kept[-1] if kept else None), (beyond[0] if beyond else None)


def rate_knees(
    runs: Sequence[tuple[str, Sequence[Measurement]]], share: float
) -> tuple[str | None, str | None]:
    """JSON pointers of what `rate_knee` finds in the first run in which it finds anything."""
    for n, (_, points) in enumerate(runs):
        found = rate_knee(points, share)
        if any(index is not None for index in found):
            at, beyond = (None if m is None else f"/runs/{n}/points/{m}" for m in found)
            return at, beyond
    return None, None
