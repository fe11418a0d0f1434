"""From a recording to a measurement: one load and its figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from seatrial.load.arrivals import ClosedLoop
from seatrial.load.generator import GeneratorCheck, check_generator
from seatrial.load.latency_curve import LatencyCurve, latency_curve
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
from seatrial.load.timeline import Timeline, timeline
from seatrial.load.trend import Trend, trend
from seatrial.load.usage import MachineTrace, Usage
from seatrial.load.window import Load, Recording
from seatrial.report.numbers import sessions

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
        ended: What closed the window: `time`, `requests` or `interrupted`, by Ctrl-C.
        warmup_requests: Number of requests before the window; they count nowhere.
        finished: Number of requests that ended within the window, good or not; of an open loop
            those that were due in it.
        answered: Number of finished requests with an HTTP answer of any status.
        good: Number of answered requests with a 2xx status.
        in_time: Number of good requests within the latency limit; `good` without a limit.
        failed: Number of finished requests that are not good, and of requests under way at the
            window's end that never got an answer: a service that hangs would have no failures
            otherwise.
        unfinished: Number of requests under way at the window's end that were answered; they
            count nowhere, as the ones under way at its begin count in full.
        errors: Number of failures by kind.
        retried: Number of finished requests that were sent again on a new connection, as the
            service had closed the one that they were sent on; timed from the first send.
        throughput_per_s: Answers that came within the window, over `window_s`.
        goodput_per_s: `in_time` over `window_s`.
        goodput_interval: Interval of the goodput; None in reports from before it was measured.
        in_flight: Mean number of requests under way over the window. Equals `sessions` if the
            sessions lost no time between their requests.
        detections_mean: Mean number of detections of the good answers that say theirs.
        received_bytes_mean: Mean size of the good answers' bodies.
        latency: Latencies, from the due time where there is one, else from the send.
        histogram: The same latencies counted in bins; None without a good answer.
        stages: Where the time of good answers went; None where the service does not say.
        usage: CPU and memory of service, client and machine over the window.
        law: Arrival law in words; empty in a closed loop.
        pause: Pauses of the sessions of a closed loop in words; empty without any.
        images_per_query: Images of a query. Of several, each figure here is one of queries, a
            latency ends with the last answer, and a query fails if one of its images does.
        service: Latencies of an open loop from the send: what a tool reports that leaves out the
            time for which requests waited to be sent.
        generator: How well an open loop was generated; None in a closed loop.
        timeline: The window in slices; None in reports from before it was recorded.
        cdf: Latencies by rank, the tail in full; None without a good answer, and in reports from
            before it was recorded.
        trend: How latency and memory changed over the window; None for a window of few slices,
            and in reports from before it was measured.
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
    law: str = ""
    images_per_query: int = 1
    service: Latency | None = None
    generator: GeneratorCheck | None = None
    timeline: Timeline | None = None
    cdf: LatencyCurve | None = None
    trend: Trend | None = None
    pause: str = ""
    retried: int = 0

    @property
    def load(self) -> str:
        """The load in a few words: its sessions, images of a query, or arrival law."""
        if self.law:
            return self.law
        if self.images_per_query > 1:
            return f"{self.images_per_query} images a query"
        return ", ".join(filter(None, (sessions(self.sessions), self.pause)))

    @property
    def void(self) -> tuple[str, ...]:
        """Why the window says nothing about the service; empty where it does."""
        return () if self.generator is None else self.generator.void


def summarise(
    load: Load,
    recording: Recording,
    usage: Usage,
    latency_limit_ms: float | None,
    trace: MachineTrace | None = None,
) -> Measurement:
    """The figures of a recording; see `Measurement` for what counts where.

    Args:
        load: The load.
        recording: Its requests.
        usage: Use of the machine.
        latency_limit_ms: Latency above which an answer does not count as goodput.
        trace: The machine over the time of the load.
    """
    window_s = (recording.close_ns - recording.open_ns) / 1e9
    finished = recording.samples
    good = [sample for sample in finished if not sample.error]
    late_failures = [sample for sample in recording.stragglers if not sample.status]
    bad = [sample for sample in finished if sample.error] + late_failures
    good_ms = [sample.latency_ms for sample in good]
    answered = sum(1 for sample in finished if sample.status)
    limit = float("inf") if latency_limit_ms is None else latency_limit_ms
    in_time = [sample for sample in good if sample.latency_ms <= limit]
    law = load.arrivals
    closed = isinstance(law, ClosedLoop)
    # By the time at which a request counts: its end, or in an open loop the time when it was due.
    at_ns = [sample.end_ns if sample.due_ns is None else sample.due_ns for sample in in_time]
    came = answered
    if not closed:
        came = sum(bool(s.status) and s.end_ns < recording.close_ns for s in finished)
        came += recording.carried
    found = latency(good_ms, len(bad))
    service_ms = [] if closed else [sample.service_ms for sample in good]
    # Failures with the time that they took: where half of the requests fail there is no p50, and
    # a client on the cores of an overwhelmed service is still judged by what the service takes.
    matters_ms = latency_limit_ms
    if matters_ms is None and finished:
        matters_ms = statistics.median(sample.latency_ms for sample in finished)
    cut = timeline(recording, trace or MachineTrace(), matters_ms)
    return Measurement(
        sessions=load.sessions,
        window_s=window_s,
        ended=recording.ended,
        warmup_requests=recording.warmup_requests,
        finished=len(finished),
        answered=answered,
        good=len(good),
        in_time=len(in_time),
        failed=len(bad),
        unfinished=len(recording.stragglers) - len(late_failures),
        errors=dict(sorted(Counter(sample.error for sample in bad).items())),
        throughput_per_s=rate_per_s(came, window_s),
        goodput_per_s=rate_per_s(len(in_time), window_s),
        in_flight=_in_flight(recording),
        detections_mean=_mean(s.detections for s in good if s.detections is not None),
        received_bytes_mean=_mean(s.received_bytes for s in good),
        latency=found,
        histogram=histogram(good_ms),
        stages=_stages(good),
        usage=usage,
        goodput_interval=rate_interval(at_ns, recording.open_ns, recording.close_ns),
        law="" if isinstance(law, ClosedLoop) else law.words(),
        images_per_query=law.images_per_query if isinstance(law, ClosedLoop) else 1,
        service=None if closed else latency(service_ms, len(bad)),
        generator=check_generator(recording, cut),
        timeline=cut,
        cdf=latency_curve(good_ms, len(bad), service_ms),
        trend=trend(cut),
        pause=law.pause if isinstance(law, ClosedLoop) else "",
        retried=sum(sample.retried for sample in finished),
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
