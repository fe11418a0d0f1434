"""What the curves show: the knee, the limit, where the time goes, what waiting costs."""

from __future__ import annotations

from collections.abc import Callable

from seatrial.bench.quotes import Facts
from seatrial.bench.report_data import Evidence, Finding
from seatrial.report.numbers import (
    core_milliseconds,
    cores,
    milliseconds,
    per_second,
    percent,
    sessions,
    times,
)


def knee(facts: Facts) -> Finding | None:
    """Where the throughput curve flattens, and how that was decided."""
    found = facts.report.analysis.knee
    if found is None:
        return None
    if not facts.report.analysis.curve_told:
        return _untold(facts)
    quotes = {
        "at": facts.quote("/analysis/knee/sessions", sessions),
        "rate": facts.quote("/analysis/knee/goodput_per_s", per_second),
        "share": facts.quote("/analysis/thresholds/knee", percent),
        "best": facts.quote("/analysis/knee/best_goodput_per_s", per_second),
        "gain": facts.quote("/analysis/knee/gain", times),
    }
    if found.reached:
        text = (
            "The knee is at {at} with {rate}: the fewest that reach {share} of the best goodput "
            "({best}, {gain} that of the fewest sessions). More sessions buy next to nothing."
        )
        return facts.say("knee", "explanation", "info", text, **quotes)
    text = (
        "No knee was reached: goodput still grew up to {at} ({rate}, {gain} that of the fewest "
        "sessions). The knee would be where {share} of the best goodput is reached first."
    )
    del quotes["best"]
    return facts.say("no-knee", "explanation", "info", text, **quotes)


def _untold(facts: Facts) -> Finding:
    analysis = facts.report.analysis
    if (analysis.fewest_answers or 0) < analysis.thresholds.answers:
        return facts.say(
            "curve-few-answers",
            "explanation",
            "warn",
            "Where the curve bends cannot be told: one of its points has {fewest} answers, and "
            "{needed} are needed. Give each point more time (--point-s).",
            fewest=facts.quote("/analysis/fewest_answers"),
            needed=facts.quote("/analysis/thresholds/answers"),
        )
    return facts.say(
        "curve-disturbed",
        "explanation",
        "warn",
        "Where the curve bends cannot be told: others took up to {share} of the cores.",
        share=facts.quote("/analysis/noise/other_share", percent),
    )


def limit(facts: Facts) -> Finding | None:
    """What holds throughput down: the one explanation that the CPU figures support."""
    analysis, best = facts.report.analysis, facts.best_path
    saturation = analysis.saturation
    if saturation is None or best is None:
        return None
    limits, point = analysis.thresholds, facts.point(best)
    machine = point.usage.machine
    usable = facts.report.environment.cpu.cores
    if point.usage.client.busy_cores >= limits.saturated:
        return _limit_client(facts, best)
    if saturation.used_share >= limits.saturated:
        return _limit_cores(facts, best)
    if machine is not None and machine.busy_cores / usable >= limits.saturated:
        return _limit_others(facts, best)
    flat = analysis.curve_told and analysis.knee is not None and analysis.knee.reached
    if flat and saturation.used_share < limits.idle:
        return _limit_lanes(facts, best)
    return None


def _busy(facts: Facts, path: str) -> dict[str, Evidence]:
    return {
        "server": facts.quote(f"{path}/usage/server/busy_cores", cores),
        "client": facts.quote(f"{path}/usage/client/busy_cores", cores),
        "cores": facts.quote("/environment/cpu/cores"),
        "at": facts.quote(f"{path}/sessions", sessions),
    }


def _limit_cores(facts: Facts, path: str) -> Finding:
    text = (
        "The cores are the limit: with {at} the service kept {server} and the client {client} of "
        "{cores} busy. An answer costs the service {cost} of one core's time, so these cores could "
        "give {ceiling} at most if it had them to itself."
    )
    quotes = _busy(facts, path) | {
        "cost": facts.quote("/analysis/saturation/server_cpu_s", core_milliseconds),
        "ceiling": facts.quote("/analysis/saturation/ceiling_per_s", per_second),
    }
    return facts.say("limit-cores", "explanation", "info", text, **quotes)


def _limit_client(facts: Facts, path: str) -> Finding:
    text = (
        "The client is the limit: with {at} it kept {client} cores busy and can use one; the "
        "service used {server} of {cores}. The service may be faster than this report says."
    )
    return facts.say("limit-client", "explanation", "warn", text, **_busy(facts, path))


def _limit_others(facts: Facts, path: str) -> Finding:
    text = (
        "The machine was full, but not with this service: with {at} it kept {server} cores busy, "
        "the client {client}, and others {others} of {cores}. What the service itself could reach "
        "cannot be told from this."
    )
    quotes = _busy(facts, path)
    quotes["others"] = facts.quote(f"{path}/usage/machine/other_cores", cores)
    return facts.say("limit-others", "explanation", "warn", text, **quotes)


def _limit_lanes(facts: Facts, path: str) -> Finding:
    text = (
        "The cores are not the limit: at the best point ({at}) the service kept {server} and the "
        "client {client} of {cores} busy. The service works on too few requests at a time, or "
        "waits for something other than a core."
    )
    return facts.say("limit-lanes", "explanation", "warn", text, **_busy(facts, path))


def time_by_stage(facts: Facts) -> Finding | None:
    """Where one request's time goes, largest parts first."""
    path, work = facts.report.analysis.alone, facts.report.analysis.work_alone
    if path is None or work is None:
        return None
    stages = facts.point(path).stages
    if stages is None:
        return None
    ordered = sorted(stages.mean_ms.items(), key=lambda row: -row[1])
    shown = [row for row in ordered if row[1] >= 0.01 * stages.latency_ms][:4]
    quotes = {"latency": facts.quote(f"{path}/stages/latency_ms", milliseconds)}
    for n, (name, _) in enumerate(shown):
        key = name.replace("~", "~0").replace("/", "~1")
        quotes[f"stage{n}"] = facts.quote(f"{path}/stages/mean_ms/{key}", _named(name))
    parts = [f"{{stage{n}}}" for n in range(len(shown))]
    quotes["wire"] = facts.quote(f"{path}/stages/transport_ms", milliseconds)
    text = f"A lone request takes {{latency}} on average: {', '.join(parts)}; transport {{wire}}."
    return facts.say("time-by-stage", "explanation", "info", text, **quotes)


def _named(stage: str) -> Callable[[float], str]:
    return lambda value: f"{stage} {milliseconds(value)}"


def engine_share(facts: Facts) -> Finding | None:
    """Whether the model or the work around it decides."""
    analysis = facts.report.analysis
    work = analysis.work_alone
    if work is None or work.infer_share is None:
        return None
    quotes = {
        "infer": facts.quote("/analysis/work_alone/infer_share", percent),
        "image": facts.quote("/analysis/work_alone/image_share", percent),
    }
    if work.infer_share >= analysis.thresholds.dominant:
        text = (
            "The engine dominates: {infer} of the service's work on a lone request is inference, "
            "{image} is decoding, pre- and postprocessing."
        )
        return facts.say("work-engine", "explanation", "info", text, **quotes)
    text = (
        "The model is not the main cost: {infer} of the service's work on a lone request is "
        "inference, against {image} for decoding, pre- and postprocessing."
    )
    return facts.say("work-image", "explanation", "warn", text, **quotes)


def transport(facts: Facts) -> Finding | None:
    """What a lone request spends outside the service's own clock."""
    analysis = facts.report.analysis
    work, path = analysis.work_alone, analysis.alone
    if work is None or path is None or work.transport_share < analysis.thresholds.transport:
        return None
    return facts.say(
        "transport",
        "explanation",
        "warn",
        "{share} of a lone request's latency ({ms}) passes outside the service's own clock: "
        "network, HTTP on both sides and waiting for a core.",
        share=facts.quote("/analysis/work_alone/transport_share", percent),
        ms=facts.quote(f"{path}/stages/transport_ms", milliseconds),
    )


def queueing(facts: Facts) -> Finding | None:
    """What sessions beyond the knee cost (Little's law)."""
    analysis, last = facts.report.analysis, facts.last_path
    if analysis.queueing is None or last is None or not analysis.curve_told:
        return None
    quotes = {
        "knee": facts.quote("/analysis/knee/sessions", sessions),
        "last": facts.quote("/analysis/knee/last_sessions"),
        "before": facts.quote("/analysis/queueing/knee_ms", milliseconds),
        "after": facts.quote("/analysis/queueing/last_ms", milliseconds),
        "expected": facts.quote("/analysis/queueing/expected_ms", milliseconds),
        "gain": facts.quote("/analysis/queueing/goodput_gain", percent),
    }
    text = (
        "Beyond the knee requests only wait: from {knee} to {last} mean latency went from {before} "
        "to {after} and goodput changed by {gain}. Little's law (sessions over throughput) "
        "expects {expected}."
    )
    stages = facts.point(last).stages
    waiting = next(
        (name for name in ("queue", "queued", "wait") if stages and stages.mean_ms.get(name)), None
    )
    if waiting is not None:
        quotes["queue"] = facts.quote(f"{last}/stages/mean_ms/{waiting}", milliseconds)
        text += " The service's own clock shows {queue} of queue."
    return facts.say("queueing", "explanation", "info", text, **quotes)


RULES = (knee, limit, time_by_stage, engine_share, transport, queueing)
