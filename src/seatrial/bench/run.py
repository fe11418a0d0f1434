"""A benchmark, from the first question to the service to the report."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec
from yarl import URL

from seatrial.bench.analysis import analyse
from seatrial.bench.campaign import Campaign, Trials
from seatrial.bench.environment import describe_environment
from seatrial.bench.findings import interpret
from seatrial.bench.options import BenchOptions
from seatrial.bench.preflight import ProbedService, probe, recognise, token_hidden
from seatrial.bench.report_data import SCHEMA, BenchReport
from seatrial.bench.scenarios import longest_s, plan
from seatrial.client.credentials import NONE, Credentials
from seatrial.errors import GeneratorFailed, ServiceFailed
from seatrial.load.ceiling import Ceiling
from seatrial.load.images import ImageSet, load_images
from seatrial.load.in_process import InProcessTarget
from seatrial.load.target import Body, Target, base_url, bodies, endpoint, is_local
from seatrial.progress import Progress, silent
from seatrial.system.processes import ServiceProcesses, find_service


class BenchCut(ServiceFailed):
    """A service, or the client, that failed in a benchmark of which something is complete.

    Attributes:
        report: The report of that.
    """

    def __init__(self, error: ServiceFailed | GeneratorFailed, report: BenchReport) -> None:
        super().__init__(error.message, hint=error.hint)
        self.report = report


class BenchInterrupted(KeyboardInterrupt):
    """Ctrl-C in a benchmark of which something is complete.

    Attributes:
        report: The report of that.
    """

    def __init__(self, report: BenchReport) -> None:
        super().__init__()
        self.report = report


# The target of a report on a detector in the client's own process.
IN_PROCESS = Target("in-process")


def run_benchmark(
    target: Target,
    options: BenchOptions,
    on_progress: Progress = silent,
    *,
    command: str = "",
    images: ImageSet | None = None,
    credentials: Credentials = NONE,
    trials: Trials | None = None,
    detector: InProcessTarget | None = None,
    ceiling: Callable[[], Ceiling] | None = None,
) -> BenchReport:
    """Measure a service and explain the result.

    Args:
        target: The service; it must be running.
        options: Images, scenarios, times.
        on_progress: Called once a second from this thread, as drawing costs the cores that are
            measured; the parts are seconds of the whole benchmark (``unit="s"``).
        command: The command that a reader repeats this with; it goes into the report.
        images: The images that the options name, if they have been read already.
        credentials: What the service wants to see; the report has nothing of it.
        trials: Trials of a search for the highest rate that were made before, and what is called
            with each new one.
        detector: A detector in this process that is measured instead; the target is `IN_PROCESS`.
        ceiling: Gives the client's own limit on this machine; it is called when the service has
            answered, before the load.

    Raises:
        InvalidConfig: An option or the address is wrong.
        InvalidDataset: No image can be used.
        ServiceFailed: The service does not answer, refuses every image, or dies. It is a `BenchCut`
            with a report where a measurement was complete.
        KeyboardInterrupt: Ctrl-C; connections are closed by then. It is a `BenchInterrupted` with
            a report where a measurement was complete.
    """
    plan(options)
    if detector is None:
        base_url(target)  # says what is wrong with it before images are read
    if images is None:
        images = load_images(Path(options.images), limit=options.image_limit, seed=options.seed)
    scenarios = plan(options, images)
    local = detector is not None or is_local(target)
    started, begun = datetime.now(UTC), perf_counter()
    with quiet_collector(), asyncio.Runner(loop_factory=event_loop) as runner:
        asking = "asking the service" if detector is None else "preparing the requests"
        on_progress(asking, 0, math.ceil(longest_s(scenarios)), unit="s")
        if detector is None:
            asked = ask_service(
                target, images, credentials, ready_s=options.ready_s, timeout_s=options.timeout_s
            )
            service, prepared = runner.run(asked)
            target = service.target
            processes = find_service(base_url(target).port or 80, local=local)
            url = endpoint(target)
        else:
            service, prepared = ProbedService(target, detector.model), bodies(target, images.images)
            processes = ServiceProcesses((), "the detector runs in the process of the client")
            url = URL(f"http://{IN_PROCESS.url}")
        limit = None if ceiling is None else ceiling()
        environment = describe_environment(processes, local=local)
        campaign = Campaign(
            url, prepared, processes, options, scenarios, on_progress, credentials, runner, trials,
            detector,
        )  # fmt: skip
        campaign.run()
    runs = tuple(campaign.runs)
    if campaign.interrupted and not runs:
        raise KeyboardInterrupt
    report = BenchReport(
        schema=SCHEMA,
        created_at=started.isoformat(timespec="seconds"),
        command=command,
        elapsed_s=perf_counter() - begun,
        target=target,
        options=options,
        model=service.model,
        images=images.summary,
        environment=environment,
        runs=runs,
        analysis=analyse(
            [(r.scenario, r.points) for r in runs],
            environment.cpu.cores,
            [n for n, run in enumerate(runs) if run.search is not None],
        ),
        findings=(),
        ceiling=limit,
        interrupted=campaign.interrupted,
        failure="" if campaign.failure is None else campaign.failure.message,
    )
    report = msgspec.structs.replace(report, findings=interpret(report))
    if campaign.interrupted:
        raise BenchInterrupted(report)
    if campaign.failure is not None:
        raise BenchCut(campaign.failure, report) from campaign.failure
    return report


async def ask_service(
    target: Target,
    images: ImageSet,
    credentials: Credentials,
    *,
    ready_s: float,
    timeout_s: float,
) -> tuple[ProbedService, list[Body]]:
    """Ask the service what it is, and prepare the request of every image.

    Where its first answer could be read, each further one must be.
    """
    protocol = await recognise(target, timeout_s, credentials)
    if protocol != "http":
        from seatrial.bench.preflight_inference import probe_inference

        found = probe_inference(target, images.images, ready_s, timeout_s, credentials)
        service, prepared = await found
    else:
        prepared = bodies(target, images.images)
        service = await probe(target, prepared, ready_s, timeout_s, credentials)
    if service.readable:
        prepared = [msgspec.structs.replace(body, readable=True) for body in prepared]
    model = token_hidden(service.model, credentials.token)
    return msgspec.structs.replace(service, model=model), prepared


@contextlib.contextmanager
def quiet_collector() -> Iterator[None]:
    """Leave what is in memory now out of garbage collection for as long as the block lasts."""
    # A full collection visits everything that was imported, and would show in the client's p99.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def event_loop() -> asyncio.AbstractEventLoop:
    """The event loop that measures."""
    import uvloop

    return uvloop.new_event_loop()
