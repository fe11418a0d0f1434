"""Scenarios as data: which loads are put on a service, in which order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from seatrial.bench.options import SINGLE_STREAM_S, BenchOptions, check_seeds
from seatrial.config import flag, read_toml
from seatrial.contract import ServerClause
from seatrial.errors import InvalidConfig, did_you_mean
from seatrial.load.arrivals import LAWS_BY_RATE, ClosedLoop, Law, OpenLoop
from seatrial.load.images import ImageSet
from seatrial.load.rate_search import RateGoal
from seatrial.load.replay import Logged, logged, read_log
from seatrial.load.statistics import PERCENTILES, samples_needed
from seatrial.load.window import Load

# Per session: the first request opens the connection, the second one is like the rest.
WARMUP_PER_SESSION = 2
SERVER_S, LONGEST_SERVER_S = 30.0, 180.0
SHORTEST_SEARCH_S = RateGoal().shortest_s
LONGEST_S = 30 * 86_400.0  # of a load; that of a folder ends with its last image


class Scenario(msgspec.Struct, frozen=True):
    """A name and its loads; each gives one measurement of the report.

    Attributes:
        longest_s: Longest time that the scenario takes on a service that answers, seconds.
        law_at: Arrival law at a rate, where the highest rate that holds is searched; None where
            the loads are known.
        limit_ms: Latency that must hold at that rate.
    """

    name: str
    loads: tuple[Load, ...]
    longest_s: float
    law_at: Callable[[float], OpenLoop] | None = None
    limit_ms: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests arrive by a schedule, whatever the answers do."""
        return self.law_at is not None or self.loads[0].loop == "open"


def closed_load(options: BenchOptions, law: ClosedLoop, measure_s: float, seed: int) -> Load:
    """A closed loop with the times of the options."""
    return Load(
        arrivals=law,
        measure_s=measure_s,
        warmup_s=options.warmup_s,
        warmup_requests=WARMUP_PER_SESSION * law.sessions,
        timeout_s=options.timeout_s,
        image_seed=seed,
        think_seed=seed if options.think_seed is None else options.think_seed,
    )


def open_load(
    options: BenchOptions,
    law: OpenLoop,
    measure_s: float,
    seed: int,
    *,
    warmup_s: float | None = None,
) -> Load:
    """An open loop with the times of the options."""
    return Load(
        arrivals=law,
        measure_s=measure_s,
        warmup_s=options.warmup_s if warmup_s is None else warmup_s,
        timeout_s=options.timeout_s,
        image_seed=seed,
        # Another one for each rate and trial, as --seed is: they would share their chance.
        schedule_seed=seed
        if options.schedule_seed is None
        else options.schedule_seed + seed - options.seed,
    )


def _single_stream(options: BenchOptions, images: ImageSet | None) -> tuple[Load, ...]:
    longest = SINGLE_STREAM_S if options.single_stream_s is None else options.single_stream_s
    load = closed_load(options, ClosedLoop(1), longest, options.seed)
    return (msgspec.structs.replace(load, requests=options.single_stream_requests),)


def _multi_stream(options: BenchOptions, images: ImageSet | None) -> tuple[Load, ...]:
    (load,) = _single_stream(options, images)
    law = ClosedLoop(1, images_per_query=options.images_per_query)
    return (msgspec.structs.replace(load, arrivals=law),)


def _scaling(options: BenchOptions, images: ImageSet | None) -> tuple[Load, ...]:
    # Another order at each point: a service that caches answers gains less.
    return tuple(
        closed_load(
            options,
            ClosedLoop(n, options.think_time_s, options.thinking),
            options.point_s,
            options.seed + n,
        )
        for n in options.sessions
    )


def _offline(options: BenchOptions, images: ImageSet | None) -> tuple[Load, ...]:
    law = ClosedLoop(options.offline_sessions, once=True)
    # A folder takes as long as it takes: the last image ends the load.
    return (closed_load(options, law, LONGEST_S, options.seed),)


def _server(options: BenchOptions, images: ImageSet | None) -> tuple[Load, ...]:
    return tuple(
        open_load(options, law, _server_s(options, law), options.seed + n)
        for n, law in enumerate(_laws(options))
    )


def _soak(options: BenchOptions, images: ImageSet | None) -> tuple[Load, ...]:
    laws = _laws(options)
    if len(laws) != 1:
        rates = ", ".join(f"{rate:g}" for rate in options.rates)
        raise InvalidConfig(
            f"the scenario soak runs at one rate, and --rate names several: {rates}"
            if laws
            else "the scenario soak needs a rate of arrivals",
            hint="for example --rate 10, below what the service can do",
        )
    return (open_load(options, laws[0], options.soak_s, options.seed),)


def _replay(options: BenchOptions, images: ImageSet | None) -> tuple[Load, ...]:
    if options.log is None:
        raise InvalidConfig(
            "the scenario replay needs a log of requests",
            hint="--log requests.csv, with a column timestamp (seconds, or ISO 8601)",
        )
    log = read_log(Path(options.log))
    law = Logged(log, options.speed)
    if images is not None:
        law = logged(log, images.images, speed=options.speed, seed=options.seed)
    load = open_load(options, law, law.window_s, options.seed)
    # Every request of a log counts.
    return (msgspec.structs.replace(load, warmup_s=0.0),)


SCENARIOS: dict[str, Callable[[BenchOptions, ImageSet | None], tuple[Load, ...]]] = {
    "single-stream": _single_stream,
    "multi-stream": _multi_stream,
    "server": _server,
    "offline": _offline,
    "scaling": _scaling,
    "replay": _replay,
    "soak": _soak,
}


# Options that not all scenarios read -> the scenarios that do.
READERS: dict[str, tuple[str, ...]] = {
    "sessions": ("scaling",),
    "single_stream_requests": ("single-stream", "multi-stream"),
    "single_stream_s": ("single-stream", "multi-stream"),
    "point_s": ("scaling",),
    "server_s": ("server",),
    "rates": ("server", "soak"),
    "arrivals": ("server", "soak"),
    "percentile": ("server",),
    "search_s": ("server",),
    "think_time_s": ("scaling",),
    "thinking": ("scaling",),
    "schedule_seed": ("server", "soak"),
    "think_seed": ("scaling",),
    "images_per_query": ("multi-stream",),
    "offline_sessions": ("offline",),
    "log": ("replay",),
    "speed": ("replay",),
    "soak_s": ("soak",),
}


def plan(options: BenchOptions, images: ImageSet | None = None) -> tuple[Scenario, ...]:
    """The scenarios that the options ask for.

    Args:
        options: The options.
        images: The images that are sent; a log may name them.

    Raises:
        InvalidConfig: An unknown scenario, or a number out of its range.
        InvalidDataset: A log cannot be read, or names an image that is not there.
    """
    _check(options)
    return tuple(_scenario(name, options, images) for name in options.scenarios)


def _scenario(name: str, options: BenchOptions, images: ImageSet | None) -> Scenario:
    if name == "server" and not options.rates and options.arrivals in LAWS_BY_RATE:
        limit_ms = options.server_limit_ms or options.latency_limit_ms
        if limit_ms is None:
            raise InvalidConfig(
                "the scenario server needs a rate of arrivals, or a limit of latency for which "
                "the highest rate is searched",
                hint="--rate 20, or --latency-limit-ms 100",
            )
        return Scenario(name, (), options.search_s, LAWS_BY_RATE[options.arrivals], limit_ms)
    loads = SCENARIOS[name](options, images)
    for load in loads:
        _check_load(name, load)
    return Scenario(name, loads, sum(_load_s(load, options) for load in loads))


def searching(options: BenchOptions, clause: ServerClause) -> BenchOptions:
    """Options of a search for the highest rate at which a clause of a contract holds."""
    return replace(
        options,
        arrivals=clause.arrivals,
        percentile=clause.percentile,
        server_limit_ms=clause.at_most_ms,
    )


def check_side_by_side(options: BenchOptions) -> None:
    """Check that the options are those of closed loops, which are measured side by side.

    Raises:
        InvalidConfig: A scenario is an open loop.
    """
    for scenario in plan(options):
        if scenario.is_open:
            raise InvalidConfig(
                f"the scenario {scenario.name} is measured on one runtime by one protocol",
                hint="name one: --on uvicorn --protocol http, without --rounds",
            )


def check_read(options: BenchOptions) -> None:
    """Check that the chosen scenarios read every option that differs from its default.

    Raises:
        InvalidConfig: An unknown scenario, or one option that none reads: what it says would not be
            measured.
    """
    _check_names(options)
    chosen, unread = options.scenarios, []
    for key, readers in READERS.items():
        default = BenchOptions.__dataclass_fields__[key].default
        if getattr(options, key) == default or any(name in readers for name in chosen):
            continue
        unread.append((_flag(key), " and ".join(readers)))
    if unread:
        raise InvalidConfig(
            "; ".join(f"{option} is for {readers}" for option, readers in unread)
            + f": what is measured here is {' and '.join(chosen)}",
            hint="name that scenario as well, or leave the option out",
        )
    searched = "server" in chosen and not options.rates and options.arrivals in LAWS_BY_RATE
    if searched and options.server_s is not None:
        raise InvalidConfig(
            "--server-s is the time at a rate, and without --rate the highest one is searched",
            hint="give a --rate, or the time of the search (--search-s)",
        )
    if searched and not options.search_s >= SHORTEST_SEARCH_S:
        raise InvalidConfig(
            f"--search-s is {options.search_s:g} s, and the shortest trial of a search takes "
            f"{SHORTEST_SEARCH_S:g} s",
            hint=f"a search for p99 takes minutes: the default is {BenchOptions.search_s:g} s",
        )
    default_s, default_percentile = BenchOptions.search_s, BenchOptions.percentile
    if not searched and (options.search_s, options.percentile) != (default_s, default_percentile):
        raise InvalidConfig(
            "--search-s and --percentile are for the search for the highest rate, and the rates "
            "are known",
            hint="leave them out, or the rates: without --rate the highest one is searched",
        )


def _flag(key: str) -> str:
    return "--rate" if key == "rates" else flag(key)


def is_open(options: BenchOptions) -> bool:
    """Whether any of the scenarios is an open loop."""
    return any(scenario.is_open for scenario in plan(options))


def longest_s(scenarios: tuple[Scenario, ...]) -> float:
    """Longest time that the scenarios take on a service that answers, seconds."""
    return sum(scenario.longest_s for scenario in scenarios)


def _check_load(name: str, load: Load) -> None:
    """Check that a load ends, and that its schedule has room in memory.

    Raises:
        InvalidConfig: It is too long, or has too many requests.
    """
    if not max(load.measure_s, load.warmup_s) <= LONGEST_S:
        faster = ", or a higher --speed" if isinstance(load.arrivals, Logged) else ""
        raise InvalidConfig(
            f"the scenario {name} would take {load.warmup_s + load.measure_s:.3g} s",
            hint=f"a shorter time{faster}: the longest is {LONGEST_S:.0f} s, 30 days",
        )
    if not isinstance(load.arrivals, ClosedLoop | Logged):
        load.arrivals.due_s(load.schedule_seed, load.warmup_s + load.measure_s)


def _load_s(load: Load, options: BenchOptions) -> float:
    if load.measure_s == LONGEST_S:  # offline, at any speed: a guess for the progress
        return load.warmup_s + options.image_limit * 0.1
    return load.warmup_s + load.measure_s


def _laws(options: BenchOptions) -> list[OpenLoop]:
    """The arrival laws of the options, one for each rate."""
    at_rate = LAWS_BY_RATE.get(options.arrivals)
    if at_rate is not None:
        return [at_rate(rate_hz) for rate_hz in options.rates]
    law = read_law(Path(options.arrivals))
    if options.rates:
        raise InvalidConfig(
            f"{options.arrivals} has rates of its own", hint="leave --rate out, or name a law"
        )
    return [law]


class _LawFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    arrivals: Law


def read_law(path: Path) -> Law:
    """Read an arrival law from a TOML file: ``[arrivals]`` with ``type = "ramp"``.

    Raises:
        InvalidConfig: There is no such file or law, or a value is wrong.
    """
    if path.suffix != ".toml":
        known = (*LAWS_BY_RATE, "a TOML file")
        hint = did_you_mean(str(path), LAWS_BY_RATE, otherwise=f"known: {', '.join(known)}")
        raise InvalidConfig(f"unknown arrival law {str(path)!r}", hint=hint)
    return read_toml(path, _LawFile).arrivals


def _server_s(options: BenchOptions, law: OpenLoop) -> float:
    if options.server_s is not None:
        return options.server_s
    length_s: float | None = getattr(law, "length_s", None)
    if length_s is not None:  # a law that has an end is measured to it
        return length_s
    rate_hz = getattr(law, "rate_hz", None) or law.due_s(0, SERVER_S).size / SERVER_S
    if not rate_hz:
        return LONGEST_SERVER_S
    needed_s = 1.1 * samples_needed(PERCENTILES["p99"]) / rate_hz
    return min(max(SERVER_S, needed_s), LONGEST_SERVER_S)


def _check_names(options: BenchOptions) -> None:
    for name in options.scenarios:
        if name not in SCENARIOS:
            hint = did_you_mean(name, SCENARIOS, otherwise=f"known: {', '.join(SCENARIOS)}")
            if "," in name:
                hint = f"scenarios are separated by blanks: {' '.join(name.split(','))}"
            raise InvalidConfig(f"unknown scenario {name!r}", hint=hint)


def _check(options: BenchOptions) -> None:
    _check_names(options)
    if not options.scenarios:
        raise InvalidConfig("no scenario to run", hint=f"known: {', '.join(SCENARIOS)}")
    check_seeds(
        seed=options.seed, schedule_seed=options.schedule_seed, think_seed=options.think_seed
    )
    rising = sorted(set(options.sessions)) == list(options.sessions)
    if not options.sessions or options.sessions[0] < 1 or not rising:
        message = f"--sessions must be rising whole numbers from 1, not {list(options.sessions)}"
        raise InvalidConfig(message, hint="for example 1, 2, 4, 8")
    rising = sorted(set(options.rates)) == list(options.rates)
    if not rising or not all(0 < rate <= 1e6 for rate in options.rates):
        message = f"--rate must be rising numbers of more than 0, not {list(options.rates)}"
        raise InvalidConfig(message, hint="for example 5, 10, 20")
    above_0 = (
        "image_limit", "single_stream_requests", "single_stream_s", "point_s", "timeout_s",
        "latency_limit_ms", "server_s", "search_s", "images_per_query", "offline_sessions",
        "speed", "soak_s", "client_processes",
    )  # fmt: skip
    for key in above_0:
        value = getattr(options, key)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InvalidConfig(f"{flag(key)} must be a number of more than 0, not {value}")
    for key in ("warmup_s", "ready_s", "think_time_s"):
        value = getattr(options, key)
        if not (value >= 0 and math.isfinite(value)):
            raise InvalidConfig(f"{flag(key)} must be 0 or more, not {value}")
