"""A against B: services that are measured in turn, in rounds of the order A B B A.

All services of a round are up, and one at a time is under load. One that is not asked waits for its
next request; the cores that it takes all the same are measured, and told where they matter. A start
before each block instead would put seconds of the most irregular work between the two that are
compared, and a shared machine changes within seconds. Each round starts the services anew, since
two starts of one service can differ by more than the rounds of one start show (Mytkowicz et al.,
ASPLOS 2009; Kalibera & Jones, ISMM 2013).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import msgspec
import psutil

from seatrial.bench.compare_options import (
    MOST_FAILED,
    THROUGHPUT,
    CompareOptions,
    check_compare,
    check_count,
    law_of,
    load_of,
)
from seatrial.bench.compare_report import (
    Block,
    CompareReport,
    Contender,
    contrasts_of,
    fit_rounds,
    shifts_of,
)
from seatrial.bench.compare_statistics import (
    DECILES,
    DECILES_NEED,
    FEWEST_ROUNDS,
    harrell_davis,
    requests_needed,
)
from seatrial.bench.compare_words import caveats_of, statements_of
from seatrial.bench.environment import Environment, describe_environment
from seatrial.bench.measurement import summarise
from seatrial.bench.run import ask_service, event_loop, quiet_collector
from seatrial.client.credentials import NONE, Credentials
from seatrial.errors import ServiceFailed
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.images import ImageSet
from seatrial.load.run import run_load
from seatrial.load.statistics import PERCENTILES
from seatrial.load.target import Body, Target, base_url, endpoint, is_local
from seatrial.load.usage import UsageMeter
from seatrial.load.window import Load, Recording
from seatrial.progress import Progress, silent
from seatrial.report.numbers import sessions
from seatrial.system import hardware
from seatrial.system.processes import ServiceProcesses, find_service, with_descendants

# Gives a running service for as long as its block lasts.
StartService = Callable[[Contender], AbstractContextManager[Target]]


@dataclass(frozen=True)
class _Ready:
    """A service that is up, and the request of every image."""

    target: Target
    bodies: Sequence[Body]
    processes: ServiceProcesses


def measure_comparison(
    contenders: Sequence[Contender],
    start: StartService,
    options: CompareOptions,
    images: ImageSet,
    *,
    on_progress: Progress = silent,
    command: str = "",
    credentials: Credentials = NONE,
) -> CompareReport:
    """Measure services in turn, and compare each with the first.

    Args:
        contenders: What is compared; a running service is never started.
        start: Gives a running service, started where it is a deployment.
        options: How much and how long.
        images: The images that the options name.
        on_progress: Called with the progress.
        command: The command that a reader repeats this with.
        credentials: What running services want to see.

    Raises:
        InvalidConfig: An option is wrong, or blocks are too short for the percentile.
        ServiceFailed: A service does not start or answer, fails requests, or too few rounds can
            be used.
    """
    check_compare(options)
    created, begun = datetime.now(UTC), perf_counter()
    with quiet_collector(), asyncio.Runner(loop_factory=event_loop) as runner:
        rounds = _Rounds(contenders, start, options, images, on_progress, credentials, runner)
        rounds.measure()
    found = fit_rounds(rounds.blocks)
    left = len(next(iter(found.values()), []))
    if left < FEWEST_ROUNDS:
        reason = next(block.unfit for block in rounds.blocks if block.unfit)
        raise ServiceFailed(
            f"{left} of {options.rounds} rounds can be used, and {FEWEST_ROUNDS} are needed: "
            f"{reason}",
            hint="compare on a quieter machine, or with more rounds (--rounds)",
        )
    assert rounds.environment is not None  # noqa: S101 - a block has been measured
    law, elapsed_s = law_of(options), perf_counter() - begun
    report = CompareReport(
        created_at=created.isoformat(timespec="seconds"),
        command=command,
        elapsed_s=elapsed_s,
        load=sessions(law.sessions) if isinstance(law, ClosedLoop) else law.words(),
        figure=options.figure,
        margin=options.margin,
        round_s=elapsed_s / options.rounds,
        options=options,
        images=images.summary,
        environment=rounds.environment,
        contenders=tuple(
            msgspec.structs.replace(one, model=rounds.models.get(one.label)) for one in contenders
        ),
        blocks=tuple(rounds.blocks),
        contrasts=contrasts_of(found, options.figure, options.margin, options.seed),
        shifts=tuple(shifts_of(found, options.seed)),
    )
    return msgspec.structs.replace(
        report, statements=statements_of(report), caveats=caveats_of(report)
    )


@dataclass
class _Rounds:
    """The rounds of a comparison, one after the other."""

    contenders: Sequence[Contender]
    start: StartService
    options: CompareOptions
    images: ImageSet
    on_progress: Progress
    credentials: Credentials
    runner: asyncio.Runner
    blocks: list[Block] = field(default_factory=list)
    models: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    environment: Environment | None = None
    begun: float = field(default_factory=perf_counter)

    def measure(self) -> None:
        """Measure all rounds."""
        with contextlib.ExitStack() as kept:
            ready: dict[str, _Ready] = {}
            for number in range(self.options.rounds):
                with contextlib.ExitStack() as anew:
                    for one in self.contenders:
                        again = self.options.restart and one.kind == "deployment"
                        if again or one.label not in ready:
                            ready[one.label] = self._open(one, anew if again else kept)
                    self._round(number, ready)

    def _open(self, contender: Contender, stack: contextlib.ExitStack) -> _Ready:
        """Start a service where it is to be started, and ask what it is."""
        target = stack.enter_context(self.start(contender))
        local = is_local(target)
        asked = ask_service(
            target,
            self.images,
            self.credentials,
            ready_s=self.options.ready_s,
            timeout_s=self.options.timeout_s,
        )
        service, prepared = self.runner.run(asked)
        processes = find_service(base_url(service.target).port or 80, local=local)
        self.models.setdefault(contender.label, service.model)
        if self.environment is None:
            self.environment = describe_environment(processes, local=local)
        return _Ready(service.target, prepared, processes)

    def _round(self, number: int, ready: dict[str, _Ready]) -> None:
        labels = [one.label for one in self.contenders]
        load = load_of(self.options, number)
        for place, label in enumerate([*labels, *labels[::-1]], start=1):
            done = len(self.blocks)
            self.on_progress("comparing", done, 2 * len(labels) * self.options.rounds)
            block = self._block(number + 1, label, place, ready, load)
            if not self.blocks:
                check_count(block.requests, self.options)
            self.blocks.append(block)

    def _block(
        self, number: int, label: str, place: int, ready: Mapping[str, _Ready], load: Load
    ) -> Block:
        begin_s, one = perf_counter() - self.begun, ready[label]
        meter = UsageMeter(one.processes, hardware.usable_cores())
        url = endpoint(one.target)
        waiting = _cpu_s([it for it in ready.values() if it is not one])
        recording = self.runner.run(
            run_load(url, one.bodies, load, meter, lambda window: None, self.credentials)
        )
        waiting = _cpu_s([it for it in ready.values() if it is not one]) - waiting
        point = summarise(load, recording, meter.usage(), None, meter.trace)
        kinds = ", ".join(f"{count} {kind}" for kind, count in point.errors.items())
        if recording.ended == "unreachable" or point.failed > MOST_FAILED * point.finished:
            raise ServiceFailed(
                f"{label} failed {point.failed} of {point.finished} requests ({kinds}): a service "
                "that fails has no latency to compare",
                hint="its log says why; a lower load (--sessions, --rate), or seatrial bench",
            )
        machine = point.usage.machine
        latencies = latencies_ms(recording, self.options.timeout_s)
        return Block(
            round=number,
            label=label,
            place=place,
            begin_s=begin_s,
            window_s=point.window_s,
            requests=len(latencies),
            failed=point.failed,
            throughput_per_s=point.goodput_per_s,
            percentiles_ms=percentiles_of(latencies),
            deciles_ms=deciles_of(latencies),
            waiting_cores=max(0.0, waiting / (perf_counter() - self.begun - begin_s)),
            other_cores=None if machine is None else machine.other_cores,
            steal_share=None if machine is None else machine.steal_share,
            unfit="; ".join([*point.void, *_too_few(latencies, self.options)]),
        )


def _cpu_s(services: Sequence[_Ready]) -> float:
    """CPU time that services have taken so far, seconds."""
    total = 0.0
    for process in with_descendants([one for it in services for one in it.processes.members]):
        with contextlib.suppress(psutil.Error):  # it has ended
            times = process.cpu_times()
            total += times.user + times.system
    return total


def latencies_ms(recording: Recording, timeout_s: float) -> list[float]:
    """Latencies of all requests that count; those that failed took as long as the time limit."""
    # What hangs is under way when the block ends: it never got an answer either.
    hung = [sample for sample in recording.stragglers if not sample.status]
    return [
        max(sample.latency_ms, timeout_s * 1e3) if sample.error else sample.latency_ms
        for sample in [*recording.samples, *hung]
    ]


def percentiles_of(latencies: Sequence[float]) -> dict[str, float]:
    """The percentiles that a block has requests enough for."""
    names = [name for name in PERCENTILES if len(latencies) >= requests_needed(name)]
    if not names:
        return {}
    found = harrell_davis(latencies, [PERCENTILES[name] for name in names])
    return dict(zip(names, found.tolist(), strict=True))


def deciles_of(latencies: Sequence[float]) -> tuple[float, ...]:
    """The nine deciles of a block; none where it has few requests."""
    if len(latencies) < DECILES_NEED:
        return ()
    return tuple(harrell_davis(latencies, DECILES).tolist())


def _too_few(latencies: Sequence[float], options: CompareOptions) -> Iterator[str]:
    if not latencies:
        yield "a block has no request that was answered"
    elif options.figure != THROUGHPUT and len(latencies) < requests_needed(options.figure):
        yield f"a block has {len(latencies)} requests, too few for {options.figure}"
