"""What is counted of a request, and in which unit."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from seatrial.deployment import Limits
from seatrial.detect.clock import REQUEST_STAGES
from seatrial.serve.metrics import BUCKETS, forget_dead_processes, request_metrics

Metric = Callable[..., float]
Running = Any


def test_every_stage_is_there_from_the_start() -> None:
    request_metrics()

    for stage in (*REQUEST_STAGES, "total"):
        assert (
            REGISTRY.get_sample_value("seatrial_stage_seconds_count", {"stage": stage}) is not None
        )


def test_buckets_cover_a_decode_to_the_deadline_without_a_wide_gap() -> None:
    assert (BUCKETS[0], BUCKETS[-1]) == (0.0005, Limits().deadline_s)
    assert all(low < high <= 3 * low for low, high in itertools.pairwise(BUCKETS))


def test_milliseconds_become_seconds(metric: Metric) -> None:
    metrics = request_metrics()
    timing_ms = {stage: 200.0 * (i + 1) for i, stage in enumerate((*REQUEST_STAGES, "total"))}

    def sums() -> dict[str, float]:
        return {stage: metric("seatrial_stage_seconds_sum", stage=stage) for stage in timing_ms}

    def in_bucket(bound: str) -> float:
        return metric("seatrial_stage_seconds_bucket", stage="receive", le=bound)

    before, quick, slow = sums(), in_bucket("0.1"), in_bucket("0.25")
    metrics.observe(timing_ms, 0, 1)
    after = sums()
    assert {stage: after[stage] - before[stage] for stage in timing_ms} == pytest.approx(
        {stage: value / 1000 for stage, value in timing_ms.items()}
    )
    assert (in_bucket("0.1") - quick, in_bucket("0.25") - slow) == (0, 1)


def test_objects_lanes_and_outcomes(metric: Metric) -> None:
    metrics = request_metrics()

    def counts() -> list[float]:
        return [
            metric("seatrial_detections_total"),
            metric("seatrial_lane_requests_total", threads="7"),
            metric("seatrial_lane_requests_total", threads="1"),
            metric("seatrial_requests_total", route="/x", code="503"),
            metric("seatrial_requests_total", route="/y", code="503"),
        ]

    before = counts()
    metrics.observe({}, 3, 7)
    metrics.count("/x", 503)
    metrics.count("/x", 503)
    assert [b - a for a, b in zip(before, counts(), strict=True)] == [3, 1, 0, 2, 0]


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/detect", 405, "/detect"),
        ("POST", "/model", 405, "/model"),
        ("POST", "/nothing", 404, "other"),
        ("GET", "/detect/x", 404, "other"),
    ],
)
def test_requests_that_fit_no_route_are_counted(
    running: Running,
    metric: Metric,
    method: str,
    path: str,
    status: int,
    route: str,
) -> None:
    def counted() -> float:
        return metric("seatrial_requests_total", route=route, code=str(status))

    before = counted()
    assert running.client.request(method, path).status_code == status
    assert counted() == before + 1


def test_one_set_for_the_process() -> None:
    assert request_metrics() is request_metrics()


def test_gauges_of_processes_that_have_ended_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    kept = {f"counter_{ended.pid}.db", f"gauge_livesum_{os.getpid()}.db"}
    for name in (*kept, f"gauge_livesum_{ended.pid}.db", f"gauge_liveall_{ended.pid}.db"):
        (tmp_path / name).write_bytes(b"")
    forget_dead_processes(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_process_that_nobody_waited_for_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        gauge = tmp_path / f"gauge_livesum_{child.pid}.db"
        gauge.write_bytes(b"")
        forget_dead_processes(tmp_path)
        assert gauge.exists()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        forget_dead_processes(tmp_path)
        assert not gauge.exists()
