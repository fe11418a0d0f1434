"""Throughput in turns, from engines whose clock is known; boxes by the code that serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seatrial.accuracy.limits import LossLimits
from seatrial.artifact import Artifact
from seatrial.datasets.labels import LabelledSet
from seatrial.quantise import measure
from seatrial.quantise.judge import Judge
from seatrial.quantise.measure import Graph, by_turns, median_round, opened, predictions
from seatrial.quantise.report import Speed
from seatrial.quantise.workspace import Workspace


class Clock:
    """A clock that only inference moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Lane:
    """A lane whose inference takes the given times, in seconds, one round after the other."""

    def __init__(self, clock: Clock, name: str, took: list[float], turns: list[str]) -> None:
        self.clock, self.name, self.turns = clock, name, turns
        self.took, self.rounds = took, 0

    def infer(self, feeds: Any) -> dict[str, Any]:
        if not self.turns or self.turns[-1] != self.name:
            self.turns.append(self.name)
            self.rounds += 1
        # Round 1 is the warm-up.
        self.clock.now += self.took[min(max(self.rounds - 2, 0), len(self.took) - 1)]
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(measure, "time", made)
    return made


def test_speed_is_the_median_of_rounds_in_turns(clock: Clock) -> None:
    turns: list[str] = []
    # One round of the child is disturbed, and one of both: the medians do not see it.
    slow = [0.04, 0.04, 0.08] + [0.04] * 6
    fast = [0.02, 0.2, 0.04] + [0.02] * 6
    parent = SimpleNamespace(narrow=(Lane(clock, "parent", slow, turns),))
    child = SimpleNamespace(narrow=(Lane(clock, "child", fast, turns),))
    told: list[tuple[str, int, int]] = []
    found = by_turns(parent, child, {}, lambda *step: told.append(step))  # type: ignore[arg-type]
    assert turns == ["parent", "child"] * 10  # a warm-up and nine rounds
    assert found == Speed(
        parent_hz=pytest.approx(25), child_hz=pytest.approx(50), ratio=pytest.approx(2),
        lanes=1, rounds=9,
    )  # fmt: skip
    assert told == [("comparing speed", done, 9) for done in range(1, 10)]


def test_a_round_is_two_images_at_least(clock: Clock) -> None:
    turns: list[str] = []
    lane = Lane(clock, "slow", [5.0], turns)
    assert measure._rate(lane, {}) == pytest.approx(0.2)  # type: ignore[arg-type]
    assert clock.now == 10.0


def test_boxes_are_those_of_the_labels_and_are_kept(
    small: Callable[..., Artifact], labelled: LabelledSet, work: Workspace
) -> None:
    artifact = small()
    graph = Graph("minmax", artifact.file("onnx"), artifact.manifest, "onnxruntime")
    judge = Judge.by_labels(labelled, artifact.manifest.labels, LossLimits())
    told: list[str] = []
    found = predictions(graph, judge, work, lambda what, *_, **__: told.append(what))
    confident = found.score > 0.5
    assert confident.sum() == 48  # 3 in each of the 16 images
    assert sorted(found.image[confident].tolist()) == [n for n in range(16) for _ in range(3)]
    assert told
    assert all(what.endswith(" with minmax") for what in told)
    told.clear()
    again = predictions(graph, judge, work, lambda what, *_, **__: told.append(what))
    assert told == []
    assert again.score.tolist() == found.score.tolist()


def test_an_engine_has_a_lane_of_one_thread_for_each_core(
    small: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "usable_cores", lambda: 2)
    artifact = small()
    with opened(Graph("g", artifact.file("onnx"), artifact.manifest, "onnxruntime")) as engine:
        assert [lane.threads for lane in engine.narrow] == [1, 1]
        assert engine.precision == "f32"


def test_a_measured_speed_is_kept(
    small: Callable[..., Artifact], work: Workspace, monkeypatch: pytest.MonkeyPatch, scene: Path
) -> None:
    counted: list[int] = []

    def once(*given: Any) -> Speed:
        counted.append(1)
        return Speed(10, 20, 2, 1, 9)

    monkeypatch.setattr(measure, "by_turns", once)
    artifact = small()
    graph = Graph("minmax", artifact.file("onnx"), artifact.manifest, "onnxruntime")
    for _ in range(2):
        found = measure.speed(graph, graph, {}, work, lambda *_, **__: None)
        assert found == Speed(10, 20, 2, 1, 9)
    assert counted == [1]


def test_the_ratio_is_that_of_the_rates_beside_it() -> None:
    """Medians of their own would show 1.6x above rates whose quotient is 1.77."""
    rounds = [(10.0, 17.7), (9.0, 17.7), (20.0, 26.0), (8.0, 18.0), (15.0, 24.0)]
    before, after = median_round(rounds)
    assert (before, after) == (10.0, 17.7)
    assert sorted(b / a for a, b in rounds)[2] == after / before
