from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from seatrial.bench import compare
from seatrial.bench.compare import (
    deciles_of,
    latencies_ms,
    measure_comparison,
    percentiles_of,
)
from seatrial.bench.compare_options import CompareOptions
from seatrial.bench.compare_report import Contender
from seatrial.errors import InvalidConfig, ServiceFailed
from seatrial.load import generator, timeline
from seatrial.load.images import load_images
from seatrial.load.samples import Sample
from seatrial.load.target import Target
from seatrial.load.window import Recording

pytestmark = pytest.mark.slow


@pytest.fixture
def measure(detector, image_folder):
    """Measures stand-ins: gives the report, the starts, and the most that were up at a time."""

    def run(services, *, kind="deployment", **changes):
        seen = SimpleNamespace(starts=[], up=set(), most=0, said=[])

        @contextlib.contextmanager
        def start(contender):
            seen.starts.append(contender.label)
            service = detector(**services[contender.label])
            seen.up.add(contender.label)
            seen.most = max(seen.most, len(seen.up))
            yield Target(service.url)
            seen.up.remove(contender.label)
            service.process.terminate()

        options = {"rounds": 6, "block_s": 0.25, "warmup_s": 0.0, "timeout_s": 5.0, **changes}
        report = measure_comparison(
            [Contender(label, f"{label}.toml", kind) for label in services],
            start,
            CompareOptions(images=str(image_folder), **options),
            load_images(image_folder),
            on_progress=lambda *said, **more: seen.said.append(said),
            command="seatrial compare",
        )
        return report, seen

    return run


def test_a_service_that_is_slower_is_called_so(measure):
    services = {"A": {"hold_ms": 4}, "B": {"hold_ms": 12}}
    report, seen = measure(services, block_s=0.6, image_limit=20)
    p50 = report.deciding[0]
    assert (p50.label, p50.figure, p50.answer) == ("B", "p50", "slower")
    assert 1.3 < p50.ratio.ratio < 3.2
    assert report.statements[0].startswith("B (B.toml) is slower than A (A.toml): latency p50 +")
    assert "p99" not in {one.figure for one in report.contrasts}
    assert len(report.shifts) == 1
    # Started anew in each round, both up at a time, and the order is A B B A.
    assert seen.starts == ["A", "B"] * 6
    assert (seen.most, seen.up) == (2, set())
    assert "".join(block.label for block in report.blocks) == "ABBA" * 6
    assert [block.round for block in report.blocks] == [n for n in range(1, 7) for _ in range(4)]
    assert [block.place for block in report.blocks[:4]] == [1, 2, 3, 4]
    begins = [block.begin_s for block in report.blocks]
    assert begins == sorted(begins)
    block = report.blocks[0]
    assert 0.5 <= block.window_s < 3
    assert block.throughput_per_s == pytest.approx(block.requests / block.window_s, rel=0.01)
    assert report.round_s == pytest.approx(report.elapsed_s / 6)
    assert (report.load, report.command) == ("1 session", "seatrial compare")
    assert [one.model["name"] for one in report.contenders] == ["tiny<script>"] * 2
    assert seen.said[0] == ("comparing", 0, 24)
    assert report.environment.local
    assert all(0 <= block.waiting_cores < 0.5 for block in report.blocks)


def test_a_service_that_takes_cores_while_it_waits_is_told(measure, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(compare, "_cpu_s", lambda services: 10.0 * len(services) * next(ticks))
    report, _ = measure({"A": {"hold_ms": 2}, "B": {"hold_ms": 2}}, sessions=2)
    assert any("services that were not asked kept" in caveat for caveat in report.caveats)


def test_running_services_are_kept_over_all_rounds_and_that_is_told(measure):
    pair = {"A": {"hold_ms": 2}, "B": {"hold_ms": 2}}
    report, seen = measure(pair, kind="service", sessions=2)
    assert seen.starts == ["A", "B"]
    assert any("not started anew" in caveat for caveat in report.caveats)
    _, seen = measure(pair, restart=False, sessions=2)
    assert seen.starts == ["A", "B"]


def test_the_throughput_of_several_sessions_is_compared_for_several_services(measure):
    slow = {"hold_ms": 10, "lanes": 1}
    report, _ = measure({"A": slow, "B": {"hold_ms": 10, "lanes": 4}, "C": slow}, sessions=4)
    assert report.load == "4 sessions"
    assert [(one.label, one.figure) for one in report.deciding] == [
        ("B", "throughput"), ("C", "throughput"),
    ]  # fmt: skip
    assert report.deciding[0].answer == "faster"
    assert report.deciding[0].ratio.ratio > 1.5
    assert "".join(block.label for block in report.blocks[:6]) == "ABCCBA"


def test_an_open_loop_counts_from_the_due_time(measure, monkeypatch):
    for module in (generator, timeline):  # a busy machine sends late
        monkeypatch.setattr(module, "VOID_LATE", 1.0)
    report, _ = measure({"A": {"hold_ms": 2}, "B": {"hold_ms": 30}}, rate=80.0, block_s=0.5)
    # One lane of 30 ms cannot answer 80 requests a second: they wait.
    assert report.load == "Poisson, 80/s"
    assert report.deciding[0].value > 60
    assert report.deciding[0].answer == "slower"


def test_blocks_of_too_few_requests_end_the_comparison_at_once(measure):
    with pytest.raises(InvalidConfig, match="p99 needs 662 requests in each block"):
        measure({"A": {"hold_ms": 5}, "B": {"hold_ms": 5}}, percentile="p99")


def test_a_service_that_fails_requests_is_not_compared(measure):
    with pytest.raises(ServiceFailed, match=r"B failed \d+ of \d+ requests \(\d+ http-503\)"):
        measure({"A": {"hold_ms": 2}, "B": {"hold_ms": 2, "behaviour": "busy"}})


def test_rounds_that_cannot_be_used_are_not_enough(measure):
    # The first block, of A, has requests enough for a median; those of B have not.
    options = {"percentile": "p50", "block_s": 0.5}
    services = {"A": {"hold_ms": 2}, "B": {"hold_ms": 80}}
    with pytest.raises(ServiceFailed, match="0 of 6 rounds can be used, and 6 are needed: a block"):
        measure(services, **options)


def test_failed_requests_are_as_late_as_the_limit():
    good = Sample(0, 3_000_000, 200)
    bad = Sample(0, 1_000_000, 503, "http-503")
    hung = Sample(0, 9_000_000_000, 0, "timeout")
    recording = Recording((good, bad), (good, hung), 0, 10**9, 0, "time")
    assert latencies_ms(recording, 5.0) == [3.0, 5000.0, 9000.0]


def test_percentiles_have_their_sample():
    assert percentiles_of([1.0] * 10) == {}
    assert percentiles_of([1.0] * 11) == {"p50": pytest.approx(1.0)}
    assert list(percentiles_of([1.0] * 130)) == ["p50", "p90", "p95"]
    assert list(percentiles_of([1.0] * 662)) == ["p50", "p90", "p95", "p99"]
    assert deciles_of([1.0] * 19) == ()
    assert deciles_of([2.0] * 20) == pytest.approx([2.0] * 9)
