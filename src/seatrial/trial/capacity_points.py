"""Measured points of a machine, the shape of its service times and its lanes, from a report."""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.bench.measurement import Measurement
from seatrial.bench.report_data import BenchReport
from seatrial.errors import InvalidInput
from seatrial.load.statistics import LatencyHistogram
from seatrial.report.numbers import percent

# Arrival laws of points that the queue is fitted to: those with one rate all the time.
STEADY = ("poisson", "constant")
MOST_FAILED = 0.01  # share of the requests of such a point
SHAPE_POINTS = 400
MOST_LANES = 4_096  # that are simulated


class CurvePoint(msgspec.Struct, frozen=True):
    """Measured latencies of one machine under one load.

    Attributes:
        rate_hz: Offered rate of an open loop; None in a closed loop.
        sessions: Requests under way at a time in a closed loop; 0 in an open loop.
        count: Number of requests that the percentiles are of.
        percentiles_ms: Percentiles by name; those that the sample carries.
        arrivals: Name of the arrival law of an open loop.
    """

    rate_hz: float | None
    sessions: int
    count: int
    percentiles_ms: dict[str, float]
    arrivals: str = "poisson"

    @property
    def words(self) -> str:
        """The load in a few words."""
        if self.rate_hz is None:
            return f"closed loop, {self.sessions}"
        return f"{self.rate_hz:.4g}/s"

    @property
    def served_hz(self) -> float:
        """Rate that the machine served: as offered, or of a closed loop by its median latency."""
        if self.rate_hz is not None:
            return self.rate_hz
        return 1e3 * self.sessions / next(iter(self.percentiles_ms.values()))


def curve_of(report: BenchReport) -> list[CurvePoint]:
    """The points of a report that say something of its machine.

    Raises:
        InvalidInput: There are none.
    """
    points = [made for run in report.runs for one in run.points if (made := _point(one))]
    if not points:
        raise InvalidInput(
            "the report has no point to plan from"
            + "".join(f"; {one}" for one in left_out(report)),
            hint="measure lower rates, and longer: p50 takes 11 requests, p99 takes 662",
        )
    return points


def shape_of(report: BenchReport) -> tuple[float, ...]:
    """Shape of the service times: those of lone requests, normal where there are too few."""
    alone = [
        point.histogram
        for run in report.runs
        for point in run.points
        if point.sessions == 1 and point.histogram is not None and point.good >= SHAPE_POINTS
    ]
    return empirical_shape(alone[0]) if alone else normal_shape()


def lanes_of(report: BenchReport) -> int | None:
    """Number of lanes that the service says it has; None where it says nothing.

    Raises:
        InvalidInput: It says that it has more than `MOST_LANES`.
    """
    layout = (report.model or {}).get("layout")
    if not isinstance(layout, dict):
        return None
    counts = [layout.get(key, 1) for key in ("workers", "instances")]
    known = all(isinstance(count, int) and count > 0 for count in counts)
    if not known:
        return None
    lanes: int = math.prod(counts)
    if lanes > MOST_LANES:
        raise InvalidInput(
            f"the report says that its service has {lanes} lanes (workers x instances)",
            hint=f"say how many it has: --lanes, {MOST_LANES} at most",
        )
    return lanes


def normal_shape() -> tuple[float, ...]:
    """Shape of a log-normal distribution."""
    ranks = (np.arange(SHAPE_POINTS) + 0.5) / SHAPE_POINTS
    return _standard(np.array([NormalDist().inv_cdf(rank) for rank in ranks]))


def empirical_shape(measured: LatencyHistogram) -> tuple[float, ...]:
    """Shape of measured times; the few beyond the last edge are taken to be at that edge."""
    edges = np.array(measured.edges_ms)
    counts = np.concatenate([[0.0], np.cumsum(measured.counts)])
    total = counts[-1] + measured.over
    ranks = (np.arange(SHAPE_POINTS) + 0.5) / SHAPE_POINTS * total
    return _standard(np.log(np.interp(ranks, counts, edges)))


def left_out(report: BenchReport) -> list[str]:
    """Points that the queue is not fitted to, each with the reason."""
    return [
        f"{run.scenario}, {point.load}, was left out: {reason}"
        for run in report.runs
        for point in run.points
        if (reason := _unfit(point))
    ]


def refused_from_hz(report: BenchReport) -> float | None:
    """Lowest measured rate from which on requests failed at every rate; None where they did not."""
    rates = sorted(
        (point.generator.offered_per_s, _failed(point) > MOST_FAILED)
        for run in report.runs
        for point in run.points
        if point.generator is not None and not point.void
    )
    found = None
    for rate_hz, refused in reversed(rates):
        if not refused:
            break
        found = rate_hz
    return found


def _failed(measured: Measurement) -> float:
    """Share of the requests that failed."""
    return measured.failed / max(1, measured.latency.count + measured.latency.failed)


def _point(measured: Measurement) -> CurvePoint | None:
    """A measured point as the queue can be fitted to it; None where it cannot."""
    if _unfit(measured):
        return None
    known = {
        name: found.value_ms
        for name, found in measured.latency.percentiles.items()
        if found.value_ms is not None
    }
    count = measured.latency.count + measured.latency.failed
    if measured.generator is None:
        return CurvePoint(None, measured.sessions, count, known)
    return CurvePoint(measured.generator.offered_per_s, 0, count, known, _law(measured))


def _unfit(measured: Measurement) -> str:
    """Why a point says nothing of the queue; empty where it does."""
    if measured.void:
        return measured.void[0]
    if _failed(measured) > MOST_FAILED:  # those that are refused leave the others a shorter queue
        return f"{percent(_failed(measured))} of its requests failed"
    if measured.pause:  # fewer requests are under way than there are sessions
        return "its sessions pause between their requests"
    if measured.images_per_query > 1:
        return "its queries have several images"
    if measured.law and _law(measured) not in STEADY:
        return "its rate changes"
    known = (found.value_ms is not None for found in measured.latency.percentiles.values())
    return "" if any(known) else "it has too few requests for any percentile"


def _law(measured: Measurement) -> str:
    return measured.law.partition(",")[0].lower()


def _standard(logs: NDArray[np.float64]) -> tuple[float, ...]:
    deviation = float(logs.std())
    if deviation < 1e-9:
        return normal_shape()
    return tuple(((logs - logs.mean()) / deviation).tolist())
