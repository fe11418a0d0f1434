"""Caveats on what was measured: an early end, requests that were sent again, unread answers."""

from __future__ import annotations

from collections.abc import Callable

from seatrial.bench.conditions import saw_nothing
from seatrial.bench.measurement import Measurement
from seatrial.bench.quotes import Rule, Scope
from seatrial.load.samples import UNREADABLE


def most(scope: Scope, number: Callable[[Measurement], int]) -> str | None:
    """Place of the measurement with the highest number; None where all are 0."""
    counted = {
        f"runs.{n}.points.{m}": number(point)
        for n, run in enumerate(scope.report.runs)
        for m, point in enumerate(run.points)
        if number(point)
    }
    return max(counted, key=lambda place: counted[place], default=None)


def retried(point: Measurement) -> int:
    """Number of requests that were sent again."""
    return point.retried


def unreadable(point: Measurement) -> int:
    """Number of good answers without detections."""
    return point.errors.get(UNREADABLE, 0)


ANSWERS = (
    Rule(
        "interrupted", "warn", lambda s: s.report.interrupted,
        "The benchmark was interrupted after {elapsed_s:.0f} s. The loads that were not complete "
        "are missing; of a soak, the time until then counts.",
    ),
    Rule(
        "cut", "bad", lambda s: bool(s.report.failure),
        "The benchmark ended early: {failure}. The loads that were not complete are missing.",
    ),
    Rule(
        "unreadable-answers", "bad", lambda s: most(s, unreadable) is not None,
        lambda s: [
            f"{{{most(s, unreadable)}.errors.{UNREADABLE}}} answers of one measurement had a good "
            "status and no detections that can be read, although the service's first answer had "
            "them. They count as failures: an overloaded service or gateway may say so with a "
            "good status."
        ],
    ),
    Rule(
        "closed-connections", "warn", lambda s: most(s, retried) is not None,
        lambda s: [
            f"The service closed connections without a word: {{{most(s, retried)}.retried}} of "
            f"{{{most(s, retried)}.finished}} requests of one measurement were sent again on a new "
            "connection. Their latency counts from the first send. Keep connections open for "
            "longer than the pauses between requests, or answer with `Connection: close`; if none "
            "was idle, look in the service's log whether a process of it ended."
        ],
    ),
    Rule(
        "no-detections", "warn", saw_nothing,
        "No good answer held a detection. The figures say how fast the service answers, not that "
        "it works: with broken weights it would answer as fast. Send images of what it detects.",
    ),
)  # fmt: skip
