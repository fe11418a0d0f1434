"""The options of a comparison, and the load that they describe."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.bench.compare_statistics import FEWEST_ROUNDS, requests_needed
from seatrial.bench.options import check_seeds
from seatrial.bench.scenarios import WARMUP_PER_SESSION, read_law
from seatrial.config import flag
from seatrial.errors import InvalidConfig
from seatrial.load.arrivals import LAWS_BY_RATE, Arrivals, ClosedLoop
from seatrial.load.window import Load

THROUGHPUT = "throughput"
MOST_FAILED = 0.01  # of the requests: a service that fails more is not compared
PercentileName = Literal["p50", "p90", "p95", "p99"]
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of a comparison. The command line takes this class as it is.

    Attributes:
        images: Folder of images that are sent; not for reports, which have theirs.
        image_limit: Most images used of the folder; drawn with the seed.
        percentile: Percentile of latency that decides: p50, p90, p95 or p99 [default: p50; with
            several sessions the throughput decides].
        sessions: Requests under way at a time, each of which follows its answer [default: 1].
        rate: Rate of requests that do not wait for answers, per second; in place of --sessions.
        arrivals: Arrival law of --rate: poisson, constant or bursts; or, without --rate, a TOML
            file with a law of its own.
        rounds: Number of rounds. Each measures every service twice, in the order A B B A.
        block_s: Seconds measured each time.
        warmup_s: Seconds of warm-up before each measurement; they count nowhere.
        same_within: Difference within which two services count as the same, in per cent: 5%.
        restart: Start the services anew for each round. How much a service differs from start to
            start is then part of the interval.
        timeout_s: Seconds after which a request has failed.
        ready_s: Longest wait for a service that says that it is not ready, seconds.
        seed: Seed of the sample of images, of their order and of arrivals.
    """

    images: Annotated[str | None, Parameter(metavar="PATH")] = None
    image_limit: int = 256
    percentile: PercentileName | None = None
    sessions: int | None = None
    rate: float | None = None
    arrivals: str = "poisson"
    rounds: int = 8
    block_s: float = 5.0
    warmup_s: float = 1.0
    same_within: str = "5%"
    restart: bool = True
    timeout_s: float = 30.0
    ready_s: float = 30.0
    seed: int = 0

    @property
    def figure(self) -> str:
        """The figure that decides: a percentile of latency, or the throughput."""
        if self.percentile is not None:
            return self.percentile
        return "p50" if (self.sessions or 1) == 1 else THROUGHPUT

    @property
    def margin(self) -> float:
        """Share of 1 within which two services count as the same."""
        return percent_of(self.same_within, "--same-within")


def percent_of(text: str, option: str) -> float:
    """``5%`` as a share of 1.

    Raises:
        InvalidConfig: It is no percentage between 0 and 100.
    """
    found = _PERCENT.fullmatch(text)
    value = float(found[1]) / 100 if found else math.nan
    if not 0 < value < 1:
        raise InvalidConfig(
            f"{option} must be a percentage of more than 0 and less than 100, not {text!r}",
            hint=f"for example {option} 5%",
        )
    return value


def check_compare(options: CompareOptions) -> None:
    """Check the options of a comparison that measures.

    Raises:
        InvalidConfig: A value is out of its range, or two exclude each other.
    """
    above_0 = ("image_limit", "sessions", "rate", "block_s", "timeout_s")
    for key in above_0:
        value = getattr(options, key)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InvalidConfig(f"{flag(key)} must be a number of more than 0, not {value}")
    for key in ("warmup_s", "ready_s"):
        value = getattr(options, key)
        if not (value >= 0 and math.isfinite(value)):
            raise InvalidConfig(f"{flag(key)} must be 0 or more, not {value}")
    if options.rounds < FEWEST_ROUNDS:
        raise InvalidConfig(
            f"--rounds must be {FEWEST_ROUNDS} or more, not {options.rounds}: fewer have no "
            "interval at 95%",
            hint="a shorter comparison has shorter blocks (--block-s)",
        )
    check_seeds(seed=options.seed)
    _ = options.margin
    if options.rate is not None and options.sessions is not None:
        raise InvalidConfig(
            "--rate sends requests by a schedule, --sessions when answers have come",
            hint="give one of the two",
        )
    law = law_of(options)
    if options.rate is not None and options.percentile is not None:
        check_count(options.rate * options.block_s, options)
    if not isinstance(law, ClosedLoop) and options.figure == THROUGHPUT:
        raise InvalidConfig("the throughput of an open loop is its rate", hint="--percentile p50")


def check_count(requests: float, options: CompareOptions) -> None:
    """Check that a block has requests enough for the percentile that decides.

    Raises:
        InvalidConfig: It has fewer.
    """
    if options.figure == THROUGHPUT:
        return
    needed = requests_needed(options.figure)
    if requests < needed:
        longer_s = math.ceil(1.3 * options.block_s * needed / max(requests, 1.0))
        raise InvalidConfig(
            f"{options.figure} needs {needed} requests in each block, and one of "
            f"{options.block_s:g} s has {requests:.0f}",
            hint=f"--block-s {longer_s}, or a lower --percentile",
        )


def law_of(options: CompareOptions) -> Arrivals:
    """The arrival law of the options.

    Raises:
        InvalidConfig: There is no such law.
    """
    if options.rate is not None:
        if options.arrivals not in LAWS_BY_RATE:
            raise InvalidConfig(
                f"--rate is the rate of {', '.join(LAWS_BY_RATE)}, not of {options.arrivals}",
                hint="leave --rate out: a law in a file has rates of its own",
            )
        return LAWS_BY_RATE[options.arrivals](options.rate)
    if options.arrivals not in LAWS_BY_RATE:
        return read_law(Path(options.arrivals))
    return ClosedLoop(options.sessions or 1)


def load_of(options: CompareOptions, number: int) -> Load:
    """The load of all blocks of a round: the same images in the same order, due at the same times.

    Args:
        options: The options.
        number: Number of the round, from 0.
    """
    law, seed = law_of(options), options.seed + number
    return Load(
        arrivals=law,
        measure_s=options.block_s,
        warmup_s=options.warmup_s,
        warmup_requests=WARMUP_PER_SESSION * (options.sessions or 1),
        timeout_s=options.timeout_s,
        image_seed=seed,
        schedule_seed=seed,
        think_seed=seed,
    )
