"""What the measurements mean, in words that can be traced to numbers of the report."""

from __future__ import annotations

from collections.abc import Callable

from seatrial.bench import advice, caveats, explain
from seatrial.bench.quotes import Facts
from seatrial.bench.report_data import BenchReport, Evidence, Finding
from seatrial.report.numbers import milliseconds, sessions, significant

Rule = Callable[[Facts], Finding | None]


def interpret(report: BenchReport) -> tuple[Finding, ...]:
    """All findings that follow from a report: summary, caveats, explanations, advice.

    A rule that has too little data to judge says nothing.
    """
    facts = Facts(report)
    rules: tuple[Rule, ...] = (headline, *caveats.RULES, *explain.RULES, *advice.RULES)
    return tuple(finding for finding in (rule(facts) for rule in rules) if finding is not None)


def headline(facts: Facts) -> Finding:
    """The one sentence that a reader takes away."""
    analysis = facts.report.analysis
    subject, quotes = _subject(facts)
    if analysis.alone is None and analysis.knee is None:
        quotes["failed"] = facts.quote("/analysis/failures/failed")
        quotes["requests"] = facts.quote("/analysis/failures/requests")
        text = subject + " gave no usable answer: {failed} of {requests} requests failed."
        return facts.say("headline", "headline", "bad", text, **quotes)
    parts = []
    if analysis.knee is not None:
        parts.append("{best} good answers a second at best, with {sessions}")
        quotes["best"] = facts.quote("/analysis/knee/best_goodput_per_s", significant)
        quotes["sessions"] = facts.quote("/analysis/knee/best_sessions", sessions)
    if analysis.alone is not None:
        typical = analysis.alone + "/latency/percentiles/p50/value_ms"
        measured = facts.point(analysis.alone).latency.percentiles["p50"].value_ms is not None
        path = typical if measured else analysis.alone + "/latency/mean_ms"
        parts.append(f"a lone request takes {{alone}} ({'p50' if measured else 'mean'})")
        quotes["alone"] = facts.quote(path, milliseconds)
    text = f"{subject}: {'; '.join(parts)}."
    if analysis.failures.failed:
        return facts.say("headline", "headline", "warn", text, **quotes)
    return facts.say("headline", "headline", "good", text, **quotes)


def _subject(facts: Facts) -> tuple[str, dict[str, Evidence]]:
    if not facts.model_text("name"):
        return "The service at {url}", {"url": facts.quote("/target/url")}
    quotes = {"name": facts.quote("/model/name")}
    details = [key for key in ("engine", "precision", "device") if facts.model_text(key)]
    quotes.update({key: facts.quote(f"/model/{key}") for key in details})
    words = ", ".join(f"{{{key}}}" for key in details)
    return "{name}" + (f" ({words})" if words else ""), quotes
