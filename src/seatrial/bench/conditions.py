"""Conditions of findings that take more than a line."""

from __future__ import annotations

from typing import Literal

from seatrial.bench.quotes import Scope
from seatrial.load.ceiling import WARNED_SHARE

Change = Literal["grows", "level", "unclear"]
BF16_FEATURES = ("avx512_bf16", "amx_bf16")


def above(value: float | None, limit: float) -> bool:
    """Whether a value is known and above a limit."""
    return value is not None and value > limit


def saw_nothing(scope: Scope) -> bool:
    """Whether no good answer held a detection, as far as answers list theirs."""
    means = [p.detections_mean for run in scope.report.runs for p in run.points if p.good]
    return bool(means) and None not in means and not any(means)


def near_ceiling(scope: Scope) -> str | None:
    """Place of the load that asked most of the client, where that is too much; None for none."""
    ceiling, offered = scope.report.ceiling, []
    for n, run in enumerate(scope.report.runs):
        for m, point in enumerate(run.points):
            if point.generator is not None:
                offered.append((point.generator.offered_per_s, f"{n}.points.{m}"))
    if ceiling is None or not offered:
        return None
    rate_hz, place = max(offered)
    processes = scope.report.options.client_processes
    return place if rate_hz > WARNED_SHARE * ceiling.rate_hz * processes else None


def closed_runs(scope: Scope) -> list[int]:
    """Indices of the runs whose load is a closed loop."""
    return [n for n, run in enumerate(scope.report.runs) if run.loop == "closed"]


def server_unseen(scope: Scope) -> bool:
    """Whether CPU and memory of the service are not known."""
    first = scope.point("first")
    return first is not None and first.usage.server is None


def infer_share(scope: Scope) -> float | None:
    """Share of inference in the work for a lone request; None where it is not known."""
    work = scope.analysis.work_alone
    return None if work is None else work.infer_share


def engine_dominates(scope: Scope) -> bool:
    """Whether most of the work for a lone request is inference."""
    share = infer_share(scope)
    return share is not None and share >= scope.cutoffs.dominant


def knee_known(scope: Scope, *, reached: bool = True) -> bool:
    """Whether the curve has enough answers and quiet to show a knee, or to show none."""
    knee = scope.analysis.knee
    return knee is not None and scope.analysis.curve_told and knee.reached == reached


def others_share(scope: Scope, point: str) -> float:
    """Share of the usable cores that neither service nor client used; 0 where not known."""
    measured = scope.point(point)
    machine = None if measured is None else measured.usage.machine
    return 0.0 if machine is None else (machine.other_cores or 0.0) / scope.cores


def change(scope: Scope, value: Literal["latency_ms", "memory_bytes"]) -> Change | None:
    """Whether a value grew over the soak, by the interval of its slope; None without a slope.

    Growth below the cutoff, over the whole soak and as a share of the median, is none: with enough
    slices any difference is more than chance.
    """
    point = scope.point("soak")
    slope = None if point is None or point.trend is None else getattr(point.trend, value)
    if slope is None:
        return None
    cutoff = scope.cutoffs.grows if value == "latency_ms" else scope.cutoffs.leaks
    if slope.high_per_hour * slope.over_h < cutoff * slope.median:
        return "level"
    return "grows" if slope.low_per_hour > 0 else "unclear"


def limit(scope: Scope) -> str:
    """Name the part that limits throughput, by the CPU figures; empty where they do not show it."""
    used, best = scope.analysis.saturation, scope.point("best")
    if used is None or best is None:
        return ""
    machine, cutoffs = best.usage.machine, scope.cutoffs
    if best.usage.client.busy_cores >= cutoffs.saturated:  # the client runs on one core
        return "client"
    if used.used_share >= cutoffs.saturated:
        return "cores"
    if machine is not None and machine.busy_cores / scope.cores >= cutoffs.saturated:
        return "others"
    return "lanes" if knee_known(scope) and used.used_share < cutoffs.idle else ""


def bf16_feature(scope: Scope) -> int | None:
    """Index of an instruction set for bfloat16 in the features of the CPU."""
    features = enumerate(scope.report.environment.cpu.features)
    return next((n for n, name in features if name in BF16_FEATURES), None)


def bf16_would_help(scope: Scope) -> bool:
    """Whether the service computes in float32 on this CPU, which has bfloat16."""
    return (
        bf16_feature(scope) is not None
        and engine_dominates(scope)
        and scope.report.environment.local
        and scope.model_text("device").lower() in ("cpu", "")
        and scope.model_text("precision") == "f32"
    )


def cores_idle_for_one(scope: Scope) -> bool:
    """Whether a lone request leaves cores idle that its inference could use."""
    busy = scope.analysis.alone_busy_share
    layout = (scope.report.model or {}).get("layout")
    threads = layout.get("wide_threads") if isinstance(layout, dict) else None
    has_all = isinstance(threads, int) and threads >= scope.cores
    return (
        busy is not None
        and engine_dominates(scope)
        and scope.cores >= 2
        and not has_all
        and busy + others_share(scope, "alone") < scope.cutoffs.idle
    )


def cores_idle_at_best(scope: Scope) -> bool:
    """Whether cores are idle where the curve is flat."""
    used = scope.analysis.saturation
    return (
        used is not None
        and knee_known(scope)
        and used.used_share + others_share(scope, "best") < scope.cutoffs.idle
    )


def unprinted(scope: Scope) -> list[str]:
    """Percentiles of lone requests that the sample is too small for."""
    alone = scope.point("alone")
    found = {} if alone is None else alone.latency.percentiles
    return [name for name, percentile in found.items() if percentile.value_ms is None]
