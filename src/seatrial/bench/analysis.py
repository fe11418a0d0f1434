"""Numbers derived from the measured ones; the report keeps them so that its words can cite them."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence

import msgspec

from seatrial.bench.measurement import Measurement, Stages
from seatrial.bench.open_loop_analysis import follows, is_overwhelmed, rate_knees

# Names that services give to the same stage.
INFER = ("infer", "inference", "model")
QUEUE = ("queue", "queued", "wait")
# Slices from which on a window is taken into thirds, and the ratio of medians from which on it is
# not steady.
FEWEST_SLICES, UNSTEADY = 6, 1.5
IMAGE_WORK = ("decode", "preprocess", "postprocess", "encode")


class Cutoffs(msgspec.Struct, frozen=True):
    """The values from which findings are drawn. The report holds them: a reader may disagree.

    Attributes:
        knee: Share of the best goodput that the knee has, with the fewest sessions.
        saturated: Busy share of the cores from which they are the limit.
        idle: Busy share of the cores below which some were idle.
        dominant: Share of the work from which one stage dominates.
        transport: Share of a lone request's latency from which transport is reported.
        client: Share of client plus service CPU from which the client holds the figures down.
        noise: Share of the cores used by others above which the machine was not quiet.
        steal: Share of the cores' time taken by the hypervisor above which it is reported.
        balance: Requests under way over sessions below which the sessions lost time.
        repeat: Difference of two measurements of one load above which it is reported.
        answers: Fewest requests of each point of a curve whose shape is described.
        disturbed: Share of the cores used by others from which a curve's shape is theirs.
        follows: Share of the offered rate that goodput and throughput keep while they follow it.
        grows: Growth of latency over a soak, as a share of its median, that is not called growth.
        leaks: The same of memory.
    """

    knee: float = 0.95
    saturated: float = 0.90
    idle: float = 0.75
    dominant: float = 0.5
    transport: float = 0.25
    client: float = 0.15
    noise: float = 0.05
    steal: float = 0.01
    balance: float = 0.95
    repeat: float = 0.05
    answers: int = 30
    disturbed: float = 0.25
    follows: float = 0.95
    grows: float = 0.05
    leaks: float = 0.01


class Knee(msgspec.Struct, frozen=True):
    """The point at which the scaling curve flattens.

    Attributes:
        index: Index of the point at the knee, in the points of the scaling run.
        sessions: Sessions of that point.
        goodput_per_s: Goodput of that point.
        best_index: Index of the point with the highest goodput.
        best_sessions: Sessions of that point.
        best_goodput_per_s: Goodput of that point.
        last_sessions: Most sessions that were measured.
        reached: Whether sessions beyond the knee were measured: the curve is seen to flatten.
        gain: Best goodput over that of the fewest sessions.
    """

    index: int
    sessions: int
    goodput_per_s: float
    best_index: int
    best_sessions: int
    best_goodput_per_s: float
    last_sessions: int
    reached: bool
    gain: float


class Saturation(msgspec.Struct, frozen=True):
    """The load on the usable cores at the best point.

    Attributes:
        used_share: Service and client over the usable cores.
        client_share: Client over client plus service.
        server_cpu_s: Service CPU per good answer, core-seconds.
        ceiling_per_s: Usable cores over `server_cpu_s`: goodput if the service had them all and
            lost nothing.
    """

    used_share: float
    client_share: float
    server_cpu_s: float
    ceiling_per_s: float


class Work(msgspec.Struct, frozen=True):
    """The time of an answer by stage. Shares of the work leave the waiting (`queue`) out.

    Attributes:
        work_ms: Total of the service less its queue.
        infer_share: Share of inference in the work; None where no stage is called so.
        image_share: Share of decoding, pre- and postprocessing, encoding in the work.
        largest: Name of the stage with the largest share of the work.
        largest_share: Share of that stage.
        queue_share: Share of waiting in the service's total.
        transport_share: Share of transport in the client's latency.
    """

    work_ms: float
    infer_share: float | None
    image_share: float
    largest: str
    largest_share: float
    queue_share: float
    transport_share: float


class Queueing(msgspec.Struct, frozen=True):
    """The effect of the sessions beyond the knee.

    Attributes:
        knee_ms: Mean latency at the knee.
        last_ms: Mean latency at the last point.
        expected_ms: Latency at the last point by Little's law: sessions over throughput.
        latency_factor: `last_ms` over `knee_ms`.
        goodput_gain: Goodput at the last point over that at the knee, less 1.
    """

    knee_ms: float
    last_ms: float
    expected_ms: float
    latency_factor: float
    goodput_gain: float


class Noise(msgspec.Struct, frozen=True):
    """The load by the rest of the machine: the worst of all points; None where it is not known.

    Attributes:
        other_share: Share of the usable cores that other processes kept busy.
        steal_share: Share of the cores' time that the hypervisor gave to other machines.
    """

    other_share: float | None
    steal_share: float | None


class Failures(msgspec.Struct, frozen=True):
    """The failures of all points.

    Attributes:
        requests: Number of requests that came to an end.
        failed: Number of those that failed.
        share: Failed requests over all that came to an end.
        commonest: Most frequent kind of failure.
    """

    requests: int
    failed: int
    share: float
    commonest: str


class Unsteady(msgspec.Struct, frozen=True):
    """A window of a closed loop whose latency changed while it was measured.

    Attributes:
        at: JSON pointer of the point.
        first_ms: Median latency of the slices of its first third.
        last_ms: The same of its last third.
    """

    at: str
    first_ms: float
    last_ms: float


class Analysis(msgspec.Struct, frozen=True):
    """Derived figures that findings rest on, beside the measurements themselves.

    Attributes:
        thresholds: Values from which findings are drawn.
        failures: Failures of all points.
        noise: Load by the rest of the machine.
        alone: JSON pointer of the point with one request at a time.
        scaling: JSON pointer of the run with several sessions.
        knee: Point at which the scaling curve flattens; None without such a run.
        saturation: Load on the cores at the best point.
        work_alone: Stages of a lone request.
        work_best: Stages at the best point.
        queueing: Effect of the sessions beyond the knee.
        alone_busy_share: Share of the usable cores that the service uses for lone requests.
        balance: Lowest ratio of requests under way to sessions; 1 if no session lost time.
        fewest_answers: Fewest requests of a scaling point.
        curve_told: Whether the scaling points have enough answers and quiet to show a shape.
        arrivals: JSON pointer of the open loop with the most goodput, of those that kept up if any
            did.
        overwhelmed: JSON pointer of the first open loop in which many requests failed, or that
            ended with a queue that had grown all the time; None where none did.
        void: JSON pointer of the first void window.
        void_windows: Number of void windows.
        unsteady: First window of a closed loop whose latency changed while it was measured; None
            where none did.
        following: JSON pointer of the highest offered rate whose goodput still follows; None
            where rates were not compared, or none was kept.
        behind: JSON pointer of the lowest rate above it whose goodput does not follow; None where
            all did.
        soak: JSON pointer of a soak that is long enough for a trend.
        alone_again: JSON pointer of a second point with one request at a time.
        repeat_share: Difference of the goodput of those two, as a share of the larger one.
    """

    thresholds: Cutoffs
    failures: Failures
    noise: Noise
    alone: str | None = None
    scaling: str | None = None
    knee: Knee | None = None
    saturation: Saturation | None = None
    work_alone: Work | None = None
    work_best: Work | None = None
    queueing: Queueing | None = None
    alone_busy_share: float | None = None
    balance: float | None = None
    fewest_answers: int | None = None
    curve_told: bool = False
    arrivals: str | None = None
    overwhelmed: str | None = None
    void: str | None = None
    following: str | None = None
    behind: str | None = None
    soak: str | None = None
    alone_again: str | None = None
    repeat_share: float | None = None
    void_windows: int = 0
    unsteady: Unsteady | None = None


def analyse(
    runs: Sequence[tuple[str, Sequence[Measurement]]], cores: int, searched: Collection[int] = ()
) -> Analysis:
    """Derive what follows from the points.

    Args:
        runs: Scenario name and its points, in the report's order.
        cores: Usable cores of the machine.
        searched: Indices of runs whose points are trials of a search: some of them are too much
            for the service on purpose.
    """
    limits = Cutoffs()
    everything = [point for _, points in runs for point in points]
    lone = [
        (f"/runs/{n}/points/{m}", point, name)
        for n, (name, points) in enumerate(runs)
        for m, point in enumerate(points)
        if point.sessions == 1 and point.images_per_query == 1 and point.good
    ]
    # The scenario that is made for it, where it has a median: of two windows of the same length,
    # the larger sample is always the faster one.
    lone.sort(key=lambda row: (
        row[1].latency.at("p50").value_ms is None, row[2] != "single-stream", -row[1].good
    ))  # fmt: skip
    (alone_path, alone, _), (again_path, again, _) = (*lone, *[(None, None, "")] * 2)[:2]
    opened = [
        (f"/runs/{n}/points/{m}", point)
        for n, (_, points) in enumerate(runs)
        for m, point in enumerate(points)
        if point.generator is not None and n not in searched
    ]
    valid = [row for row in opened if not row[1].void and row[1].good]
    # A latency that grows with the window's length is no figure of the service.
    valid = [row for row in valid if follows(row[1], limits.follows)] or valid
    scaling_path, points = next(
        ((f"/runs/{n}", points) for n, (name, points) in enumerate(runs) if name == "scaling"),
        (None, ()),
    )
    knee = find_knee(points, limits.knee)
    following, behind = rate_knees(
        [(name, () if n in searched else points) for n, (name, points) in enumerate(runs)],
        limits.follows,
    )
    best = points[knee.best_index] if knee else alone
    noise = _noise(everything, cores)
    fewest = min((point.finished for point in points), default=None)
    return Analysis(
        thresholds=limits,
        failures=_failures(
            [p for n, (_, points) in enumerate(runs) if n not in searched for p in points]
        ),
        noise=noise,
        alone=alone_path,
        scaling=scaling_path,
        knee=knee,
        saturation=_saturation(best, cores) if best else None,
        work_alone=_work(alone.stages) if alone else None,
        work_best=_work(best.stages) if best else None,
        queueing=_queueing(points, knee) if knee and knee.reached else None,
        alone_busy_share=alone.usage.server.utilisation if alone and alone.usage.server else None,
        alone_again=again_path,
        repeat_share=_difference(alone, again) if alone and again else None,
        balance=min(
            (p.in_flight / p.sessions for p in everything if p.finished and p.sessions),
            default=None,
        ),
        fewest_answers=fewest,
        arrivals=max(valid, key=lambda row: row[1].goodput_per_s, default=(None, None))[0],
        overwhelmed=next((path for path, point in opened if is_overwhelmed(point)), None),
        void=next((path for path, point in opened if point.void), None),
        void_windows=sum(bool(point.void) for _, point in opened),
        unsteady=_unsteady(runs),
        following=following,
        behind=behind,
        soak=next(
            (
                f"/runs/{n}/points/{m}"
                for n, (name, points) in enumerate(runs)
                for m, point in enumerate(points)
                if name == "soak" and point.trend is not None
            ),
            None,
        ),
        curve_told=fewest is not None
        and fewest >= limits.answers
        and (noise.other_share or 0.0) < limits.disturbed,
    )


def find_knee(points: Sequence[Measurement], share: float) -> Knee | None:
    """Fewest sessions that reach `share` of the best goodput; None with less than two points."""
    useful = [n for n, point in enumerate(points) if point.goodput_per_s > 0]
    if len(useful) < 2:
        return None
    best = max(useful, key=lambda n: points[n].goodput_per_s)
    index = next(n for n in useful if points[n].goodput_per_s >= share * points[best].goodput_per_s)
    return Knee(
        index=index,
        sessions=points[index].sessions,
        goodput_per_s=points[index].goodput_per_s,
        best_index=best,
        best_sessions=points[best].sessions,
        best_goodput_per_s=points[best].goodput_per_s,
        last_sessions=points[-1].sessions,
        reached=index < useful[-1],
        gain=points[best].goodput_per_s / points[useful[0]].goodput_per_s,
    )


def _unsteady(runs: Sequence[tuple[str, Sequence[Measurement]]]) -> Unsteady | None:
    for n, (_, points) in enumerate(runs):
        for m, point in enumerate(points):
            cut = None if point.generator is not None else point.timeline
            known = [] if cut is None else [s.p50_ms for s in cut.slices if s.p50_ms is not None]
            if len(known) < FEWEST_SLICES:
                continue
            third = len(known) // 3
            first, last = statistics.median(known[:third]), statistics.median(known[-third:])
            if max(first, last) >= UNSTEADY * min(first, last):
                return Unsteady(f"/runs/{n}/points/{m}", first, last)
    return None


def _difference(one: Measurement, other: Measurement) -> float:
    larger = max(one.goodput_per_s, other.goodput_per_s)
    return abs(one.goodput_per_s - other.goodput_per_s) / larger if larger else 0.0


def _saturation(point: Measurement, cores: int) -> Saturation | None:
    server, client = point.usage.server, point.usage.client
    if server is None or not point.good or server.cpu_s <= 0:
        return None
    per_answer_s = server.cpu_s / point.good
    return Saturation(
        used_share=(server.busy_cores + client.busy_cores) / cores,
        client_share=client.cpu_s / (client.cpu_s + server.cpu_s),
        server_cpu_s=per_answer_s,
        ceiling_per_s=cores / per_answer_s,
    )


def _work(stages: Stages | None) -> Work | None:
    if stages is None or not stages.mean_ms:
        return None
    working = {name: ms for name, ms in stages.mean_ms.items() if name not in QUEUE}
    queue_ms = sum(stages.mean_ms.values()) - sum(working.values())
    work_ms = sum(working.values()) + stages.other_ms
    if work_ms <= 0 or not working:
        return None
    largest = max(working, key=lambda name: working[name])
    named = [name for name in working if name in INFER]
    return Work(
        work_ms=work_ms,
        infer_share=sum(working[name] for name in named) / work_ms if named else None,
        image_share=sum(working.get(name, 0.0) for name in IMAGE_WORK) / work_ms,
        largest=largest,
        largest_share=working[largest] / work_ms,
        queue_share=queue_ms / (queue_ms + work_ms),
        transport_share=stages.transport_ms / stages.latency_ms if stages.latency_ms else 0.0,
    )


def _queueing(points: Sequence[Measurement], knee: Knee) -> Queueing | None:
    at_knee, last = points[knee.index], points[-1]
    if not at_knee.latency.mean_ms or not last.latency.mean_ms or not last.throughput_per_s:
        return None
    return Queueing(
        knee_ms=at_knee.latency.mean_ms,
        last_ms=last.latency.mean_ms,
        expected_ms=last.sessions / last.throughput_per_s * 1e3,
        latency_factor=last.latency.mean_ms / at_knee.latency.mean_ms,
        goodput_gain=last.goodput_per_s / at_knee.goodput_per_s - 1.0,
    )


def _noise(points: Iterable[Measurement], cores: int) -> Noise:
    seen = [point.usage.machine for point in points if point.usage.machine is not None]
    others = [machine.other_cores / cores for machine in seen if machine.other_cores is not None]
    return Noise(
        other_share=max(others, default=None),
        steal_share=max((machine.steal_share for machine in seen), default=None),
    )


def _failures(points: Iterable[Measurement]) -> Failures:
    good = failed = 0
    kinds: dict[str, int] = {}
    for point in points:
        good, failed = good + point.good, failed + point.failed
        for kind, count in point.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    requests = good + failed
    return Failures(
        requests=requests,
        failed=failed,
        share=failed / requests if requests else 0.0,
        commonest=max(kinds, key=lambda kind: kinds[kind], default=""),
    )
