"""The options of a run of MLPerf LoadGen."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.errors import InvalidConfig
from seatrial.load.arrivals import MOST_REQUESTS
from seatrial.load.window import Loop
from seatrial.system.extras import check_installed

LoadgenScenario = Literal["single-stream", "multi-stream", "server", "offline"]
# Scenario -> LoadGen's own name, which loop it is, and the fewest queries: those from which on
# LoadGen's early stopping gives its percentile (p90: 64, p99: 662). Offline has one query.
NAMES: dict[LoadgenScenario, str] = {
    "single-stream": "SingleStream", "multi-stream": "MultiStream", "server": "Server",
    "offline": "Offline",
}  # fmt: skip
LOOPS: dict[LoadgenScenario, Loop] = {
    "single-stream": "closed", "multi-stream": "closed", "server": "open", "offline": "closed",
}  # fmt: skip
FEWEST_QUERIES: dict[LoadgenScenario, int] = {
    "single-stream": 64, "multi-stream": 662, "server": 662, "offline": 1,
}  # fmt: skip
PERCENTILE: dict[LoadgenScenario, str] = {"single-stream": "p90"}
USUAL_PERCENTILE = "p99"
# A service that fails every request would make a closed loop last for hours.
LONGEST_DURATIONS = 10
# LoadGen draws all its queries before the run, and its numbers have 64 bits.
LONGEST_S, MOST_IN_FLIGHT = 7 * 86_400.0, 10_000


def require_loadgen() -> None:
    """Check that LoadGen is installed, without importing it.

    Raises:
        MissingExtra: It is not.
    """
    check_installed("mlperf_loadgen", extra="loadgen", purpose="a run of MLPerf LoadGen")


@dataclass(frozen=True, kw_only=True)
class LoadgenOptions:
    """Options of a run of LoadGen. The command line takes this class as it is.

    Attributes:
        images: Folder of images; they are read before the run and stay in memory.
        image_limit: Most images used of the folder; drawn with the seed.
        seed: Seed of the sample of images.
        duration_s: Shortest measured time, seconds; a submission to MLPerf needs 600.
        queries: Fewest queries [default: as many as LoadGen needs for its percentile: 64 of
            single-stream, 662 of multi-stream and server].
        rate: Rate of server, queries/s; of offline the expected rate, images/s, by which LoadGen
            chooses how many images it sends [default there: measured before the run].
        latency_limit_ms: Latency that the percentile has to keep in server, milliseconds.
        percentile: Percentile that LoadGen judges by: p99, p99.9 [default: p90 of single-stream,
            p99 of others].
        images_per_query: Number of images in a query of multi-stream.
        in_flight: Most images of offline that are with the service at a time.
        warmup_s: Seconds of requests before the run; they count nowhere.
        timeout_s: Seconds after which a request has failed.
        ready_s: Longest wait for a service that says that it is not ready, seconds.
        library_seed: LoadGen's seed of the images that it loads (``qsl_rng_seed``).
        sample_seed: LoadGen's seed of the order of the images (``sample_index_rng_seed``).
        schedule_seed: LoadGen's seed of the arrivals of server (``schedule_rng_seed``).
    """

    images: Annotated[str, Parameter(metavar="PATH")]
    image_limit: int = 256
    seed: int = 0
    duration_s: float = 60.0
    queries: int | None = None
    rate: float | None = None
    latency_limit_ms: float | None = None
    percentile: str | None = None
    images_per_query: int = 8
    in_flight: int = 8
    warmup_s: float = 1.0
    timeout_s: float = 30.0
    ready_s: float = 30.0
    library_seed: int = 0
    sample_seed: int = 0
    schedule_seed: int = 0

    def judged(self, scenario: LoadgenScenario) -> str:
        """Percentile that LoadGen judges by: ``p99``."""
        told = self.percentile or PERCENTILE.get(scenario, USUAL_PERCENTILE)
        return f"p{float(told.removeprefix('p')):g}"

    def fraction(self, scenario: LoadgenScenario) -> float:
        """Share of the queries that the judged percentile is of, 0-1."""
        return float(self.judged(scenario).removeprefix("p")) / 100

    def fewest_queries(self, scenario: LoadgenScenario) -> int:
        """Number of queries that the run has at least."""
        return self.queries or FEWEST_QUERIES[scenario]

    def check(self, scenario: LoadgenScenario) -> None:
        """Check that a scenario can be run with these options.

        Raises:
            InvalidConfig: A value cannot be used, one is missing, or one belongs to another
                scenario.
        """
        self._check_numbers()
        if scenario == "server":
            for name, value in (
                ("--rate", self.rate),
                ("--latency-limit-ms", self.latency_limit_ms),
            ):
                if value is None:
                    raise InvalidConfig(
                        f"server needs {name}",
                        hint="for example --rate 20 --latency-limit-ms 100: LoadGen judges whether "
                        "the percentile keeps that latency at that rate",
                    )
        elif self.latency_limit_ms is not None:
            raise InvalidConfig(
                "--latency-limit-ms is for server: LoadGen bounds no other scenario"
            )
        elif self.rate is not None and scenario != "offline":
            raise InvalidConfig(f"--rate is for server and offline; {scenario} has no rate")
        self._check_size(scenario)

    def _check_size(self, scenario: LoadgenScenario) -> None:
        """Check that LoadGen can draw the queries of a run, and that it comes to an end."""
        queries, rate = self.fewest_queries(scenario), self.rate or 0.0
        images = max(queries, rate * self.duration_s)
        images *= self.images_per_query if scenario == "multi-stream" else 1
        if images > MOST_REQUESTS:
            raise InvalidConfig(
                f"the run would send {images:.3g} images, more than {MOST_REQUESTS:,}: LoadGen "
                "draws them all before it begins",
                hint="lower --queries, --rate, --duration-s or --images-per-query",
            )
        longest_s = LONGEST_DURATIONS * self.duration_s
        if scenario == "server" and queries > rate * longest_s:
            raise InvalidConfig(
                f"{queries} queries at {rate:g}/s take {queries / rate:.3g} s, and a run ends "
                f"after {LONGEST_DURATIONS} times --duration-s, {longest_s:g} s",
                hint="raise --rate or --duration-s, or lower --queries",
            )

    def _check_numbers(self) -> None:
        most = {
            "--duration-s": (self.duration_s, LONGEST_S),
            "--queries": (self.queries, MOST_REQUESTS),
            "--rate": (self.rate, MOST_REQUESTS),
            "--latency-limit-ms": (self.latency_limit_ms, 1e3 * LONGEST_S),
            "--images-per-query": (self.images_per_query, MOST_REQUESTS),
            "--in-flight": (self.in_flight, MOST_IN_FLIGHT),
            "--timeout-s": (self.timeout_s, LONGEST_S),
        }
        for name, (value, limit) in most.items():
            if value is not None and not 0 < value <= limit:
                raise InvalidConfig(
                    f"{name} is {value:.6g}; it must be more than 0 and at most {limit:,g}"
                )
        for name, number in (("--warmup-s", self.warmup_s), ("--ready-s", self.ready_s)):
            if not (number >= 0 and math.isfinite(number)):
                raise InvalidConfig(f"{name} is {number}; it must be 0 or more")
        told = self.percentile
        if told is not None and not (
            re.fullmatch(r"p\d+(\.\d+)?", told) and 0 < float(told[1:]) < 100
        ):
            raise InvalidConfig(
                f"--percentile {told} is not a percentile",
                hint="for example p90, p99 or p99.9: more than p0 and less than p100",
            )
        for seed in (self.library_seed, self.sample_seed, self.schedule_seed):
            if not 0 <= seed < 2**64:
                raise InvalidConfig(f"a seed of LoadGen is {seed}; it has 64 bits, without a sign")
