"""The options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from seatrial.load.statistics import PERCENTILES, samples_needed

# The smallest sample that every percentile of the report can be printed for: 662.
ENOUGH_REQUESTS = max(samples_needed(fraction) for fraction in PERCENTILES.values())


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of a benchmark. The command line takes this class as it is.

    Attributes:
        images: Folder of images; COCO's val2017 as it comes, or your own.
        image_limit: Most images used of the folder; drawn with the seed.
        scenarios: Names of scenarios, in the order in which they run: single-stream, scaling.
        sessions: Numbers of concurrent sessions of the scenario scaling, rising; one point each.
        single_stream_requests: Number of requests that ends the single-stream scenario.
        single_stream_s: Longest time of the single-stream scenario, seconds.
        point_s: Seconds measured at each number of sessions.
        warmup_s: Seconds of warm-up before each measurement; they count nowhere.
        timeout_s: Seconds after which a request has failed.
        latency_limit_ms: Latency above which an answer does not count as goodput, milliseconds
            [default: no limit].
        ready_s: Longest wait for a service that says that it is not ready, seconds.
        seed: Seed of the sample of images and of each session's order.
    """

    images: Annotated[str, Parameter(metavar="PATH")]
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
