"""A machine whose queue is known, and what a benchmark would measure on it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from bench_reports import build_report, usage_of
from seatrial.bench.measurement import Measurement, summarise
from seatrial.bench.report_data import BenchReport
from seatrial.load.arrivals import LAWS_BY_RATE, ClosedLoop
from seatrial.load.images import ImagesSummary
from seatrial.load.queue_simulation import closed_loop_latencies, open_loop_latencies, record
from seatrial.load.window import Load
from seatrial.trial.capacity_model import MachineModel, draw, simulate
from seatrial.trial.capacity_points import CurvePoint, normal_shape

# Two lanes of 40 ms, saturated at 50/s; alone a request has both cores.
MACHINE = MachineModel(
    lanes=2, service_ms=40.0, spread=0.2, alone=0.7, overhead_ms=3.0, shape=normal_shape()
)
RATES = (10.0, 20.0, 30.0, 40.0)


def curve(
    machine: MachineModel = MACHINE, rates: Sequence[float] = RATES, count: int = 40_000
) -> list[CurvePoint]:
    """Points of an open loop, one window each."""
    points = [CurvePoint(rate, 0, count, {}) for rate in rates]
    return [
        msgspec.structs.replace(
            point, percentiles_ms=simulate(machine, point, draw(point, count, 7_000 + n))
        )
        for n, point in enumerate(points)
    ]


def server_point(
    rate_hz: float, *, machine: MachineModel = MACHINE, seconds: float = 120.0, law: str = "poisson"
) -> Measurement:
    """A measured window of an open loop."""
    arrivals = LAWS_BY_RATE[law](rate_hz)
    due_s = arrivals.due_s(int(rate_hz), seconds)
    service_s = machine.service_s(np.random.default_rng(int(rate_hz) + 99).random(len(due_s)))
    latency_s = open_loop_latencies(due_s, service_s, machine.machines(1))
    recording = record(due_s, latency_s + machine.overhead_ms / 1e3, warmup=50)
    load = Load(arrivals=arrivals, measure_s=seconds)
    return summarise(load, recording, usage_of(window_s=seconds), None)


def lone_point(*, machine: MachineModel = MACHINE, count: int = 2_000) -> Measurement:
    """A measured window of one session."""
    service_s = machine.service_s(np.random.default_rng(5).random(count))
    latency_s = closed_loop_latencies(service_s, 1, machine.machines(1))
    latency_s = latency_s + machine.overhead_ms / 1e3
    ends_s = np.cumsum(latency_s)
    recording = record(ends_s - latency_s, latency_s, loop="closed")
    load = Load(arrivals=ClosedLoop(1), measure_s=float(ends_s[-1]))
    return summarise(load, recording, usage_of(window_s=float(ends_s[-1])), None)


def server_report(images: ImagesSummary, *points: Measurement) -> BenchReport:
    """A report of lone requests and of the scenario server."""
    return build_report(images, [lone_point()], server=[*points])
