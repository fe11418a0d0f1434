"""A machine for trials on a simulated clock: models, engines and services with known figures."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from bench_reports import build_open_point, build_report
from seatrial.bench.campaign import Trials
from seatrial.bench.options import BenchOptions
from seatrial.bench.report_data import BenchReport, Run
from seatrial.errors import DeviceUnavailable, ServiceFailed
from seatrial.gate import Interval
from seatrial.load.images import EncodedImage, ImageSet, ImagesSummary
from seatrial.load.rate_search import RateGoal, RateTrial, search_rate
from seatrial.load.statistics import PERCENTILES
from seatrial.load.target import Target
from seatrial.trial.candidates import Arrangement, Machine, TriedModel, Variant
from seatrial.trial.journal import RawEntry, ScoreEntry
from simulated_servers import constant

IMAGES = ImageSet(
    (EncodedImage("a.jpg", b"", "image/jpeg", 640, 480),),
    ImagesSummary(
        "/images", 1, 1, 0, 1, 0, 1.0, 1, 1, 640, 640, 480, 480, 0.3, {"image/jpeg": 1}, "d" * 64,
        0, (),
    ),
)  # fmt: skip
MACHINE = Machine(2, {"openvino": ("f32", "bf16"), "onnxruntime": ("f32",)}, ("openvino",))
NANO = TriedModel("nano", "n" * 64, (640, 640), (), resizable=True)
# Share of the images per second of a raw engine that a service reaches.
SERVED = 0.9


class Killed(BaseException):
    """The process is killed."""


class SimulatedMachine:
    """A workshop and a bench on one simulated clock.

    Attributes:
        clock_s: Time that has passed.
        done: What was done, and how often.
        broken: Words of arrangements that cannot be served.
        kill_after: Number of steps after which the process is killed; None: never.
    """

    def __init__(self) -> None:
        self.clock_s = 0.0
        self.done: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.kill_after: int | None = None
        self._urls: dict[str, Arrangement] = {}

    def now(self) -> float:
        return self.clock_s

    def _step(self, words: str, seconds: float) -> None:
        if self.kill_after is not None:
            self.kill_after -= 1
            if self.kill_after < 0:
                raise Killed
        self.clock_s += seconds
        self.done[words] += 1

    @staticmethod
    def image_s(one: Arrangement) -> float:
        """Time of an image in the engine, all cores together."""
        height, width = one.variant.size_px
        share = {"f32": 1.0, "bf16": 0.55}[one.precision] * (0.6 if one.variant.int8 else 1.0)
        slow = 1.3 if one.engine == "onnxruntime" else 1.0
        lanes = 1.15 if one.layout.instances == 1 else 1.0
        return 0.045 * height * width / 640**2 * share * slow * lanes

    @staticmethod
    def ap(one: Arrangement) -> float:
        lost = {320: 0.10, 416: 0.04, 480: 0.02, 640: 0.0}[one.variant.size_px[0]]
        return 0.44 - lost - (0.01 if one.variant.int8 else 0.0)

    def make(self, variant: Variant) -> tuple[str, str]:
        if variant.dynamic_batch:
            raise DeviceUnavailable("no graph takes several images here")
        self._step(f"make {variant.words} {variant.format}", 30.0 if variant.int8 else 4.0)
        return f"{variant.model}-{variant.key}", variant.key

    def score(self, one: Arrangement, artifact: str) -> ScoreEntry:
        self._step(f"score {one.numerics}", 5.0)
        ap = self.ap(one)
        drawn = ap + 0.02 * np.random.default_rng(0).standard_normal(200)
        ends = {name: Interval(ap - 0.02, ap + 0.02, 0.95, 500) for name in ("ap", "ap50", "ar100")}
        figures: dict[str, float | None] = dict.fromkeys(ends, ap)
        return ScoreEntry(one.numerics, figures, ends, tuple(drawn.tolist()))

    def raw_speed(self, one: Arrangement, artifact: str) -> RawEntry:
        self._step(f"raw {one.key}", 3.0)
        rate_hz = 1 / self.image_s(one)
        return RawEntry(one.key, rate_hz, 0.97 * rate_hz, 1.03 * rate_hz, 1e3 * self.image_s(one))

    @contextlib.contextmanager
    def serve(self, one: Arrangement, artifact: str) -> Iterator[str]:
        self.clock_s += 4.0
        if one.words in self.broken:
            raise ServiceFailed("the service did not start")
        url = f"http://{one.key}"
        self._urls[url] = one
        yield url
        self.clock_s += 0.5

    def benchmark(
        self,
        target: Target,
        options: BenchOptions,
        on_progress: Any = None,
        *,
        images: ImageSet,
        trials: Trials | None = None,
    ) -> BenchReport:
        one = self._urls[target.url]
        service_s = self.image_s(one) / SERVED
        if trials is None:
            window_s = options.server_s or 0.0
            self._step(f"confirm {one.key}", window_s)
            point = build_open_point(options.rates[0], 1.5e3 * service_s, seconds=window_s)
            return build_report(images.summary, server=[point])
        limit_ms = options.latency_limit_ms
        assert limit_ms is not None
        server = constant(service_s, limit_ms / 1e3, sum(self.done.values()))

        def measure(rate_hz: float, duration_s: float) -> RateTrial:
            self._step(f"trial {one.key} {rate_hz} {sum(self.done.values())}", duration_s)
            trial = server.measure(rate_hz, duration_s)
            trials.on_trial(trial)
            return trial

        goal = RateGoal(
            fraction=PERCENTILES[options.percentile], budget_s=options.search_s,
            start_hz=trials.start_hz,
        )  # fmt: skip
        found = search_rate(measure, goal, known=trials.known)
        report = build_report(images.summary, server=[build_open_point(10.0, 10.0)])
        run = Run("server", report.runs[0].points, "open", found, limit_ms, options.percentile)
        return msgspec.structs.replace(report, runs=(run,))
