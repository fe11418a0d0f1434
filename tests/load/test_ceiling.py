"""The client's own limit: how it is searched, kept and told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.load import ceiling as module
from seatrial.load.ceiling import (
    Ceiling,
    Lateness,
    ceiling_of,
    highest,
    measure_ceiling,
    size_class,
    size_text,
    warning_for,
)
from seatrial.load.samples import Sample
from seatrial.load.window import Recording

pytestmark = pytest.mark.usefixtures("time_limit")


def lateness(rate_hz: float = 500.0, **fields: Any) -> Lateness:
    plain = {
        "requests": 1000, "p50_ms": 0.1, "p99_ms": 0.4, "max_ms": 1.5, "late": 0, "failed": 0,
        "cpu_ms": 0.2,
    }  # fmt: skip
    return Lateness(rate_hz=rate_hz, **plain | fields)


def limit(rate_hz: float = 1000.0, **fields: Any) -> Ceiling:
    plain = {
        "timing": lateness(), "trials": (lateness(rate_hz),), "cpu_ms": 0.2, "body_bytes": 131072,
        "cpu": "A", "cores": 4, "pinned": True, "load_1min": 0.0, "versions": {},
    }  # fmt: skip
    return Ceiling(rate_hz=rate_hz, **plain | fields)


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"late": 10}, True),
        ({"late": 11}, False),
        ({"failed": 1}, False),
        ({"requests": 0}, False),
    ],
    ids=["one-in-100", "more", "failed", "none"],
)
def test_a_rate_holds_where_few_requests_are_late_and_none_fails(
    fields: dict[str, int], holds: bool
) -> None:
    assert lateness(**fields).holds == holds


@pytest.mark.parametrize("truth_hz", [10.0, 333.0, 1000.0, 2990.0, 3010.0, 90_000.0])
def test_the_search_ends_near_the_truth(truth_hz: float) -> None:
    def trial(rate_hz: float) -> Lateness:
        return lateness(rate_hz, late=0 if rate_hz <= truth_hz else 500)

    trials = highest(trial, 3000.0, lambda: True)
    best_hz = max(one.rate_hz for one in trials if one.holds)
    assert truth_hz / 1.13 < best_hz <= truth_hz
    assert len(trials) < 40


def test_a_rate_that_holds_at_the_second_trial_holds() -> None:
    asked: list[float] = []

    def trial(rate_hz: float) -> Lateness:
        asked.append(rate_hz)
        return lateness(rate_hz, late=500 if rate_hz > 1100 or asked.count(rate_hz) == 1 else 0)

    trials = highest(trial, 1000.0, lambda: True)
    assert [one.rate_hz for one in trials[:4]] == [1000.0, 1000.0, 1250.0, 1250.0]
    assert max(one.rate_hz for one in trials if one.holds) >= 1000.0


def test_without_time_the_first_rate_is_tried_alone() -> None:
    trials = highest(lambda rate_hz: lateness(rate_hz, late=999), 1000.0, lambda: False)
    assert [one.rate_hz for one in trials] == [1000.0, 1000.0]


def test_lateness_is_from_the_due_time_to_the_send() -> None:
    """Of 1000 requests one is 2 ms late to the nanosecond, one is later, and one fails."""
    late_ns = [*range(998), 2_000_000, 2_000_001]
    samples = tuple(
        Sample(start_ns=10**9 + late, end_ns=10**10, status=200, due_ns=10**9) for late in late_ns
    )
    failed = msgspec.structs.replace(samples[7], error="timeout")
    found = module._lateness(
        100.0, (Recording((*samples[:7], failed, *samples[8:]), (), 0, 1, 0, "time"), 0.25)
    )
    assert (found.rate_hz, found.requests, found.cpu_ms) == (100.0, 1000, 0.25)
    assert (found.late, found.failed, found.max_ms) == (1, 1, 2.000001)
    assert (found.p50_ms, found.p99_ms) == (499e-6, 989e-6)


def test_a_trial_without_requests_holds_at_no_rate() -> None:
    found = module._lateness(100.0, (Recording((), (), 0, 1, 0, "time"), 0.0))
    assert (found.requests, found.p50_ms, found.p99_ms, found.max_ms) == (0, 0.0, None, 0.0)
    assert not found.holds


@pytest.mark.slow
def test_a_limit_is_measured_on_this_machine() -> None:
    said: list[str] = []
    before = os.sched_getaffinity(0)
    found = measure_ceiling(2048, lambda what, *_, **__: said.append(what))
    assert os.sched_getaffinity(0) == before
    assert (found.body_bytes, found.pinned) == (2048, len(before) > 1)
    assert found.timing.requests > 0
    assert found.timing.p50_ms >= 0
    assert found.cpu_ms > 0
    held = [one.rate_hz for one in found.trials if one.holds]
    assert found.rate_hz == max(held, default=0.0)
    assert not any(one.failed for one in found.trials)
    assert {"seatrial", "python", "uvloop"} <= set(found.versions)
    assert len(said) == 1 + len(found.trials)
    for one in found.trials:  # requests of a trial are those that were due in it
        trial_s = min(max(0.6, 700 / one.rate_hz), 1.5)
        assert one.requests == pytest.approx(one.rate_hz * trial_s, rel=0.3)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes that were measured, by a stand-in that finds 1000/s."""
    sizes: list[int] = []

    def measure(body_bytes: int, on_progress: Any) -> Ceiling:
        sizes.append(body_bytes)
        return limit(1000.0, body_bytes=body_bytes, load_1min=os.getloadavg()[0])

    monkeypatch.setattr(module, "measure_ceiling", measure)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    return sizes


def test_a_limit_is_measured_and_told_once(tmp_path: Path, measured: list[int]) -> None:
    path, said = tmp_path / "home" / "ceiling.json", []
    first = ceiling_of(path, 100_000, said.append)
    assert ceiling_of(path, 120_000, said.append) == first
    assert said == [first.words()]
    assert measured == [131072]
    assert ceiling_of(path, 10, said.append).body_bytes == 1024
    assert ceiling_of(path, 131_072, said.append) == first
    assert measured == [131072, 1024]


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b'{"a": {"rate_hz": 1}}'])
def test_a_broken_file_is_measured_anew(tmp_path: Path, measured: list[int], text: bytes) -> None:
    path = tmp_path / "ceiling.json"
    path.write_bytes(text)
    ceiling_of(path, 100)
    ceiling_of(path, 100)
    assert measured == [1024]


@pytest.mark.parametrize("other", ["cpu", "python", "seatrial"])
def test_another_machine_or_version_is_measured(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    path = tmp_path / "ceiling.json"
    ceiling_of(path, 100)
    if other == "cpu":
        now = msgspec.structs.replace(module.cpu(), cores=77)
        monkeypatch.setattr(module, "cpu", lambda: now)
    elif other == "python":
        monkeypatch.setattr(module.platform, "python_version", lambda: "9.9")
    else:
        monkeypatch.setattr(module, "__version__", "9.9")
    ceiling_of(path, 100)
    assert measured == [1024, 1024]
    monkeypatch.undo()
    assert len(msgspec.json.decode(path.read_bytes())) == 2


@pytest.mark.parametrize(
    ("loads", "measurements"),
    [([9.0, 0.5], 2), ([9.0, 8.0], 1), ([0.1, 0.0], 1), ([9.0, 4.0, 3.9, 1.0, 0.9, 0.1], 3)],
    ids=["quieter", "as-busy", "quiet", "step-by-step"],
)
def test_what_a_busy_machine_gave_is_measured_again_on_a_quieter_one(
    tmp_path: Path,
    measured: list[int],
    monkeypatch: pytest.MonkeyPatch,
    loads: Sequence[float],
    measurements: int,
) -> None:
    now = msgspec.structs.replace(module.cpu(), cores=4)
    monkeypatch.setattr(module, "cpu", lambda: now)
    for load in loads:
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        ceiling_of(tmp_path / "ceiling.json", 100)
    assert len(measured) == measurements


@pytest.mark.parametrize("second_hz", [900.0, 1100.0])
def test_the_higher_of_two_limits_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second_hz: float
) -> None:
    found = iter([limit(1000.0, load_1min=9.0), limit(second_hz, load_1min=0.1)])
    monkeypatch.setattr(module, "measure_ceiling", lambda *_: next(found))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.0, 0.0))
    rates = [ceiling_of(tmp_path / "ceiling.json", 100).rate_hz for _ in range(3)]
    assert rates == [1000.0, max(1000.0, second_hz), max(1000.0, second_hz)]


@pytest.mark.parametrize(
    "found",
    [limit(0.0), limit(1000.0, timing=lateness(late=11)), limit(0.0, timing=lateness(late=11))],
    ids=["no-rate", "late-at-a-small-rate", "both"],
)
def test_what_a_machine_that_was_held_up_gave_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Ceiling
) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "measure_ceiling", lambda *_: found)
    assert ceiling_of(tmp_path / "ceiling.json", 100, said.append) == found
    assert list(tmp_path.iterdir()) == []
    assert "measured again" in said[1]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, measured: list[int]) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    found = ceiling_of(tmp_path / "file" / "ceiling.json", 100, said.append)
    assert found.rate_hz == 1000.0
    assert len(said) == 2
    assert "is not kept" in said[1]


@pytest.mark.parametrize(
    ("rate_hz", "processes", "words"),
    [
        (500.0, 1, None),
        (501.0, 1, "2 client processes have room for it"),
        (1000.0, 2, None),
        (1600.0, 3, "4 client processes have room for it"),
        (2001.0, 1, "this machine is too small for the client"),
    ],
)
def test_more_than_half_of_the_limit_is_warned_of(
    rate_hz: float, processes: int, words: str | None
) -> None:
    said = warning_for(limit(1000.0), rate_hz, processes)
    if words is None:
        assert said == ""
    else:
        assert f"{rate_hz:,.0f} requests/s" in said
        assert words in said
        assert f"{1000 * processes:,}/s of 128 KiB" in said


def test_a_client_that_sends_nothing_in_time_is_warned_of() -> None:
    none = limit(0.0)
    assert "no rate" in none.words()
    assert "is not known" in warning_for(none, 1.0)


def test_a_limit_that_was_measured_beside_other_work_is_no_warning_of_the_client() -> None:
    busy = limit(10.0, timing=lateness(late=400))
    assert "is not known" in warning_for(busy, 100.0)
    assert warning_for(busy, 5.0) == ""


def test_the_words_have_the_limit_and_the_timing_error() -> None:
    words = limit(1234.0).words()
    assert "1,234 requests/s of 128 KiB" in words
    assert "0.10 ms late" in words
    assert "0.40 ms in the 99th" in words
    assert "99th" not in limit(timing=lateness(p99_ms=None)).words()


@pytest.mark.parametrize(
    ("size", "largest", "text"),
    [
        (0, 1024, "1 KiB"),
        (1025, 2048, "2 KiB"),
        (114_688, 131_072, "128 KiB"),
        (131_072, 131_072, "128 KiB"),
        (1_000_000, 2**20, "1 MiB"),
    ],
)
def test_sizes_are_in_classes(size: int, largest: int, text: str) -> None:
    assert (size_class(size), size_text(largest)) == (largest, text)
