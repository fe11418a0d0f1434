"""Scenarios as data: which loads are put on a service, in which order."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from seatrial.bench.options import SINGLE_STREAM_S, BenchOptions
from seatrial.config import flag
from seatrial.errors import InvalidConfig, did_you_mean
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.window import Load

# Per session: the first request opens the connection, the second one is like the rest.
WARMUP_PER_SESSION = 2


class Scenario(msgspec.Struct, frozen=True):
    """A name and its loads; each gives one measurement of the report."""

    name: str
    loads: tuple[Load, ...]


def _load(options: BenchOptions, sessions: int, measure_s: float, seed: int) -> Load:
    return Load(
        arrivals=ClosedLoop(sessions),
        measure_s=measure_s,
        warmup_s=options.warmup_s,
        warmup_requests=WARMUP_PER_SESSION * sessions,
        timeout_s=options.timeout_s,
        image_seed=seed,
        schedule_seed=seed,
    )


def _single_stream(options: BenchOptions) -> tuple[Load, ...]:
    longest = SINGLE_STREAM_S if options.single_stream_s is None else options.single_stream_s
    load = _load(options, 1, longest, options.seed)
    return (msgspec.structs.replace(load, requests=options.single_stream_requests),)


def _scaling(options: BenchOptions) -> tuple[Load, ...]:
    # Another order at each point: a service that caches answers gains less.
    return tuple(_load(options, n, options.point_s, options.seed + n) for n in options.sessions)


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
    """Longest time that the scenarios take on a service that answers, seconds."""
    return sum(load.warmup_s + load.measure_s for scenario in scenarios for load in scenario.loads)


def _check(options: BenchOptions) -> None:
    for name in options.scenarios:
        if name not in SCENARIOS:
            hint = did_you_mean(name, SCENARIOS, otherwise=f"known: {', '.join(SCENARIOS)}")
            raise InvalidConfig(f"unknown scenario {name!r}", hint=hint)
    if not options.scenarios:
        raise InvalidConfig("no scenario to run", hint=f"known: {', '.join(SCENARIOS)}")
    rising = sorted(set(options.sessions)) == list(options.sessions)
    if not options.sessions or options.sessions[0] < 1 or not rising:
        message = f"--sessions must be rising whole numbers from 1, not {list(options.sessions)}"
        raise InvalidConfig(message, hint="for example 1, 2, 4, 8")
    above_0 = ("image_limit", "single_stream_requests", "single_stream_s", "point_s", "timeout_s")
    for key in (*above_0, "latency_limit_ms"):
        value = getattr(options, key)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InvalidConfig(f"{flag(key)} must be a number of more than 0, not {value}")
    for key in ("warmup_s", "ready_s"):
        value = getattr(options, key)
        if not (value >= 0 and math.isfinite(value)):
            raise InvalidConfig(f"{flag(key)} must be 0 or more, not {value}")
