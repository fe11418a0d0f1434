"""The one sentence that a reader takes away from a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seatrial.bench.conditions import unprinted
from seatrial.bench.quotes import Scope

# From this share of all requests on, failures are more than a warning.
MANY_FAILURES = 0.01


def subject(scope: Scope) -> str:
    """Name of what was measured; engine, precision and device where the service reports them."""
    if not scope.model_text("name"):
        return "The service at {target.url}"
    known = [key for key in ("engine", "precision", "device") if scope.model_text(key)]
    details = ", ".join(f"{{model.{key}}}" for key in known)
    return "{model.name}" + (f" ({details})" if details else "")


def headline(scope: Scope) -> Sequence[str]:
    """The one sentence that a reader takes away."""
    parts = []
    if scope.analysis.failures.share >= MANY_FAILURES:
        parts.append("{analysis.failures.share:percent} of the requests failed")
    if scope.analysis.knee is not None:
        parts.append(
            "{analysis.knee.best_goodput_per_s:significant} good answers a second at best, with "
            "{analysis.knee.best_sessions:sessions}"
        )
    if scope.analysis.alone is not None:
        known = "p50" not in unprinted(scope)
        path = "latency.percentiles.p50.value_ms" if known else "latency.mean_ms"
        which = "p50" if known else "mean"
        parts.append(f"a lone request takes {{alone.{path}:milliseconds}} ({which})")
    arrivals = scope.point("arrivals")
    searched = search_index(scope)
    if searched is not None:
        parts.append(search_text(scope, searched))
    elif arrivals is not None:
        found = arrivals.latency.percentiles
        name = next((n for n in ("p99", "p90", "p50") if found[n].value_ms is not None), "")
        value = f"latency.percentiles.{name}.value_ms" if name else "latency.mean_ms"
        parts.append(
            f"requests that arrive by themselves ({{arrivals.law}}) are answered within "
            f"{{arrivals.{value}:milliseconds}} ({name or 'mean'})"
        )
    if scope.analysis.knee is None and scope.analysis.alone is None and arrivals is None:
        parts += [] if searched is not None else [*_rates(scope)]
    return [f"{subject(scope)}: {'; '.join(parts)}."]


def _rates(scope: Scope) -> Iterator[str]:
    """Answers of each run in a second, by its unit."""
    for n, run in enumerate(scope.report.runs):
        if run.points and run.points[0].void:
            yield f"a window of {run.scenario} is void"
            continue
        path = f"{{runs.{n}.points.0.goodput_per_s:significant}}"
        if run.points and run.points[0].images_per_query > 1:
            images = f"{{runs.{n}.points.0.images_per_query}}"
            yield f"{path} queries of {images} images a second ({run.scenario})"
        elif run.points:
            yield f"{path} good answers a second ({run.scenario})"


def search_index(scope: Scope) -> int | None:
    """Index of the run that searched the highest rate; None without one."""
    return next((n for n, run in enumerate(scope.report.runs) if run.search is not None), None)


def search_text(scope: Scope, index: int) -> str:
    """The answer of a search for the highest rate, as a part of a sentence."""
    at, found = f"runs.{index}", scope.report.runs[index].search
    assert found is not None  # noqa: S101 - the caller has asked
    held = f"{{{at}.percentile}} latency of at most {{{at}.limit_ms:milliseconds}}"
    rate = f"{{{at}.search.rate_hz:per_second}}"
    ends = f"{{{at}.search.low_hz:significant}} to {{{at}.search.high_hz:significant}}"
    low, high = (f"{{{at}.search.{end}_hz:per_second}}" for end in ("low", "high"))
    late = "before the search had no more time"
    open_end = {
        (True, True): f"{held} holds up to about {rate} ({ends}: the search had no more time)",
        (True, False): f"{held} holds at {low}; of higher rates nothing was shown {late}",
        (False, True): f"{held} holds up to about {rate} by trials that were too short to be sure "
        f"of any rate {late}; it does not hold at {high}",
        (False, False): f"{held} was shown neither to hold nor to fail at any rate {late}; the "
        f"highest that was tried was {high}",
    }
    return {
        "found": f"{held} holds up to {rate} ({ends})",
        "budget": open_end[found.low_hz > 0, found.bounded],
        "below-minimum": f"{held} does not hold at {{{at}.search.high_hz:per_second}}",
        "above-maximum": f"{held} holds at {rate}, the highest rate that was tried",
        "void": f"the highest rate with {held} was not found: too many windows were void",
    }[found.ended]
