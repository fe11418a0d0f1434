"""What a reader must know before the figures: how they were taken and what disturbed them."""

from __future__ import annotations

from seatrial.bench.quotes import Facts
from seatrial.bench.report_data import Finding
from seatrial.report.numbers import files, per_second, percent, sessions

# Under as many pictures a service that keeps answers would be flattered.
FEW_IMAGES = 16


def closed_loop(facts: Facts) -> Finding:
    """The label that every figure of this report carries (design rule 2)."""
    return facts.say(
        "closed-loop",
        "caveat",
        "info",
        "Load: {loop}-loop, never an SLO result. Each session sends its next image only when the "
        "last one is answered, so a slow service is sent fewer requests. Figures for a stream of "
        "arrivals (cameras, users) will be worse.",
        loop=facts.quote("/runs/0/loop"),
    )


def failures(facts: Facts) -> Finding | None:
    """Errors, timeouts and refusals."""
    seen = facts.report.analysis.failures
    if not seen.failed:
        return None
    return facts.say(
        "failures",
        "caveat",
        "bad" if seen.share >= 0.01 else "warn",
        "{failed} of {requests} requests failed ({share}), most of them by {error}. They count "
        "against goodput and rank as infinitely late in the percentiles.",
        failed=facts.quote("/analysis/failures/failed"),
        requests=facts.quote("/analysis/failures/requests"),
        share=facts.quote("/analysis/failures/share", percent),
        error=facts.quote("/analysis/failures/commonest"),
    )


def other_load(facts: Facts) -> Finding | None:
    """Work of other processes on the same cores."""
    analysis = facts.report.analysis
    share = analysis.noise.other_share
    if share is None or share <= analysis.thresholds.noise:
        return None
    return facts.say(
        "other-load",
        "caveat",
        "warn",
        "The machine was not quiet: other processes took up to {share} of the {cores} usable "
        "cores. Compare ratios within this report, not its absolute figures with another one's.",
        share=facts.quote("/analysis/noise/other_share", percent),
        cores=facts.quote("/environment/cpu/cores"),
    )


def stolen_time(facts: Facts) -> Finding | None:
    """Time that the hypervisor gave to other virtual machines."""
    analysis = facts.report.analysis
    share = analysis.noise.steal_share
    if share is None or share <= analysis.thresholds.steal:
        return None
    return facts.say(
        "stolen-time",
        "caveat",
        "warn",
        "The hypervisor gave up to {share} of the cores' time to other machines: slow answers may "
        "not be the service's fault.",
        share=facts.quote("/analysis/noise/steal_share", percent),
    )


def client_cost(facts: Facts) -> Finding | None:
    """The load generator runs on the cores that it measures."""
    analysis = facts.report.analysis
    if not facts.report.environment.local or analysis.saturation is None:
        return None
    heavy = analysis.saturation.client_share >= analysis.thresholds.client
    words = " That is a lot: read the throughput as a lower bound." if heavy else ""
    return facts.say(
        "client-cost",
        "caveat",
        "warn" if heavy else "info",
        "Client and service share the {cores} usable cores; at the best point the client took "
        "{share} of their CPU time." + words,
        cores=facts.quote("/environment/cpu/cores"),
        share=facts.quote("/analysis/saturation/client_share", percent),
    )


def repeatability(facts: Facts) -> Finding | None:
    """The same load measured twice in this report, with two results."""
    analysis = facts.report.analysis
    first, again = analysis.alone, analysis.alone_again
    if first is None or again is None or analysis.repeat_share is None:
        return None
    if analysis.repeat_share <= analysis.thresholds.repeat:
        return None
    return facts.say(
        "repeatability",
        "caveat",
        "warn",
        "One request at a time was measured twice, with {one} and {two}: differences of up to "
        "{share} in this report mean nothing.",
        one=facts.quote(f"{first}/goodput_per_s", per_second),
        two=facts.quote(f"{again}/goodput_per_s", per_second),
        share=facts.quote("/analysis/repeat_share", percent),
    )


def unprinted_percentiles(facts: Facts) -> Finding | None:
    """Percentiles of the lone requests that the sample does not carry."""
    path = facts.report.analysis.alone
    if path is None:
        return None
    missing = [
        name for name, p in facts.point(path).latency.percentiles.items() if p.value_ms is None
    ]
    if not missing:
        return None
    where = f"{path}/latency/percentiles"
    return facts.say(
        "unprinted-percentiles",
        "caveat",
        "info",
        "Not printed for lone requests: "
        + "; ".join(f"{name} ({{{name}}})" for name in missing)
        + ".",
        **{name: facts.quote(f"{where}/{name}/reason") for name in missing},
    )


def skipped_images(facts: Facts) -> Finding | None:
    """Files that look like images and are none."""
    if not facts.report.images.skipped:
        return None
    return facts.say(
        "skipped-images",
        "caveat",
        "warn",
        "{files} that cannot be decoded were left out, the first being {first} ({reason}); the "
        "whole list stands under Images.",
        files=facts.quote("/images/skipped_count", files),
        first=facts.quote("/images/skipped/0/name"),
        reason=facts.quote("/images/skipped/0/reason"),
    )


def few_images(facts: Facts) -> Finding | None:
    """Too little variety."""
    if facts.report.images.used >= FEW_IMAGES:
        return None
    return facts.say(
        "few-images",
        "caveat",
        "info",
        "Only {used} were sent, again and again: a service or proxy that keeps "
        "answers would look faster than it is.",
        used=facts.quote("/images/used", files),
    )


def unseen_server(facts: Facts) -> Finding | None:
    """No CPU or memory of the service."""
    usage = facts.report.runs[0].points[0].usage
    if usage.server is not None:
        return None
    return facts.say(
        "unseen-server",
        "caveat",
        "info",
        "CPU and memory of the service are unknown ({reason}), so what limits it is told by the "
        "clock alone.",
        reason=facts.quote("/runs/0/points/0/usage/server_unknown"),
    )


def lost_time(facts: Facts) -> Finding | None:
    """Time between a session's requests: a check on the client itself."""
    analysis = facts.report.analysis
    if analysis.balance is None or analysis.balance >= analysis.thresholds.balance:
        return None
    paths = [
        (f"/runs/{n}/points/{m}", p)
        for n, run in enumerate(facts.report.runs)
        for m, p in enumerate(run.points)
        if p.finished
    ]
    path, _ = min(paths, key=lambda row: row[1].in_flight / row[1].sessions)
    return facts.say(
        "lost-time",
        "caveat",
        "warn",
        "Only {flight} requests were under way on average with {sessions}: the sessions waited "
        "for the client itself or between retries. Throughput is a lower bound.",
        flight=facts.quote(f"{path}/in_flight", lambda value: f"{value:.2f}"),
        sessions=facts.quote(f"{path}/sessions", sessions),
    )


RULES = (
    closed_loop,
    failures,
    other_load,
    stolen_time,
    client_cost,
    lost_time,
    repeatability,
    unprinted_percentiles,
    skipped_images,
    few_images,
    unseen_server,
)
