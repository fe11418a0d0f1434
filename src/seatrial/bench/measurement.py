"""From a recording to a measurement: one load and its figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from seatrial.load.samples import Sample
from seatrial.load.statistics import (
    Latency,
    LatencyHistogram,
    RateInterval,
    histogram,
    latency,
    rate_interval,
    rate_per_s,
)
from seatrial.load.usage import Usage
from seatrial.load.window import Load, Recording

TOTAL = "total"


class Stages(msgspec.Struct, frozen=True):
    """Where the time of good answers went, means in milliseconds.

    Attributes:
        samples: Number of good answers that carried stage times.
        mean_ms: Mean time of every stage that the service names, in its order, without the total.
        other_ms: Total less the stages.
        total_ms: Total by the service's own clock.
        latency_ms: Time from the send to the last byte of the same requests, by the client's clock.
        transport_ms: `latency_ms` less `total_ms`: network, HTTP on both sides, waiting for a
            core on either.
    """

    samples: int
    mean_ms: dict[str, float]
    other_ms: float
    total_ms: float
    latency_ms: float
    transport_ms: float


class Measurement(msgspec.Struct, frozen=True):
    """One load and its figures.

    Attributes:
        sessions: Most requests under way at a time; 0 in an open loop.
        window_s: Length of the measured window.
        ended: What closed the window: `time` or `requests`.
        warmup_requests: Number of requests before the window; they count nowhere.
        finished: Number of requests that ended within the window, good or not.
        answered: Number of finished requests with an HTTP answer of any status.
        good: Number of answered requests with a 2xx status.
        in_time: Number of good requests within the latency limit; `good` without a limit.
        failed: Number of finished requests that are not good, and of requests under way at the
            window's end that never got an answer: a service that hangs would have no failures
            otherwise.
        unfinished: Number of requests under way at the window's end that were answered; they
            count nowhere, as the ones under way at its begin count in full.
        errors: Number of failures by kind.
        throughput_per_s: `answered` over `window_s`.
        goodput_per_s: `in_time` over `window_s`.
        goodput_interval: Interval of the goodput; None in reports from before it was measured.
        in_flight: Mean number of requests under way over the window. Equals `sessions` if the
            sessions lost no time between their requests.
        latency: Latencies, from the due time where there is one, else from the send.
    """

    sessions: int
    window_s: float
    ended: str
    warmup_requests: int
    finished: int
    answered: int
    good: int
    in_time: int
    failed: int
    unfinished: int
    errors: dict[str, int]
    throughput_per_s: float
    goodput_per_s: float
    in_flight: float
    detections_mean: float | None
    received_bytes_mean: float | None
    latency: Latency
    histogram: LatencyHistogram | None
    stages: Stages | None
    usage: Usage
    goodput_interval: RateInterval | None = None


def summarise(
    load: Load, recording: Recording, usage: Usage, latency_limit_ms: float | None
) -> Measurement:
    """The figures of a recording; see `Measurement` for what counts where."""
    window_s = (recording.close_ns - recording.open_ns) / 1e9
    finished = recording.samples
    good = [sample for sample in finished if not sample.error]
    late_failures = [sample for sample in recording.stragglers if not sample.status]
    bad = [sample for sample in finished if sample.error] + late_failures
    good_ms = [sample.latency_ms for sample in good]
    answered = sum(1 for sample in finished if sample.status)
    limit = float("inf") if latency_limit_ms is None else latency_limit_ms
    in_time_ns = [sample.end_ns for sample in good if sample.latency_ms <= limit]
    in_time = len(in_time_ns)
    return Measurement(
        sessions=load.sessions,
        window_s=window_s,
        ended=recording.ended,
        warmup_requests=recording.warmup_requests,
        finished=len(finished),
        answered=answered,
        good=len(good),
        in_time=in_time,
        failed=len(bad),
        unfinished=len(recording.stragglers) - len(late_failures),
        errors=dict(sorted(Counter(sample.error for sample in bad).items())),
        throughput_per_s=rate_per_s(answered, window_s),
        goodput_per_s=rate_per_s(in_time, window_s),
        in_flight=_in_flight(recording),
        detections_mean=_mean(s.detections for s in good if s.detections is not None),
        received_bytes_mean=_mean(s.received_bytes for s in good),
        latency=latency(good_ms, len(bad)),
        histogram=histogram(good_ms),
        stages=_stages(good),
        usage=usage,
        goodput_interval=rate_interval(in_time_ns, recording.open_ns, recording.close_ns),
    )


def _in_flight(recording: Recording) -> float:
    """Little's N, counted: throughput x latency would err by the requests cut by the window."""
    begin, end = recording.open_ns, recording.close_ns
    inside = (
        min(sample.end_ns, end) - max(sample.start_ns, begin)
        for sample in (*recording.samples, *recording.stragglers)
    )
    return sum(ns for ns in inside if ns > 0) / (end - begin) if end > begin else 0.0


def _mean(values: Iterable[int]) -> float | None:
    counted = list(values)
    return statistics.fmean(counted) if counted else None


def _stages(good: Sequence[Sample]) -> Stages | None:
    timed = [(s.service_ms, s.timing_ms) for s in good if s.timing_ms and TOTAL in s.timing_ms]
    if not timed:
        return None
    names = list(dict.fromkeys(name for _, timing in timed for name in timing if name != TOTAL))
    mean_ms = {name: statistics.fmean(t.get(name, 0.0) for _, t in timed) for name in names}
    total_ms = statistics.fmean(timing[TOTAL] for _, timing in timed)
    latency_ms = statistics.fmean(value for value, _ in timed)
    return Stages(
        samples=len(timed),
        mean_ms=mean_ms,
        # Clocks are rounded on the wire: a sum slightly over the total is not a negative time.
        other_ms=max(0.0, total_ms - sum(mean_ms.values())),
        total_ms=total_ms,
        latency_ms=latency_ms,
        transport_ms=max(0.0, latency_ms - total_ms),
    )
