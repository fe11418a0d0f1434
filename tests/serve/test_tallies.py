"""Values that are changed in shared memory are those that prometheus-client shows."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from seatrial.serve import tallies as tallies_module
from seatrial.serve.metrics import RequestMetrics
from seatrial.serve.tallies import Distribution, Tally, distributions, tallies, together

DECISION = (
    Path(__file__).parents[2] / "docs/decisions/0035-what-a-request-costs-beside-its-model.md"
)
NUMBERS = {7: "Seven", 8: "Eight", 9: "Nine"}
VALUES = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 9.0)


@pytest.fixture(params=["one process", "several"])
def registry(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[CollectorRegistry]:
    """A registry for metrics of a process that is alone, or whose metrics are in files."""
    kind: Any = values.MutexValue
    files: list[MmapedDict] = []
    if request.param == "several":

        class Noted(MmapedDict):
            def __init__(self, name: str) -> None:
                super().__init__(name)  # type: ignore[no-untyped-call]
                files.append(self)

        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        monkeypatch.setattr(values, "MmapedDict", Noted)
        monkeypatch.setattr(values, "_multi_process_cleanups", [])
        kind = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(values, "ValueClass", kind)
    yield CollectorRegistry()
    for file in files:
        file._f.close()  # its memory goes with the last who writes there


def shown(registry: CollectorRegistry, folder: Path) -> dict[tuple[str, str], float]:
    """Samples of a registry, or of the files in a folder where there are some."""
    if any(folder.glob("*.db")):
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_a_distribution_is_a_histogram(registry: CollectorRegistry, tmp_path: Path) -> None:
    ours = Histogram("ours", "O.", ["a"], buckets=(1.0, 2.0), registry=registry)
    theirs = Histogram("theirs", "T.", ["a"], buckets=(1.0, 2.0), registry=registry)
    of = distributions(ours)
    for value in VALUES:
        of("x").observe(value)
        theirs.labels("x").observe(value)
    of("x").at(0.0)()
    theirs.labels("x").observe(0.0)
    found = shown(registry, tmp_path)
    assert found["ours_count", "[('a', 'x')]"] == len(VALUES) + 1
    for (name, labels), value in found.items():
        if name.startswith("ours"):
            assert found[name.replace("ours", "theirs"), labels] == value


def test_counters_and_gauges(registry: CollectorRegistry, tmp_path: Path) -> None:
    counts = tallies(Counter("counts", "C.", ["a"], registry=registry))
    level = Tally(Gauge("level", "L.", multiprocess_mode="livesum", registry=registry))
    assert counts("x") is counts("x")
    counts("x").inc()
    counts("x").inc(2.5)
    counts("y")
    level.set(7)
    level.inc(-3)
    assert shown(registry, tmp_path) == {
        ("counts_total", "[('a', 'x')]"): 3.5,
        ("counts_total", "[('a', 'y')]"): 0.0,
        ("level", "[]"): 4.0,
    }


def test_several_changes_as_one(registry: CollectorRegistry, tmp_path: Path) -> None:
    counts = tallies(Counter("counts", "C.", ["a"], registry=registry))
    took = Distribution(Histogram("took", "T.", buckets=(1.0,), registry=registry))
    count = together(counts("x").inc, counts("y").inc, took.at(0.0))
    for _ in range(3):
        count()
    counts("x").inc(2)
    found = shown(registry, tmp_path)
    assert found["counts_total", "[('a', 'x')]"] == 5
    assert found["counts_total", "[('a', 'y')]"] == 3
    assert (found["took_count", "[]"], found["took_sum", "[]"]) == (3, 0)


def test_values_stay_what_they_are_when_their_file_grows(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    counts = tallies(Counter("counts", "C.", ["a"], registry=registry))
    counts("first").inc()
    for number in range(1000):  # 64 KiB hold some 700
        counts(f"label {number}")
    counts("first").inc()
    counts("label 999").inc()
    found = shown(registry, tmp_path)
    assert sum(found.values()) == 3
    assert found["counts_total", "[('a', 'first')]"] == 2


def test_threads_lose_nothing(registry: CollectorRegistry, tmp_path: Path) -> None:
    took = Distribution(Histogram("took", "T.", buckets=(1.0,), registry=registry))
    times = 2000

    def count() -> None:
        for _ in range(times):
            took.observe(0.5)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(switch)
    found = shown(registry, tmp_path)
    assert (found["took_count", "[]"], found["took_sum", "[]"]) == (4 * times, 2 * times)


def test_a_request_needs_no_system_call(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """prometheus-client asks for the process's id at each change."""
    metrics = RequestMetrics(1.0, registry)
    timing_ms = {"decode": 1.0, "infer": 9.0, "total": 10.0}

    def answer() -> None:
        metrics.observe(timing_ms, 3, 1)
        metrics.received(100_000, 300_000)
        metrics.sent(0.001)
        metrics.count("/detect", 200, 0.01)
        metrics.refused_early("/detect", 503, "queue", "detector")()
        for level in (metrics.connections, metrics.present, metrics.body_bytes_present):
            level.inc(1)
            level.inc(-1)

    answer()  # what it needs is there from now on
    in_files = values.ValueClass is not values.MutexValue
    assert any(tmp_path.glob("*.db")) == in_files
    writes: list[str] = []
    monkeypatch.setattr(
        MmapedDict,
        "write_value",
        lambda self, key, *given: writes.append(key),
    )
    answer()
    assert writes == []
    assert shown(registry, tmp_path)["seatrial_detections_total", "[]"] == 6


def test_the_decision_names_what_is_private_of_the_library() -> None:
    """A release that changes one of them is noticed here and in the tests above."""
    tree = ast.parse(Path(tallies_module.__file__).read_text())
    used = {
        one.attr
        for one in ast.walk(tree)
        if isinstance(one, ast.Attribute) and ast.unparse(one.value) != "self"
    }
    used |= {
        call.args[1].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "getattr"
        and isinstance(call.args[1], ast.Constant)
    }  # fmt: skip
    private = {name for name in used if isinstance(name, str) and name.startswith("_")}
    (line,) = [one for one in DECISION.read_text().splitlines() if "private attributes of" in one]
    assert set(re.findall(r"`(_\w+)`", line)) == private
    assert line.startswith(f"**Cost.** {NUMBERS[len(private)]} private attributes")


KILLED = """
import os, signal
from seatrial.serve.metrics import request_metrics

request_metrics().count("/detect", 200, 0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_counted_is_there(tmp_path: Path) -> None:
    env = {"PYTHONPATH": ":".join(sys.path), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", KILLED], env=env, check=False)
        assert ended.returncode == -signal.SIGKILL
    found = shown(CollectorRegistry(), tmp_path)
    labels = "[('code', '200'), ('route', '/detect')]"
    assert found["seatrial_requests_total", labels] == 2
