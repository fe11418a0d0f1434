"""What to change next; each piece follows from a figure of the report, or is not given."""

from __future__ import annotations

from seatrial.bench.quotes import Facts
from seatrial.bench.report_data import Finding
from seatrial.report.numbers import cores, kibibytes, megapixels, percent, sessions, times

BF16_FEATURES = ("avx512_bf16", "amx_bf16")
# From this size on a picture has more pixels than a detector's usual 640 x 640 canvas.
LARGE_MEGAPIXELS = 0.5
# Sessions beyond the knee that make latency worse by less than this are not worth a word.
WORSE = 1.3


def repair_errors(facts: Facts) -> Finding | None:
    """Failures come before speed."""
    seen = facts.report.analysis.failures
    if not seen.failed:
        return None
    return facts.say(
        "next-errors",
        "advice",
        "bad",
        "First find out why requests fail ({error}, {failed} of {requests}): the service's log "
        "says more than the client sees. Other advice holds for a service that answers.",
        error=facts.quote("/analysis/failures/commonest"),
        failed=facts.quote("/analysis/failures/failed"),
        requests=facts.quote("/analysis/failures/requests"),
    )


def lower_precision(facts: Facts) -> Finding | None:
    """bfloat16, where the engine dominates and the CPU has it."""
    analysis, machine = facts.report.analysis, facts.report.environment
    work = analysis.work_alone
    features = machine.cpu.features
    index = next((n for n, name in enumerate(features) if name in BF16_FEATURES), None)
    engine_dominates = (
        work is not None
        and work.infer_share is not None
        and work.infer_share >= analysis.thresholds.dominant
    )
    on_this_cpu = machine.local and facts.model_text("device").lower() in ("cpu", "")
    is_f32 = facts.model_text("precision") == "f32"
    if index is None or not (engine_dominates and on_this_cpu and is_f32):
        return None
    return facts.say(
        "next-precision",
        "advice",
        "info",
        "Inference is {infer} of the work and runs in {precision}, and this CPU has {feature}: try "
        "--precision bf16 where the engine offers it, and check accuracy on the same artifact.",
        infer=facts.quote("/analysis/work_alone/infer_share", percent),
        precision=facts.quote("/model/precision"),
        feature=facts.quote(f"/environment/cpu/features/{index}"),
    )


def smaller_pictures(facts: Facts) -> Finding | None:
    """Where the work on the picture outweighs the model and the pictures are large."""
    analysis, images = facts.report.analysis, facts.report.images
    work = analysis.work_alone
    if work is None or work.largest != "decode" or images.megapixels_mean < LARGE_MEGAPIXELS:
        return None
    return facts.say(
        "next-smaller-pictures",
        "advice",
        "info",
        "Decoding is the largest part of the work ({share}) and the pictures have {size} on "
        "average ({bytes}): send them smaller, closer to the size of the model's input.",
        share=facts.quote("/analysis/work_alone/largest_share", percent),
        size=facts.quote("/images/megapixels_mean", megapixels),
        bytes=facts.quote("/images/bytes_mean", kibibytes),
    )


def limit_concurrency(facts: Facts) -> Finding | None:
    """Waiting in the service buys nothing."""
    waiting, told = facts.report.analysis.queueing, facts.report.analysis.curve_told
    if waiting is None or not told or waiting.latency_factor < WORSE:
        return None
    return facts.say(
        "next-limit-concurrency",
        "advice",
        "info",
        "Let no more than about {knee} in at a time (a limit in the service or in the callers): "
        "{last} made mean latency {factor} as long for {gain} of goodput.",
        knee=facts.quote("/analysis/knee/sessions", sessions),
        last=facts.quote("/analysis/knee/last_sessions", sessions),
        factor=facts.quote("/analysis/queueing/latency_factor", times),
        gain=facts.quote("/analysis/queueing/goodput_gain", percent),
    )


def more_instances(facts: Facts) -> Finding | None:
    """Idle cores on the plateau."""
    analysis, best = facts.report.analysis, facts.best_path
    used, found = analysis.saturation, analysis.knee
    if used is None or found is None or best is None or not found.reached:
        return None
    if not analysis.curve_told:
        return None
    machine = facts.point(best).usage.machine
    others = 0.0 if machine is None else machine.other_cores or 0.0
    full = used.used_share + others / facts.report.environment.cpu.cores
    if full >= analysis.thresholds.idle:
        return None
    return facts.say(
        "next-more-instances",
        "advice",
        "info",
        "Only {used} of the {cores} cores' time was used at the plateau: let the service work on "
        "more requests at a time (more instances or workers, or more threads in each).",
        used=facts.quote("/analysis/saturation/used_share", percent),
        cores=facts.quote("/environment/cpu/cores"),
    )


def wider_single(facts: Facts) -> Finding | None:
    """A lone request that leaves cores idle while inference dominates."""
    analysis, path = facts.report.analysis, facts.report.analysis.alone
    work, busy = analysis.work_alone, analysis.alone_busy_share
    if path is None or busy is None or work is None or work.infer_share is None:
        return None
    if work.infer_share < analysis.thresholds.dominant:
        return None
    usable, machine = facts.report.environment.cpu.cores, facts.point(path).usage.machine
    others = 0.0 if machine is None else (machine.other_cores or 0.0) / usable
    # Its inference may have all cores already, and others keep it from them.
    if usable < 2 or busy + others >= analysis.thresholds.idle or facts.lone_threads >= usable:
        return None
    return facts.say(
        "next-wider-single",
        "advice",
        "info",
        "A lone request keeps {busy} of {cores} cores busy and is {infer} inference: if single "
        "requests must be faster, give each one more threads.",
        busy=facts.quote(f"{path}/usage/server/busy_cores", cores),
        cores=facts.quote("/environment/cpu/cores"),
        infer=facts.quote("/analysis/work_alone/infer_share", percent),
    )


def more_sessions(facts: Facts) -> Finding | None:
    """The curve was cut off while it rose."""
    found = facts.report.analysis.knee
    if found is None or found.reached or not facts.report.analysis.curve_told:
        return None
    return facts.say(
        "next-more-sessions",
        "advice",
        "info",
        "Measure with more than {last}: the best point was the last one, so this report does not "
        "know where the service stops scaling.",
        last=facts.quote("/analysis/knee/last_sessions", sessions),
    )


def quiet_machine(facts: Facts) -> Finding | None:
    """Repeat what was disturbed."""
    analysis = facts.report.analysis
    share = analysis.noise.other_share
    if share is None or share <= analysis.thresholds.noise:
        return None
    return facts.say(
        "next-quiet-machine",
        "advice",
        "warn",
        "Repeat on a quiet machine before the figures are published: others took up to {share} of "
        "the cores.",
        share=facts.quote("/analysis/noise/other_share", percent),
    )


RULES = (
    repair_errors,
    quiet_machine,
    lower_precision,
    smaller_pictures,
    more_instances,
    wider_single,
    limit_concurrency,
    more_sessions,
)
