"""Benchmark reports made by hand, from points whose figures are known."""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.bench.analysis import analyse
from seatrial.bench.environment import Environment
from seatrial.bench.findings import interpret
from seatrial.bench.measurement import Measurement, summarise
from seatrial.bench.options import BenchOptions
from seatrial.bench.report_data import SCHEMA, BenchReport, Run
from seatrial.load.arrivals import ClosedLoop, Poisson
from seatrial.load.images import ImagesSummary
from seatrial.load.samples import Sample
from seatrial.load.target import Target
from seatrial.load.usage import ClientUsage, MachineTrace, MachineUsage, ServerUsage, Usage
from seatrial.load.window import Load, Recording
from seatrial.system.hardware import Cpu

STAGES = {"receive": 0.1, "decode": 1.5, "preprocess": 0.2, "queue": 0.2, "infer": 35.0}


def usage_of(
    server_cores: float | None = 1.0,
    client_cores: float = 0.02,
    other_cores: float = 0.0,
    window_s: float = 10.0,
    cores: int = 2,
    steal_share: float = 0.0,
    rss_mib: int = 200,
) -> Usage:
    server = None
    if server_cores is not None:
        server = ServerUsage(
            cpu_s=server_cores * window_s,
            busy_cores=server_cores,
            utilisation=server_cores / cores,
            rss_peak_bytes=rss_mib * 2**20,
            pss_bytes=150 * 2**20,
            uss_bytes=140 * 2**20,
            processes=2,
            ended=0,
        )
    busy = (server_cores or 0.0) + client_cores + other_cores
    machine = MachineUsage(busy, steal_share, None if server is None else other_cores, 1.0)
    unknown = "" if server else "the service runs on another machine"
    return Usage(server, unknown, ClientUsage(client_cores * window_s, client_cores), machine)


def build_point(
    sessions: int = 1,
    latency_ms: float = 40.0,
    *,
    count: int = 700,
    failed: int = 0,
    error: str = "http-503",
    stages: dict[str, float] | None = None,
    **usage: Any,
) -> Measurement:
    """A point whose requests follow one another without a gap: Little's law holds exactly."""
    step_ns, span_ns = int(latency_ms * 1e6 / sessions), int(latency_ms * 1e6)
    total = {"total": sum(stages.values())} if stages else {}
    samples = []
    for n in range(count):
        end_ns = (n + 1) * step_ns
        bad = n < failed
        # A little spread, so that percentiles differ.
        start_ns = end_ns - span_ns + (n % 100 - 50) * span_ns // 2000
        timing = {**stages, **total} if stages and not bad else None
        status, kind = (503, error) if bad else (200, "")
        samples.append(Sample(start_ns, end_ns, status, kind, 100, None if bad else 2, timing))
    window_ns = count * step_ns
    recording = Recording(tuple(samples), (), 0, window_ns, 2, "time")
    load = Load(arrivals=ClosedLoop(sessions), measure_s=window_ns / 1e9)
    return summarise(load, recording, usage_of(window_s=window_ns / 1e9, **usage), None)


def build_open_point(
    rate_hz: float = 20.0,
    latency_ms: float = 40.0,
    *,
    seconds: float = 40.0,
    failed: int = 0,
    late_ms: float = 0.1,
    grows_ms: float = 0.0,
    limit_ms: float | None = None,
    trace: MachineTrace | None = None,
) -> Measurement:
    """A point of an open loop: requests at equal distances, answered after the same time.

    Args:
        rate_hz: Rate of the requests.
        latency_ms: Latency from the due time.
        seconds: Length of the window.
        failed: Number of requests that failed, the last ones.
        late_ms: Time by which every second request was sent late.
        grows_ms: Time by which the latency has grown at the end.
        limit_ms: Limit of latency.
        trace: The machine over the window, which begins at 0.
    """
    count = round(rate_hz * seconds)
    samples = []
    for n in range(count):
        due_ns = round(n / rate_hz * 1e9)
        start_ns = due_ns + round(late_ms * 1e6 * (n % 2))
        end_ns = due_ns + round((latency_ms + n % 10 + grows_ms * n / count) * 1e6)
        bad = n >= count - failed
        status, error = (503, "http-503") if bad else (200, "")
        found = None if bad else 2
        samples.append(Sample(start_ns, end_ns, status, error, 100, found, None, due_ns))
    recording = Recording(tuple(samples), (), 0, round(seconds * 1e9), 5, "time")
    load = Load(arrivals=Poisson(rate_hz), measure_s=seconds)
    return summarise(load, recording, usage_of(window_s=seconds), limit_ms, trace)


def build_report(
    images: ImagesSummary,
    single: list[Measurement] | None = None,
    scaling: list[Measurement] | None = None,
    *,
    server: list[Measurement] | None = None,
    soak: list[Measurement] | None = None,
    features: tuple[str, ...] = ("avx2", "avx512_bf16"),
    local: bool = True,
    model: dict[str, Any] | None = None,
) -> BenchReport:
    """A report around points, with all that is derived from them."""
    named = (("single-stream", single), ("scaling", scaling), ("server", server), ("soak", soak))
    runs = tuple(
        Run(name, tuple(points), "open" if name in ("server", "soak") else "closed")
        for name, points in named
        if points
    )
    environment = Environment(
        local=local,
        system="Linux",
        cpu=Cpu("AMD EPYC", 2, 2, None, features),
        memory_bytes=24 * 2**30,
        affinity=(0, 1),
        processes=(),
        load_1min=0.1,
        versions={"python": "3.11"},
    )
    draft = BenchReport(
        schema=SCHEMA,
        created_at="2026-11-20T10:00:00+00:00",
        command="seatrial bench --url http://127.0.0.1:3000",
        elapsed_s=60.0,
        target=Target("http://127.0.0.1:3000"),
        options=BenchOptions(images="photos"),
        model={"name": "tiny", "engine": "openvino", "device": "cpu", "precision": "f32"}
        if model is None
        else model,
        images=images,
        environment=environment,
        runs=runs,
        analysis=analyse([(run.scenario, run.points) for run in runs], 2),
        findings=(),
    )
    return msgspec.structs.replace(draft, findings=interpret(draft))
