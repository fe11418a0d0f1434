"""Scenarios as data: which loads are put on a service, in which order."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable

import msgspec

from seatrial.errors import InvalidConfig
from seatrial.load.run import Load
from seatrial.load.statistics import PERCENTILES, samples_needed

# The smallest sample that every percentile of the report can be printed for: 662.
ENOUGH_REQUESTS = max(samples_needed(fraction) for fraction in PERCENTILES.values())
# Per session: the first request opens the connection, the second one is like the rest.
WARMUP_PER_SESSION = 2


class BenchOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured and for how long.

    Attributes:
        images: Folder of pictures.
        image_limit: Most pictures used of it.
        scenarios: Names in `SCENARIOS`, in the order they run.
        sessions: Requests in flight of the scenario `scaling`, one point each.
        single_stream_requests: `single-stream` ends after as many requests ...
        single_stream_s: ... or after this time, whichever is first.
        point_s: Measured window of one point of `scaling`.
        warmup_s: Warm-up before each window; counted nowhere.
        timeout_s: A request that takes longer failed.
        latency_limit_ms: Answers slower than this do not count as goodput; None: no limit.
        ready_s: How long a service that says "not ready" is waited for.
        seed: Of the sample of pictures and of each session's order.
    """

    images: str
    image_limit: int = 256
    scenarios: tuple[str, ...] = ("single-stream", "scaling")
    sessions: tuple[int, ...] = (1, 2, 4, 8)
    single_stream_requests: int = ENOUGH_REQUESTS
    single_stream_s: float = 30.0
    point_s: float = 7.0
    warmup_s: float = 1.0
    timeout_s: float = 30.0
    latency_limit_ms: float | None = None
    ready_s: float = 30.0
    seed: int = 0


class Scenario(msgspec.Struct, frozen=True):
    """A name and its loads, one point of the report each."""

    name: str
    loads: tuple[Load, ...]


def _single_stream(options: BenchOptions) -> tuple[Load, ...]:
    load = Load(
        sessions=1,
        seconds=options.single_stream_s,
        requests=options.single_stream_requests,
        warmup_s=options.warmup_s,
        warmup_requests=WARMUP_PER_SESSION,
        timeout_s=options.timeout_s,
        seed=options.seed,
    )
    return (load,)


def _scaling(options: BenchOptions) -> tuple[Load, ...]:
    return tuple(
        Load(
            sessions=sessions,
            seconds=options.point_s,
            warmup_s=options.warmup_s,
            warmup_requests=WARMUP_PER_SESSION * sessions,
            timeout_s=options.timeout_s,
            # Another order at each point: a service that caches answers gains less.
            seed=options.seed + sessions,
        )
        for sessions in options.sessions
    )


SCENARIOS: dict[str, Callable[[BenchOptions], tuple[Load, ...]]] = {
    "single-stream": _single_stream,
    "scaling": _scaling,
}


def plan(options: BenchOptions) -> tuple[Scenario, ...]:
    """The scenarios that the options ask for.

    Raises:
        InvalidConfig: An unknown scenario, or a number out of its range.
    """
    _check(options)
    return tuple(Scenario(name, SCENARIOS[name](options)) for name in options.scenarios)


def longest_s(scenarios: tuple[Scenario, ...]) -> float:
    """Time that the scenarios take at most on a service that answers, seconds."""
    return sum(load.warmup_s + load.seconds for scenario in scenarios for load in scenario.loads)


def _check(options: BenchOptions) -> None:
    for name in options.scenarios:
        if name not in SCENARIOS:
            nearest = difflib.get_close_matches(name, SCENARIOS, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(SCENARIOS)}"
            raise InvalidConfig(f"unknown scenario {name!r}", hint=hint)
    if not options.scenarios:
        raise InvalidConfig("no scenario to run", hint=f"known: {', '.join(SCENARIOS)}")
    rising = sorted(set(options.sessions)) == list(options.sessions)
    if not options.sessions or options.sessions[0] < 1 or not rising:
        message = f"sessions must be rising whole numbers from 1, not {list(options.sessions)}"
        raise InvalidConfig(message, hint="for example 1, 2, 4, 8")
    positive = ["image_limit", "single_stream_requests", "single_stream_s", "point_s", "timeout_s"]
    if options.latency_limit_ms is not None:
        positive.append("latency_limit_ms")
    for key in positive:
        value = getattr(options, key)
        if not (value > 0 and math.isfinite(value)):
            raise InvalidConfig(f"{key} must be a number of more than 0, not {value}")
    if not (options.warmup_s >= 0 and math.isfinite(options.warmup_s)):
        raise InvalidConfig(f"warmup_s must not be negative, and is {options.warmup_s}")
