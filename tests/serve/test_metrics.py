"""What is counted of a request, and in which unit."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from seatrial.detect.clock import REQUEST_STAGES
from seatrial.serve.asked import Asked
from seatrial.serve.metrics import (
    BUCKETS,
    RequestMetrics,
    request_metrics,
)

Metric = Callable[..., float]
Running = Any


def test_every_stage_is_there_from_the_start() -> None:
    request_metrics()

    for stage in (*REQUEST_STAGES, "total"):
        assert (
            REGISTRY.get_sample_value("seatrial_stage_seconds_count", {"stage": stage}) is not None
        )


def test_buckets_cover_a_decode_to_the_deadline_without_a_wide_gap() -> None:
    assert (BUCKETS[0], BUCKETS[-1]) == (0.0005, 30.0)
    assert all(low < high <= 3 * low for low, high in itertools.pairwise(BUCKETS))


def test_milliseconds_become_seconds(metric: Metric) -> None:
    metrics = request_metrics()
    timing_ms = {stage: 200.0 * (i + 1) for i, stage in enumerate((*REQUEST_STAGES, "total"))}

    def sums() -> dict[str, float]:
        return {stage: metric("seatrial_stage_seconds_sum", stage=stage) for stage in timing_ms}

    def in_bucket(bound: str) -> float:
        return metric("seatrial_stage_seconds_bucket", stage="admission", le=bound)

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
    assert request_metrics() is request_metrics(3.0)


def test_the_deadline_is_an_edge_of_whole_requests() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(1.3, registry)

    def within(bound: float) -> float | None:
        labels = {"code": "504", "le": str(bound)}
        return registry.get_sample_value("seatrial_request_seconds_bucket", labels)

    metrics.count("/detect", 504, 1.29)
    metrics.count("/detect", 504, 1.31)
    metrics.count("/detect", 504)  # without a time
    assert (within(1.0), within(1.3), within(1.5)) == (0, 1, 2)
    assert (
        registry.get_sample_value("seatrial_requests_total", {"route": "/detect", "code": "504"})
        == 3
    )


def test_edges_are_close_together_where_detectors_answer() -> None:
    fine = [edge for edge in BUCKETS if 0.025 <= edge <= 0.25]
    assert len(fine) == 8
    assert all(high <= 1.5 * low for low, high in itertools.pairwise(fine))


def test_every_metric_is_in_the_table_and_no_other() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    listed = re.findall(r"^\| `(seatrial_\w+)`", page.read_text(), re.MULTILINE)
    registry = CollectorRegistry()
    RequestMetrics(1.0, registry).certificate_ends(1.0)
    families = list(registry.collect())
    names = [f"{one.name}_total" if one.type == "counter" else one.name for one in families]
    assert listed == sorted(listed)
    assert sorted(names) == listed


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
def test_prometheus_has_nothing_to_say(running: Running, photo: bytes) -> None:
    running.client.post("/detect", content=photo)
    registry = CollectorRegistry()
    metrics = RequestMetrics(1.0, registry)
    metrics.serves(running.client.get("/model").json())
    metrics.observe({"total": 1.0}, 1, 1)
    metrics.received(1, 1)
    metrics.count("/detect", 200, 0.1)
    metrics.certificate_ends(1.0)
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_what_is_under_way_is_shown(running: Running, metric: Metric, photo: bytes) -> None:
    """Gauges of the application under test: they return to what they were."""

    def busy() -> tuple[float, float]:
        return metric("seatrial_lanes_busy"), metric("seatrial_body_bytes_present")

    lanes, dispatcher = running.detector.lanes, running.app.state.serving.live.dispatcher
    metrics = request_metrics()
    lanes.on_lane, dispatcher.on_bytes = metrics.lanes_busy.inc, metrics.body_bytes_present.inc
    before = busy()
    with running.lanes_held():
        assert busy() == (before[0] + 1, before[1])
        with dispatcher.admit(Asked(body_bytes=1000)):
            assert busy() == (before[0] + 1, before[1] + 1000)
    assert busy() == before
    assert running.client.post("/detect", content=photo).status_code == 200
    assert busy() == before
