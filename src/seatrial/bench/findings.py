"""Findings: one table of conditions on the measurements and of sentences about them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from seatrial.bench.analysis import QUEUE
from seatrial.bench.answer_findings import ANSWERS
from seatrial.bench.conditions import (
    above,
    bf16_feature,
    bf16_would_help,
    closed_runs,
    cores_idle_at_best,
    cores_idle_for_one,
    engine_dominates,
    infer_share,
    knee_known,
    limit,
    near_ceiling,
    server_unseen,
    unprinted,
)  # fmt: skip
from seatrial.bench.headline import MANY_FAILURES, headline, search_index, subject
from seatrial.bench.open_loop_findings import OPEN_LOOP
from seatrial.bench.quotes import Quote, Rule, Scope
from seatrial.bench.report_data import BenchReport, Finding, Kind
from seatrial.report.numbers import milliseconds, named_milliseconds

# With fewer images, a service that keeps its answers would look faster than it is.
FEW_IMAGES = 16
# From this size on an image has more pixels than a detector's usual 640 x 640 canvas.
LARGE_MEGAPIXELS = 0.5
# Sessions beyond the knee whose latency grows by less than this factor are not reported.
WORSE = 1.3
# Kinds of failure with which a service says that it has too much to do.
REFUSALS = ("http-503", "grpc-unavailable")
# A stage below this share of the latency is not worth a word.
SMALL_STAGE, MOST_STAGES = 0.01, 4


def interpret(report: BenchReport) -> tuple[Finding, ...]:
    """The findings of a report: summary, caveats, explanations, advice.

    Nothing is reported where there is too little data to judge.
    """
    scope = Scope(report)
    found: dict[str, Finding] = {}
    for kind, rules in TABLE.items():
        for rule in rules:
            group = rule.group or rule.code
            if group not in found and rule.when(scope):
                found[group] = rule.finding(kind, scope)
    return tuple(found.values())


def stages_text(scope: Scope) -> Sequence[str | Quote]:
    """The largest stages of a lone request by name, largest first."""
    alone = scope.point("alone")
    stages = None if alone is None else alone.stages
    assert stages is not None  # noqa: S101 - the condition of the rule
    ordered = sorted(stages.mean_ms, key=lambda name: -stages.mean_ms[name])
    floor_ms = SMALL_STAGE * stages.latency_ms
    largest = [name for name in ordered if stages.mean_ms[name] >= floor_ms][:MOST_STAGES]
    pieces: list[str | Quote] = []
    for name in largest:
        written = partial(named_milliseconds, name)
        pieces += [", " if pieces else "", Quote(("alone", "stages", "mean_ms", name), written)]
    begin = "A lone request takes {alone.stages.latency_ms:milliseconds} on average: "
    return [begin, *pieces, "; transport {alone.stages.transport_ms:milliseconds}."]


def queueing_text(scope: Scope) -> Sequence[str | Quote]:
    """The finding on sessions beyond the knee, by the client's clock and by the service's."""
    text = (
        "Beyond the knee requests only wait: from {analysis.knee.sessions:sessions} to "
        "{analysis.knee.last_sessions} mean latency went from "
        "{analysis.queueing.knee_ms:milliseconds} to {analysis.queueing.last_ms:milliseconds} and "
        "goodput changed by {analysis.queueing.goodput_gain:percent}. Little's law (sessions over "
        "throughput) expects {analysis.queueing.expected_ms:milliseconds}."
    )
    last = scope.point("last")
    stages = {} if last is None or last.stages is None else last.stages.mean_ms
    waiting = next((name for name in QUEUE if stages.get(name)), None)
    if waiting is None:
        return [text]
    quote = Quote(("last", "stages", "mean_ms", waiting), milliseconds)
    return [text, " The service's own clock shows ", quote, " of queue."]


FAILED = (
    "{analysis.failures.failed} of {analysis.failures.requests} requests failed "
    "({analysis.failures.share:percent}), most of them by {analysis.failures.commonest}. They "
    "count against goodput and rank as infinitely late in the percentiles."
)
CLIENT = (
    "Client and service share the {environment.cpu.cores} usable cores; at the best point the "
    "client took {analysis.saturation.client_share:percent} of their CPU time."
)
UNKNOWN = "The knee cannot be determined: "
BUSY = "{best.usage.server.busy_cores:cores}"
CLIENT_BUSY = "{best.usage.client.busy_cores:cores}"

HEADLINES = (
    Rule(
        "headline", "warn",
        lambda s: not any(p.good + p.failed for run in s.report.runs for p in run.points),
        lambda s: [subject(s) + ": no request came to an end in the window. Measure longer, or at "
                   "a higher rate."],
    ),
    Rule(
        "headline", "bad",
        lambda s: not any(point.good for run in s.report.runs for point in run.points),
        lambda s: [
            subject(s) + " gave no usable answer: {analysis.failures.failed} of "
            "{analysis.failures.requests} requests failed."
        ],
    ),
    Rule("headline", "warn", lambda s: s.analysis.failures.failed > 0, headline),
    Rule("headline", "good", lambda s: True, headline),
)  # fmt: skip

# What a reader must know before the figures: how they were taken and what disturbed them.
CAVEATS = (
    Rule(
        "void", "bad", lambda s: s.analysis.void is not None,
        "Void windows: {analysis.void_windows}, the first at {void.law}: {void.generator.void.0}. "
        "Such figures say nothing about the service. Measure again on a quiet machine, or at a "
        "lower rate.",
    ),
    Rule(
        "overwhelmed", "warn", lambda s: s.analysis.overwhelmed is not None,
        "The arrivals were too many for the service at {overwhelmed.law}: "
        "{overwhelmed.generator.offered_per_s:per_second} were due and "
        "{overwhelmed.goodput_per_s:per_second} answered well. Latencies of such a window grow "
        "with its length, and say nothing about a longer one.",
    ),
    Rule(
        "open-loop", "info", lambda s: s.analysis.arrivals is not None,
        "Load: open-loop ({arrivals.law}). Requests are sent when they are due, whether earlier "
        "ones are answered or not, and latency counts from then: good answers took "
        "{arrivals.latency.mean_ms:milliseconds} on average, {arrivals.service.mean_ms:"
        "milliseconds} from the send.",
    ),
    Rule(
        "open-loop-trials", "info", lambda s: search_index(s) is not None,
        lambda s: [
            f"Load: {{runs.{search_index(s)}.loop}}-loop, trials of a search. Requests are sent "
            "when they are due, whether earlier ones are answered or not, and latency counts from "
            "then. The failures of trials at rates that were too high are not counted as failures "
            "of the service."
        ],
    ),
    Rule(
        "open-loop-void", "info",
        lambda s: s.analysis.arrivals is None and s.analysis.void is not None,
        "Load: open-loop ({void.law}). Requests are sent when they are due, whether earlier ones "
        "are answered or not, and latency counts from then.",
    ),
    Rule(
        "closed-loop", "info", lambda s: bool(closed_runs(s)),
        lambda s: [
            f"Load: {{runs.{closed_runs(s)[0]}.loop}}-loop ("
            + ", ".join(f"{{runs.{n}.scenario}}" for n in closed_runs(s))
            + "), never an SLO result. Each session sends its next image only when the last one is "
            "answered, so a slow service is sent fewer requests. Figures for a stream of arrivals "
            "(cameras, users) will be worse."
        ],
    ),
    Rule(
        "unsteady", "warn", lambda s: s.analysis.unsteady is not None,
        "The latency was not steady: with {unsteady.sessions:sessions} its median went from "
        "{analysis.unsteady.first_ms:milliseconds} in the first third of the window to "
        "{analysis.unsteady.last_ms:milliseconds} in the last. Warm up longer (--warmup-s), and "
        "measure longer.",
    ),
    Rule("failures", "bad", lambda s: s.analysis.failures.share >= MANY_FAILURES, FAILED),
    Rule("failures", "warn", lambda s: s.analysis.failures.failed > 0, FAILED),
    *ANSWERS,
    Rule(
        "other-load", "warn",
        lambda s: above(s.analysis.noise.other_share, s.cutoffs.noise),
        "The machine was not quiet: other processes took up to "
        "{analysis.noise.other_share:percent} of the {environment.cpu.cores} usable cores. Compare "
        "ratios within this report, not its absolute figures with another one's.",
    ),
    Rule(
        "stolen-time", "warn",
        lambda s: above(s.analysis.noise.steal_share, s.cutoffs.steal),
        "The hypervisor gave up to {analysis.noise.steal_share:percent} of the cores' time to "
        "other machines: slow answers may not be the service's fault.",
    ),
    Rule(
        "client-cost", "warn",
        lambda s: s.report.environment.local and s.analysis.saturation is not None
        and s.analysis.saturation.client_share >= s.cutoffs.client,
        CLIENT + " That is a large share: read the throughput as a lower bound.",
    ),
    Rule(
        "client-cost", "info",
        lambda s: s.report.environment.local and s.analysis.saturation is not None,
        CLIENT,
    ),
    Rule(
        "client-ceiling", "warn", lambda s: near_ceiling(s) is not None,
        lambda s: [
            f"At {{runs.{near_ceiling(s)}.generator.offered_per_s:per_second}} the load was more "
            "than half of what one client process of this machine sends in time "
            "({ceiling.rate_hz:per_second}), with {options.client_processes} of them: latencies "
            "hold the client's delays. More client processes (--client-processes) have room for it."
        ],
    ),
    Rule(
        "lost-time", "warn",
        lambda s: s.analysis.balance is not None and s.analysis.balance < s.cutoffs.balance,
        "Only {emptiest.in_flight:.2f} requests were under way on average with "
        "{emptiest.sessions:sessions}: in the rest of the time the client had other work, or "
        "waited before it tried again. Throughput is a lower bound.",
    ),
    Rule(
        "repeatability", "warn",
        lambda s: above(s.analysis.repeat_share, s.cutoffs.repeat),
        "One request at a time was measured twice, with {alone.goodput_per_s:per_second} and "
        "{again.goodput_per_s:per_second}: differences of up to {analysis.repeat_share:percent} "
        "in this report are noise.",
    ),
    Rule(
        "unprinted-percentiles", "info",
        lambda s: bool(unprinted(s)),
        lambda s: [
            "Not printed for lone requests: "
            + "; ".join(f"{n} ({{alone.latency.percentiles.{n}.reason}})" for n in unprinted(s))
            + "."
        ],
    ),
    Rule(
        "skipped-images", "warn",
        lambda s: bool(s.report.images.skipped),
        "Left out: {images.skipped_count:files} that cannot be decoded, the first being "
        "{images.skipped.0.name} ({images.skipped.0.reason}); the whole list is under Images.",
    ),
    Rule(
        "few-images", "info",
        lambda s: s.report.images.used < FEW_IMAGES,
        "The load was {images.used:files} alone, again and again: a service or proxy that keeps "
        "answers would look faster than it is.",
    ),
    Rule(
        "unseen-server", "info",
        server_unseen,
        "CPU and memory of the service are unknown ({first.usage.server_unknown}), so "
        "its limit is judged by time alone.",
    ),
)  # fmt: skip

# What the curves show: the knee, the limit, where the time goes, what waiting costs.
EXPLANATIONS = (
    Rule(
        "curve-few-answers", "warn",
        lambda s: s.analysis.knee is not None
        and (s.analysis.fewest_answers or 0) < s.cutoffs.answers,
        UNKNOWN + "a point has {analysis.fewest_answers} answers, and "
        "{analysis.thresholds.answers} are needed. Give each point more time (--point-s).",
        group="curve",
    ),
    Rule(
        "curve-disturbed", "warn",
        lambda s: s.analysis.knee is not None and not s.analysis.curve_told,
        UNKNOWN + "others took up to {analysis.noise.other_share:percent} of the cores.",
        group="curve",
    ),
    Rule(
        "knee", "info", knee_known,
        "The knee is at {analysis.knee.sessions:sessions} with "
        "{analysis.knee.goodput_per_s:per_second}: the fewest that reach "
        "{analysis.thresholds.knee:percent} of the best goodput "
        "({analysis.knee.best_goodput_per_s:per_second}, {analysis.knee.gain:times} that of the "
        "fewest sessions). More sessions add almost nothing.",
        group="curve",
    ),
    Rule(
        "no-knee", "info", lambda s: s.analysis.knee is not None,
        "No knee was reached: goodput still grew up to {analysis.knee.sessions:sessions} "
        "({analysis.knee.goodput_per_s:per_second}, {analysis.knee.gain:times} that of the fewest "
        "sessions). The knee would be where {analysis.thresholds.knee:percent} of the best goodput "
        "is reached first.",
        group="curve",
    ),
    Rule(
        "limit-client", "warn", lambda s: limit(s) == "client",
        "The client is the limit: with {best.sessions:sessions} it kept "
        f"{CLIENT_BUSY} cores busy and can use one; the service used {BUSY} of "
        "{environment.cpu.cores}. The service may be faster than this report says.",
    ),
    Rule(
        "limit-cores", "info", lambda s: limit(s) == "cores",
        "The cores are the limit: with {best.sessions:sessions} the service kept "
        f"{BUSY} and the client {CLIENT_BUSY} of "
        "{environment.cpu.cores} busy. An answer costs the service "
        "{analysis.saturation.server_cpu_s:core_milliseconds} of one core's time, so these cores "
        "could give {analysis.saturation.ceiling_per_s:per_second} at most if it had them to "
        "itself.",
    ),
    Rule(
        "limit-others", "warn", lambda s: limit(s) == "others",
        "The machine was full, but not with this service: with {best.sessions:sessions} it kept "
        f"{BUSY} cores busy, the client {CLIENT_BUSY}, and others "
        "{best.usage.machine.other_cores:cores} of {environment.cpu.cores}. This report "
        "does not show what the service could reach alone.",
    ),
    Rule(
        "limit-lanes", "warn", lambda s: limit(s) == "lanes",
        "The cores are not the limit: at the best point ({best.sessions:sessions}) the service "
        f"kept {BUSY} and the client {CLIENT_BUSY} of "
        "{environment.cpu.cores} busy. The service works on too few requests at a time, or waits "
        "for something other than a core.",
    ),
    Rule("time-by-stage", "info", lambda s: s.analysis.work_alone is not None, stages_text),
    Rule(
        "work-engine", "info", engine_dominates,
        "The engine dominates: {analysis.work_alone.infer_share:percent} of the service's work on "
        "a lone request is inference, {analysis.work_alone.image_share:percent} is decoding, pre- "
        "and postprocessing.",
        group="work",
    ),
    Rule(
        "work-image", "warn", lambda s: infer_share(s) is not None,
        "The model is not the main cost: {analysis.work_alone.infer_share:percent} of the "
        "service's work on a lone request is inference, against "
        "{analysis.work_alone.image_share:percent} for decoding, pre- and postprocessing.",
        group="work",
    ),
    Rule(
        "transport", "warn",
        lambda s: s.analysis.work_alone is not None
        and s.analysis.work_alone.transport_share >= s.cutoffs.transport,
        "{analysis.work_alone.transport_share:percent} of a lone request's latency "
        "({alone.stages.transport_ms:milliseconds}) passes outside the service's own clock: "
        "network, HTTP on both sides and waiting for a core.",
    ),
    Rule(
        "queueing", "info",
        lambda s: s.analysis.queueing is not None and s.analysis.curve_told,
        queueing_text,
    ),
)  # fmt: skip

# What to change next; failures come before speed.
ADVICE = (
    Rule(
        "next-refused", "bad",
        lambda s: s.analysis.failures.failed > 0 and s.analysis.failures.commonest in REFUSALS,
        "The service refused requests ({analysis.failures.commonest}; "
        "{analysis.failures.failed} of {analysis.failures.requests} failed). Seatrial refuses what "
        "would miss its deadline: send less at a time (--sessions, --rate, --images-per-query), or "
        "give requests more time (limits.deadline_s in the deployment file). Other advice applies "
        "to a service that answers.",
    ),
    Rule(
        "next-errors", "bad",
        lambda s: s.analysis.failures.failed > 0 and s.analysis.failures.commonest not in REFUSALS,
        "First find out why requests fail ({analysis.failures.commonest}, "
        "{analysis.failures.failed} of {analysis.failures.requests}): the service's log has more "
        "detail than the client. Other advice applies to a service that answers.",
    ),
    Rule(
        "next-quiet-machine", "warn",
        lambda s: above(s.analysis.noise.other_share, s.cutoffs.noise),
        "Repeat on a quiet machine before the figures are published: others took up to "
        "{analysis.noise.other_share:percent} of the cores.",
    ),
    Rule(
        "next-precision", "info", bf16_would_help,
        lambda s: [
            "Inference is {analysis.work_alone.infer_share:percent} of the work and runs in "
            "{model.precision}, and this CPU has "
            f"{{environment.cpu.features.{bf16_feature(s)}}}: try --precision bf16 where the "
            "engine offers it, and check accuracy on the same artifact."
        ],
    ),
    Rule(
        "next-smaller-pictures", "info",
        lambda s: s.analysis.work_alone is not None
        and s.analysis.work_alone.largest == "decode"
        and s.report.images.megapixels_mean >= LARGE_MEGAPIXELS,
        "Decoding is the largest part of the work ({analysis.work_alone.largest_share:percent}) "
        "and the images have {images.megapixels_mean:megapixels} on average "
        "({images.bytes_mean:kibibytes}): send them smaller, closer to the size of the model's "
        "input.",
    ),
    Rule(
        "next-more-instances", "info", cores_idle_at_best,
        "Only {analysis.saturation.used_share:percent} of the {environment.cpu.cores} cores' time "
        "was used at the plateau: let the service work on more requests at a time (more instances "
        "or workers, or more threads in each).",
    ),
    Rule(
        "next-wider-single", "info", cores_idle_for_one,
        "A lone request keeps {alone.usage.server.busy_cores:cores} of {environment.cpu.cores} "
        "cores busy and is {analysis.work_alone.infer_share:percent} inference: if single requests "
        "must be faster, give each one more threads.",
    ),
    Rule(
        "next-limit-concurrency", "info",
        lambda s: s.analysis.queueing is not None and s.analysis.curve_told
        and s.analysis.queueing.latency_factor >= WORSE,
        "Limit concurrency to about {analysis.knee.sessions:sessions} (in the service or in the "
        "callers): {analysis.knee.last_sessions:sessions} made mean latency "
        "{analysis.queueing.latency_factor:times} as long for "
        "{analysis.queueing.goodput_gain:percent} of goodput.",
    ),
    Rule(
        "next-more-sessions", "info", lambda s: knee_known(s, reached=False),
        "Measure with more than {analysis.knee.last_sessions:sessions}: the best point was the "
        "last one, so this report does not show where the service stops scaling.",
    ),
)  # fmt: skip

TABLE: dict[Kind, tuple[Rule, ...]] = {
    "headline": HEADLINES,
    "caveat": CAVEATS,
    "explanation": EXPLANATIONS + OPEN_LOOP,
    "advice": ADVICE,
}
