"""The benchmark from its first look at the service to the report."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec
from yarl import URL

from seatrial.bench.analysis import analyse
from seatrial.bench.environment import describe_environment
from seatrial.bench.findings import interpret
from seatrial.bench.measurement import Measurement, summarise
from seatrial.bench.preflight import look
from seatrial.bench.report_data import SCHEMA, BenchReport, Run
from seatrial.bench.scenarios import BenchOptions, Scenario, longest_s, plan
from seatrial.errors import ServiceFailed
from seatrial.load.images import ImageSet, load_images
from seatrial.load.run import Load, Window, run_load
from seatrial.load.target import Body, Target, base_url, bodies, endpoint, is_local
from seatrial.load.usage import UsageMeter
from seatrial.system import hardware
from seatrial.system.processes import ServiceProcesses, find_service


class Progress(msgspec.Struct, frozen=True):
    """How far a benchmark is; given about twice a second, since drawing costs the same cores.

    Attributes:
        step: Point being measured, from 1.
        steps: Points of the whole benchmark.
        fraction: Of the longest time that the benchmark takes, 0-1.
        remaining_s: Of that time.
    """

    scenario: str
    sessions: int
    step: int
    steps: int
    phase: str
    finished: int
    failed: int
    fraction: float
    remaining_s: float


OnProgress = Callable[[Progress], None]


def run_benchmark(
    target: Target,
    options: BenchOptions,
    on_progress: OnProgress | None = None,
    *,
    command: str = "",
    pictures: ImageSet | None = None,
) -> BenchReport:
    """Measure a service and explain the result.

    Args:
        target: The service; it must be running.
        options: Pictures, scenarios, times.
        on_progress: Called about twice a second from this thread.
        command: The command that a reader repeats this with; goes into the report.
        pictures: The pictures that the options name, if they have been read already.

    Raises:
        InvalidConfig: An option or the address is wrong.
        InvalidDataset: No usable picture.
        ServiceFailed: The service does not answer, refuses every picture, or dies.
        KeyboardInterrupt: Ctrl-C; connections are closed by then.
    """
    scenarios = plan(options)
    url = endpoint(target)
    if pictures is None:
        pictures = load_images(Path(options.images), limit=options.image_limit, seed=options.seed)
    prepared = bodies(target, pictures.images)
    local = is_local(target)
    started, begun = datetime.now(UTC), perf_counter()
    with _quiet_collector(), asyncio.Runner(loop_factory=_event_loop) as runner:
        service = runner.run(look(target, prepared, options.ready_s, options.timeout_s))
        processes = find_service(base_url(target).port or 80, local=local)
        environment = describe_environment(processes, local=local)
        campaign = _Campaign(url, prepared, processes, options, scenarios, on_progress)
        runs = tuple(runner.run(campaign.run(scenario)) for scenario in scenarios)
    draft = BenchReport(
        schema=SCHEMA,
        created_at=started.isoformat(timespec="seconds"),
        command=command,
        elapsed_s=perf_counter() - begun,
        target=target,
        options=options,
        model=service.model,
        images=pictures.summary,
        environment=environment,
        runs=runs,
        analysis=analyse([(r.scenario, r.points) for r in runs], environment.cpu.cores),
        findings=(),
    )
    return msgspec.structs.replace(draft, findings=interpret(draft))


class _Campaign:
    """The points of all scenarios, one after the other."""

    def __init__(
        self,
        url: URL,
        prepared: Sequence[Body],
        processes: ServiceProcesses,
        options: BenchOptions,
        scenarios: tuple[Scenario, ...],
        on_progress: OnProgress | None,
    ) -> None:
        self._url, self._bodies, self._processes = url, prepared, processes
        self._options, self._on_progress = options, on_progress
        self._whole_s = longest_s(scenarios)
        self._steps = sum(len(scenario.loads) for scenario in scenarios)
        self._step, self._past_s = 0, 0.0

    async def run(self, scenario: Scenario) -> Run:
        """Measure every point of a scenario."""
        points = [await self._point(scenario.name, load) for load in scenario.loads]
        return Run(scenario.name, tuple(points))

    async def _point(self, scenario: str, load: Load) -> Measurement:
        self._step += 1
        begun = perf_counter()
        meter = UsageMeter(self._processes, hardware.usable_cores())

        def on_tick(window: Window) -> None:
            self._report(scenario, load, window, perf_counter() - begun)

        recording = await run_load(self._url, self._bodies, load, meter, on_tick)
        self._past_s += load.warmup_s + load.seconds
        point = summarise(load.sessions, recording, meter.usage(), self._options.latency_limit_ms)
        if recording.ended == "unreachable":
            message = (
                f"the service at {self._url.origin()} stopped answering after {point.good} good "
                f"answers with {load.sessions} session(s) of {scenario!r}"
            )
            raise ServiceFailed(message, hint="its log says why; was it out of memory?")
        return point

    def _report(self, scenario: str, load: Load, window: Window, elapsed_s: float) -> None:
        if self._on_progress is None:
            return
        done_s = self._past_s + min(elapsed_s, load.warmup_s + load.seconds)
        phase = "measure" if window.open_ns else "warm-up"
        self._on_progress(
            Progress(
                scenario=scenario,
                sessions=load.sessions,
                step=self._step,
                steps=self._steps,
                phase="finish" if window.closed.is_set() else phase,
                finished=len(window.samples),
                failed=window.failed,
                fraction=min(1.0, done_s / self._whole_s),
                remaining_s=max(0.0, self._whole_s - done_s),
            )
        )


@contextlib.contextmanager
def _quiet_collector() -> Iterator[None]:
    # A full collection walks everything that was imported and would stand in the client's p99.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _event_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()
