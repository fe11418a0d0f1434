"""The options of a run of MLPerf LoadGen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.errors import InvalidConfig
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
PERCENTILE: dict[LoadgenScenario, float] = {"single-stream": 90.0}
USUAL_PERCENTILE = 99.0


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
        rate_hz: Rate of server, queries/s; of offline the expected rate, images/s, by which LoadGen
            chooses how many images it sends [default there: measured before the run].
        latency_ms: Latency that the percentile has to keep in server, milliseconds.
        percentile: Percentile that LoadGen judges by [default: 90 of single-stream, 99 of others].
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
    rate_hz: float | None = None
    latency_ms: float | None = None
    percentile: float | None = None
    images_per_query: int = 8
    in_flight: int = 8
    warmup_s: float = 1.0
    timeout_s: float = 30.0
    ready_s: float = 30.0
    library_seed: int = 0
    sample_seed: int = 0
    schedule_seed: int = 0

    def check(self, scenario: LoadgenScenario) -> None:
        """Check that a scenario can be run with these options.

        Raises:
            InvalidConfig: A value cannot be used, one is missing, or one belongs to another
                scenario.
        """
        self._check_numbers()
        if scenario == "server":
            for name, value in (("--rate-hz", self.rate_hz), ("--latency-ms", self.latency_ms)):
                if value is None:
                    raise InvalidConfig(
                        f"server needs {name}",
                        hint="for example --rate-hz 20 --latency-ms 100: LoadGen judges whether "
                        "the percentile keeps that latency at that rate",
                    )
            return
        if self.latency_ms is not None:
            raise InvalidConfig("--latency-ms is for server: LoadGen bounds no other scenario")
        if self.rate_hz is not None and scenario != "offline":
            raise InvalidConfig(f"--rate-hz is for server and offline; {scenario} has no rate")

    def _check_numbers(self) -> None:
        positive = {
            "--duration-s": self.duration_s, "--queries": self.queries, "--rate-hz": self.rate_hz,
            "--latency-ms": self.latency_ms, "--images-per-query": self.images_per_query,
            "--in-flight": self.in_flight, "--timeout-s": self.timeout_s,
        }  # fmt: skip
        for name, value in positive.items():
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InvalidConfig(f"{name} is {value}; it must be more than 0")
        for name, value in (("--warmup-s", self.warmup_s), ("--ready-s", self.ready_s)):
            if not (value >= 0 and math.isfinite(value)):
                raise InvalidConfig(f"{name} is {value}; it must be 0 or more")
        if self.percentile is not None and not 0 < self.percentile < 100:
            raise InvalidConfig(f"--percentile is {self.percentile}; it must be within 0 and 100")
        for seed in (self.library_seed, self.sample_seed, self.schedule_seed):
            if not 0 <= seed < 2**64:
                raise InvalidConfig(f"a seed of LoadGen is {seed}; it has 64 bits, without a sign")
