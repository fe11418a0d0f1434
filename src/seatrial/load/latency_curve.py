"""Latencies of a window as a curve whose tail is kept in full, for a chart of 1 - fraction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

WHOLE_TAIL = 60  # largest latencies that are all kept
SPARSE = 130  # values kept of the others, closer to each other towards the tail


class LatencyCurve(msgspec.Struct, frozen=True):
    """Latencies by rank, thinned below the tail.

    The share of the requests that took at least `latency_ms[i]` is ``(count - ranks[i] + 1) /
    count``. Failed requests have the highest ranks and no latency: they got no good answer.

    Attributes:
        count: Number of requests, good and failed.
        failed: Number of those that failed.
        ranks: Ranks that were kept, ascending from 1, the fastest request.
        latency_ms: Latency of each rank, from the due time where there is one, else from the send.
        service_ms: Time from the send of each rank, in its own order; empty in a closed loop,
            where it is the latency.
    """

    count: int
    failed: int
    ranks: tuple[int, ...]
    latency_ms: tuple[float, ...]
    service_ms: tuple[float, ...] = ()


def latency_curve(
    latency_ms: Sequence[float], failed: int = 0, service_ms: Sequence[float] = ()
) -> LatencyCurve | None:
    """Sort and thin latencies; None without any.

    Args:
        latency_ms: Latencies of the good answers, milliseconds, in any order.
        failed: Number of requests without a good answer.
        service_ms: Times of the same answers from the send; empty: not told apart.
    """
    good = len(latency_ms)
    if not good:
        return None
    # By the number of good answers that took longer, which the logarithmic axis shows.
    slower = np.arange(min(good, WHOLE_TAIL))
    if good > WHOLE_TAIL:
        more = np.geomspace(WHOLE_TAIL, good - 1, SPARSE)
        slower = np.unique(np.concatenate([slower, np.round(more).astype(np.int64)]))
    ranks = good - slower[::-1]
    return LatencyCurve(
        count=good + failed,
        failed=failed,
        ranks=tuple(ranks.tolist()),
        latency_ms=_at(latency_ms, ranks.tolist()),
        service_ms=_at(service_ms, ranks.tolist()) if len(service_ms) else (),
    )


def _at(values: Sequence[float], ranks: Sequence[int]) -> tuple[float, ...]:
    ordered = sorted(values)
    return tuple(ordered[rank - 1] for rank in ranks)
