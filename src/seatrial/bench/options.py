"""The options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.config import flag
from seatrial.errors import InvalidConfig
from seatrial.load.arrivals import Spacing
from seatrial.load.statistics import PERCENTILES, samples_needed
from seatrial.system.extras import require

# The smallest sample that every percentile of the report can be printed for: 662.
ENOUGH_REQUESTS = max(samples_needed(fraction) for fraction in PERCENTILES.values())
END_OF_SEEDS = 2**63
SINGLE_STREAM_S = 30.0  # longest time of lone requests where none is given


def require_client() -> None:
    """Check that what measures a service is installed, before anything imports it.

    Raises:
        MissingExtra: A package is not installed.
    """
    for module in ("httptools", "psutil", "scipy", "uvloop", "yarl"):
        require(module, extra="bench", purpose="measuring a service")


def check_seeds(**seeds: int | None) -> None:
    """Check that random numbers can be drawn by seeds, and that JSON can hold them.

    Args:
        seeds: Key of an option -> its seed; None: not given.

    Raises:
        InvalidConfig: One is out of its range.
    """
    for key, seed in seeds.items():
        if seed is not None and not 0 <= seed < END_OF_SEEDS:
            raise InvalidConfig(
                f"{flag(key)} must be a whole number from 0 to 2^63 - 1, not {seed}",
                hint="any number will do: the same one draws the same again",
            )


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """Options of a measurement: how much and how long. Commands take this class as it is.

    Attributes:
        image_limit: Most images used of the folder; drawn with the seed.
        sessions: Numbers of concurrent sessions of the scenario scaling, rising; one point each.
        single_stream_requests: Number of requests that ends the single-stream scenario.
        single_stream_s: Longest time of the single-stream scenario, seconds [default: 30; for the
            latency clause of a contract up to 180, if its percentile needs as long].
        point_s: Seconds measured at each number of sessions.
        server_s: Seconds measured at each rate of arrivals [default: 30; up to 180 where p99 needs
            as long; of a law with an end, such as a ramp, to that].
        warmup_s: Seconds of warm-up before each measurement; they count nowhere.
        timeout_s: Seconds after which a request has failed.
        latency_limit_ms: Latency above which an answer does not count as goodput, milliseconds
            [default: no limit].
        ready_s: Longest wait for a service that says that it is not ready, seconds.
        seed: Seed of the sample of images and of each session's order.
    """

    image_limit: int = 256
    sessions: tuple[int, ...] = (1, 2, 4, 8)
    single_stream_requests: int = ENOUGH_REQUESTS
    single_stream_s: float | None = None
    point_s: float = 7.0
    server_s: float | None = None
    warmup_s: float = 1.0
    timeout_s: float = 30.0
    latency_limit_ms: float | None = None
    ready_s: float = 30.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class BenchOptions(MeasureOptions):
    """Options of a benchmark. The command line takes this class as it is.

    Attributes:
        images: Folder of images; COCO's val2017 as it comes, or your own.
        scenarios: Names of scenarios, in the order in which they run.
        rates: Rates of arrivals of the scenarios server and soak, requests per second, rising; the
            server is measured at each. Without one the highest rate that holds the latency limit
            is searched.
        arrivals: Arrival law of the scenarios server and soak: poisson, constant, bursts (at
            --rate), or a TOML file with a law of its own (ramp, steps, bursts, diurnal).
        percentile: Percentile of latency that must be within the latency limit when the highest
            rate is searched.
        server_limit_ms: Latency that must hold when the highest rate is searched, where a contract
            says it [default: --latency-limit-ms].
        search_s: Longest time of the search for the highest rate, seconds.
        think_time_s: Pause of a session between an answer and its next request, in the scenario
            scaling.
        thinking: Whether each pause is the same (even), or drawn from an exponential distribution
            (random).
        schedule_seed: Seed of the times at which requests are due [default: --seed].
        think_seed: Seed of the pauses [default: --seed].
        images_per_query: Images of a query of the scenario multi-stream.
        offline_sessions: Requests under way at a time in the scenario offline.
        log: Log of requests for the scenario replay: CSV or JSON Lines with timestamp and, where
            you like, image or size.
        speed: Factor by which the log is replayed faster.
        soak_s: Seconds of the scenario soak.
        client_processes: Number of processes that send the requests.
    """

    images: Annotated[str, Parameter(metavar="PATH")]
    scenarios: Annotated[tuple[str, ...], Parameter(parse=False)] = ("single-stream", "scaling")
    rates: tuple[float, ...] = ()
    arrivals: str = "poisson"
    percentile: Literal["p50", "p90", "p95", "p99"] = "p99"
    server_limit_ms: Annotated[float | None, Parameter(parse=False)] = None
    search_s: float = 180.0
    think_time_s: float = 0.0
    thinking: Spacing = "even"
    schedule_seed: int | None = None
    think_seed: int | None = None
    images_per_query: int = 8
    offline_sessions: int = 8
    log: str | None = None
    speed: float = 1.0
    soak_s: float = 3600.0
    client_processes: int = 1
