"""The loads of all scenarios, put on a service one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter, perf_counter_ns
from types import FrameType

from yarl import URL

from seatrial.bench.measurement import Measurement, summarise
from seatrial.bench.options import BenchOptions
from seatrial.bench.report_data import Run
from seatrial.bench.scenarios import Scenario, longest_s, open_load
from seatrial.client.credentials import Credentials
from seatrial.errors import GeneratorFailed, ServiceFailed
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.client_processes import run_load_in_processes
from seatrial.load.in_process import InProcessTarget, in_process
from seatrial.load.rate_search import RateGoal, RateTrial, search_rate
from seatrial.load.run import put_load
from seatrial.load.statistics import PERCENTILES
from seatrial.load.target import Body
from seatrial.load.usage import UsageMeter
from seatrial.load.window import Load, Recording, Window
from seatrial.progress import Progress
from seatrial.report.numbers import sessions
from seatrial.system import hardware
from seatrial.system.processes import ServiceProcesses

# A trial of a search ends early when so many times as many requests are late as may be in all of
# it, and no fewer than `FEWEST_HOPELESS`: it cannot hold any more, and its queue has to drain.
HOPELESS, FEWEST_HOPELESS = 4.0, 12
# A long window says so often how it goes, seconds.
LIVE_S = 60.0
# Scenarios whose length may be any: Ctrl-C ends the window, and it counts.
CUT_SHORT = ("soak",)


@dataclass
class Trials:
    """Trials of a search for the highest rate that outlive it.

    Attributes:
        known: Trials that were made before; they are not measured again.
        on_trial: Called with each new one.
        start_hz: Rate of the first one, where something is known of the service.
        made: Number of trials that were made before, void ones too; None: those of `known`. Each
            has a schedule and images of its own: the same ones again would be no new evidence.
    """

    known: Sequence[RateTrial] = ()
    on_trial: Callable[[RateTrial], object] = lambda trial: None
    start_hz: float = RateGoal().start_hz
    made: int | None = None


@dataclass
class Campaign:
    """The loads of all scenarios, one after the other.

    Attributes:
        runs: What has been measured.
        interrupted: Whether Ctrl-C ended it.
        failure: What ended it before its last load, where something was complete by then.
    """

    url: URL
    bodies: Sequence[Body]
    processes: ServiceProcesses
    options: BenchOptions
    scenarios: tuple[Scenario, ...]
    on_progress: Progress
    credentials: Credentials
    runner: asyncio.Runner
    trials: Trials | None = None
    detector: InProcessTarget | None = None
    step: int = 0
    past_s: float = 0.0
    failing: bool = False
    first_failure: str = ""
    reported: tuple[str, int] = field(default=("", 0))
    runs: list[Run] = field(default_factory=list)
    interrupted: bool = False
    failure: ServiceFailed | GeneratorFailed | None = None

    def run(self) -> None:
        """Put the loads of all scenarios on the service.

        Ctrl-C ends it. What is complete by then stays in `runs`, also the first loads of a
        scenario; a search that has not ended has no answer.
        """
        try:
            for scenario in self.scenarios:
                self._run(scenario)
                if self.interrupted:
                    return
        except KeyboardInterrupt:
            self.interrupted = True
        except (ServiceFailed, GeneratorFailed) as error:
            if not self.runs:
                raise
            self.failure = error

    def _run(self, scenario: Scenario) -> None:
        """Put every load of a scenario on the service, or search the highest rate."""
        if scenario.law_at is not None:
            self.runs.append(self._search(scenario))
            return
        points: list[Measurement] = []
        steps = sum(len(each.loads) for each in self.scenarios)
        try:
            for load in scenario.loads:
                self.step += 1
                what = f"{scenario.name} {self.step}/{steps}"
                cut_short = scenario.name in CUT_SHORT
                limit_ms = self.options.latency_limit_ms
                point, _ = self._measure(what, load, limit_ms, cut_short=cut_short)
                points.append(point)
        finally:
            if points:
                self.runs.append(Run(scenario.name, tuple(points), scenario.loads[0].loop))

    def _search(self, scenario: Scenario) -> Run:
        """Search the highest rate at which the latency limit holds."""
        law_at, limit_ms, options = scenario.law_at, scenario.limit_ms, self.options
        assert law_at is not None  # noqa: S101 - the caller has asked
        assert limit_ms is not None  # noqa: S101 - the plan has checked
        fraction = PERCENTILES[options.percentile]
        begun, past_s = perf_counter(), self.past_s
        points: list[Measurement] = []
        trials = self.trials or Trials()
        before = len(trials.known) if trials.made is None else trials.made

        def measure(rate_hz: float, duration_s: float) -> RateTrial:
            number, trial_begun = before + len(points) + 1, perf_counter()
            self.past_s = past_s + perf_counter() - begun
            warmup_s = min(options.warmup_s, duration_s / 4)
            load = open_load(
                options, law_at(rate_hz), duration_s - warmup_s, options.seed + number,
                warmup_s=warmup_s,
            )  # fmt: skip
            most = max(FEWEST_HOPELESS, HOPELESS * (1 - fraction) * rate_hz * load.measure_s)
            stop = _HopelessTrial(limit_ms, most)
            what = f"{scenario.name}, trial {number}"
            point, recording = self._measure(what, load, limit_ms, stop)
            points.append(point)
            took_s = perf_counter() - trial_begun
            made = rate_trial(recording, rate_hz, limit_ms, took_s, point, 1 - fraction)
            trials.on_trial(made)
            return made

        goal = RateGoal(fraction=fraction, budget_s=options.search_s, start_hz=trials.start_hz)
        found = search_rate(measure, goal, known=trials.known)
        self.past_s = past_s + scenario.longest_s
        return Run(scenario.name, tuple(points), "open", found, limit_ms, options.percentile)

    def _measure(
        self,
        what: str,
        load: Load,
        limit_ms: float | None,
        stop: Callable[[Window], object] = lambda window: None,
        *,
        cut_short: bool = False,
    ) -> tuple[Measurement, Recording]:
        law = load.arrivals
        words = sessions(load.sessions) if isinstance(law, ClosedLoop) else law.words()
        what = f"{what}, {words}"
        whole_s = longest_s(self.scenarios)
        longest_load_s = min(load.warmup_s + load.measure_s, whole_s)
        meter, begun = UsageMeter(self.processes, hardware.usable_cores()), perf_counter()
        live, windows = _Live(what, begun), list[Window]()

        def on_tick(window: Window) -> None:
            windows[:] = [window]
            stop(window)
            if window.failed and not self.failing:
                self.failing, self.first_failure = True, what
                kind = next(sample.error for sample in window.samples if sample.error)
                self.on_progress(f"{what}: requests fail ({kind})")
            done_s = self.past_s + min(perf_counter() - begun, longest_load_s)
            words = live.words(window, perf_counter())
            if (words, round(done_s)) != self.reported:
                self.reported = words, round(done_s)
                self.on_progress(words, round(done_s), math.ceil(whole_s), unit="s")

        def interrupt() -> None:
            self.interrupted = True
            self.on_progress("waiting for the answers under way; Ctrl-C again ends at once")
            windows[0].close("interrupted")

        def is_open() -> bool:
            return bool(windows) and 0 < windows[0].open_ns <= perf_counter_ns()

        ends = first_interrupt(self.runner.get_loop(), is_open, interrupt)
        with ends if cut_short else contextlib.nullcontext():
            recording = self.runner.run(self._put(load, meter, on_tick))
        self.past_s += longest_load_s
        point = summarise(load, recording, meter.usage(), limit_ms, meter.trace)
        if recording.ended == "unreachable":
            raise ServiceFailed(
                f"the service at {self.url.origin()} stopped answering after {point.good} good "
                f"answers of {what!r}",
                hint="its log says why; was it out of memory?"
                + (
                    ""
                    if self.first_failure == what
                    else f" Requests failed from {self.first_failure!r} on"
                ),
            )
        return point, recording

    async def _put(
        self, load: Load, meter: UsageMeter, on_tick: Callable[[Window], object]
    ) -> Recording:
        """Put one load on the service, or on the detector in this process."""
        if self.detector is None:
            processes = self.options.client_processes
            return await run_load_in_processes(
                processes, self.url, self.bodies, load, meter, on_tick, self.credentials
            )
        detector = self.detector
        async with in_process(detector.detect, detector.threads, load.timeout_s) as send:
            return await put_load(send, self.bodies, load, meter, on_tick)


@contextlib.contextmanager
def first_interrupt(
    loop: asyncio.AbstractEventLoop, wanted: Callable[[], bool], act: Callable[[], object]
) -> Iterator[None]:
    """Have the first Ctrl-C within the block call a function in place of ending the program.

    Args:
        loop: The event loop that calls it.
        wanted: Whether it is to be called; if not, Ctrl-C does what it does otherwise.
        act: The function.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        if wanted():
            loop.call_soon_threadsafe(act)
        else:
            before(number, frame)

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Live:
    """A load in words, with how it went lately where it is long."""

    def __init__(self, what: str, begun_s: float) -> None:
        self._what = self._words = what
        self._at_s, self._ended, self._failed = begun_s, 0, 0

    def words(self, window: Window, now_s: float) -> str:
        """The words of this moment; they change every `LIVE_S`."""
        past_s, ended, failed = now_s - self._at_s, len(window.samples), window.failed
        if past_s >= LIVE_S:
            rate_hz, new = (ended - self._ended) / past_s, failed - self._failed
            self._words = (
                f"{self._what}: {rate_hz:.3g} requests/s ended in the last {past_s:.0f} s, "
                f"{new} failed"
            )
            self._at_s, self._ended, self._failed = now_s, ended, failed
        return self._words


class _HopelessTrial:
    """Ends a trial whose late requests are far more than may be late in all of it."""

    def __init__(self, limit_ms: float, most: float) -> None:
        self._limit_ms, self._most = limit_ms, most
        self._seen = self._bad = 0

    def __call__(self, window: Window) -> None:
        for sample in window.samples[self._seen :]:
            self._bad += bool(sample.error) or sample.latency_ms > self._limit_ms
        self._seen = len(window.samples)
        if self._bad > self._most:
            window.close("hopeless")


def rate_trial(
    recording: Recording,
    rate_hz: float,
    limit_ms: float,
    duration_s: float,
    point: Measurement,
    allowed: float,
) -> RateTrial:
    """A trial of a search: how many requests were late or failed, in each second.

    A window in which the client was late is void, unless far too many requests were late even if
    their time counts from the send: on cores that client and service share, a service that is
    overwhelmed keeps the client from sending.

    Args:
        recording: The requests.
        rate_hz: Rate that was wanted.
        limit_ms: Limit of latency.
        duration_s: Time that the trial took, with its warm-up and until the service was drained.
        point: The figures of the same.
        allowed: Share of the requests that may be late.
    """
    from_send, void = False, bool(point.void)
    if void:
        slow = sum(bool(one.error) or one.service_ms > limit_ms for one in recording.samples)
        if slow > max(FEWEST_HOPELESS, HOPELESS * allowed * len(recording.samples)):
            from_send, void = True, False
    seconds = max(1, math.ceil((recording.close_ns - recording.open_ns) / 1e9))
    offered, bad = [0] * seconds, [0] * seconds
    for sample in recording.samples:
        due_ns = sample.start_ns if sample.due_ns is None else sample.due_ns
        second = min((due_ns - recording.open_ns) // 10**9, seconds - 1)
        offered[second] += 1
        took_ms = sample.service_ms if from_send else sample.latency_ms
        bad[second] += bool(sample.error) or took_ms > limit_ms
    return RateTrial(
        rate_hz=rate_hz,
        duration_s=duration_s,
        offered=sum(offered),
        bad=sum(bad),
        void=void,
        bad_by_slice=tuple(bad),
        offered_by_slice=tuple(offered),
    )
