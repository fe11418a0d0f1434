"""Rounds over the runtimes of a deployment: each is started in turn, and measured by each protocol.

One is up at a time, so that none shares the machine with another. Every second round goes the other
way: what drifts with time, such as the clock of a warm processor, favours none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from time import perf_counter
from typing import Any

import msgspec

from seatrial.bench.options import BenchOptions
from seatrial.bench.report_data import BenchReport
from seatrial.bench.run import run_benchmark
from seatrial.bench.scenarios import longest_s, plan
from seatrial.bench.side_by_side import SCHEMA, Setup, SideBySide, rows_of
from seatrial.bench.side_by_side_findings import interpret
from seatrial.errors import InvalidConfig, SeatrialError
from seatrial.load.images import ImageSet
from seatrial.load.samples import ProtocolName
from seatrial.load.target import Target
from seatrial.progress import Progress, silent
from seatrial.system.extras import require

# Starts the deployment on a runtime, to be asked by these protocols: gives an address for each.
Start = Callable[
    [str, Collection[ProtocolName]], AbstractContextManager[Mapping[ProtocolName, str]]
]


@dataclass
class _Measured:
    """The measurements of a setup so far."""

    runtime: str
    protocol: ProtocolName
    reports: list[BenchReport] = field(default_factory=list)
    error: SeatrialError | None = None

    def setup(self) -> Setup:
        """The same, for the report."""
        plain = Setup(self.runtime, self.protocol, tuple(self.reports))
        if self.error is None:
            return plain
        return msgspec.structs.replace(plain, missing=self.error.message, hint=self.error.hint)


def measure_side_by_side(
    runtimes: Sequence[str],
    protocols: Sequence[ProtocolName],
    start: Start,
    options: BenchOptions,
    *,
    rounds: int,
    images: ImageSet,
    deployment: Mapping[str, Any],
    on_progress: Progress = silent,
    command: str = "",
) -> SideBySide:
    """Measure a deployment on several runtimes, by several protocols.

    A setup that cannot be measured is in the report with the reason, and is not tried again.

    Args:
        runtimes: Names of the runtimes, in the order of the first round.
        protocols: Protocols that each is measured by.
        start: Starts a runtime for as long as its block lasts.
        options: What is measured in each round of each setup.
        rounds: Number of rounds.
        images: The images that the options name.
        deployment: What is started, for the report.
        on_progress: Called with the progress, over all rounds.
        command: The command that a reader repeats this with.

    Raises:
        InvalidConfig: An option is wrong.
        SeatrialError: Nothing could be measured: the first reason.
    """
    if rounds < 1:
        raise InvalidConfig(f"--rounds must be 1 or more, not {rounds}")
    one_s, created, begun = longest_s(plan(options)), datetime.now(UTC), perf_counter()
    measured = [_Measured(runtime, protocol) for runtime in runtimes for protocol in protocols]
    steps = itertools.count()

    def measure(setup: _Measured, url: str, number: int) -> None:
        words = f"{setup.runtime}, {setup.protocol}, round {number} of {rounds}"
        shown = _part(on_progress, words, next(steps) * one_s, len(measured) * rounds * one_s)
        target = Target(url, protocol=setup.protocol)
        try:
            setup.reports.append(
                run_benchmark(target, options, shown, command=command, images=images)
            )
        except SeatrialError as error:
            setup.error = error

    for setup in measured:
        setup.error = _cannot_ask(setup.protocol)
    for number in range(1, rounds + 1):
        order = measured if number % 2 else measured[::-1]
        for runtime, group in itertools.groupby(order, attrgetter("runtime")):
            asked = [one for one in group if one.error is None]
            _on_runtime(runtime, asked, start, measure, number)
    setups = tuple(one.setup() for one in measured)
    first = next((report for setup in setups for report in setup.reports), None)
    if first is None:
        raise next(one.error for one in measured if one.error is not None)
    report = SideBySide(
        schema=SCHEMA,
        created_at=created.isoformat(timespec="seconds"),
        command=command,
        elapsed_s=perf_counter() - begun,
        deployment=dict(deployment),
        options=options,
        rounds=rounds,
        images=images.summary,
        environment=first.environment,
        setups=setups,
        rows=rows_of(setups),
        findings=(),
    )
    return msgspec.structs.replace(report, findings=interpret(report))


def _on_runtime(
    runtime: str,
    setups: Sequence[_Measured],
    start: Start,
    measure: Callable[[_Measured, str, int], None],
    number: int,
) -> None:
    """Start a runtime, and measure each of its setups."""
    if not setups:
        return
    try:
        with start(runtime, [one.protocol for one in setups]) as addresses:
            for one in setups:
                measure(one, addresses[one.protocol], number)
    except SeatrialError as error:  # of the start: a measurement keeps its own
        for one in setups:
            one.error = one.error or error


def _cannot_ask(protocol: ProtocolName) -> SeatrialError | None:
    """Why a protocol cannot be measured from here; None where it can."""
    if protocol == "grpc":
        try:
            require("grpc", extra="grpc", purpose="measuring a service over gRPC")
        except SeatrialError as error:
            return error
    return None


def _part(on_progress: Progress, words: str, past_s: float, whole_s: float) -> Progress:
    """Progress of one benchmark as a part of all."""

    def show(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if total:
            done, total = round(past_s) + done, math.ceil(whole_s)
        on_progress(f"{words}: {what}", done, total, unit=unit)

    return show
