"""Boxes and speed of a graph that is not an artifact yet, measured as it would be served."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.predict import InProcess, predict
from seatrial.artifact import Artifact
from seatrial.detect.detector import Detector
from seatrial.engines.base import Engine, EngineConfig, Lane
from seatrial.engines.registry import engine_class
from seatrial.manifest import Manifest
from seatrial.progress import Progress, silent
from seatrial.quantise.calibration_images import Feeds
from seatrial.quantise.judge import Judge
from seatrial.quantise.report import Speed
from seatrial.quantise.workspace import Arrays, Workspace
from seatrial.system.hardware import usable_cores

ROUNDS = 9
ROUND_S = 0.4


class Graph(msgspec.Struct, frozen=True):
    """A graph file and the engine to run it with.

    Attributes:
        name: Name in the workspace and in progress.
        file: File that the engine opens.
        manifest: Manifest of the artifact that it would be.
        engine: Name in the engine table.
    """

    name: str
    file: Path
    manifest: Manifest
    engine: str


@contextmanager
def opened(graph: Graph) -> Iterator[Engine]:
    """Compile a graph: one lane of one thread for each core, float parts in float32.

    Raises:
        MissingExtra, DeviceUnavailable, InvalidArtifact: See `EngineFactory.__call__`.
    """
    config = EngineConfig(instances=usable_cores())
    engine = engine_class(graph.engine)(graph.file, graph.manifest, config)
    try:
        yield engine
    finally:
        engine.close()


def predictions(graph: Graph, judge: Judge, work: Workspace, on_progress: Progress) -> Predictions:
    """Detections of a graph in the judge's images, by the code that serves.

    Raises:
        InvalidDataset: An image cannot be read or decoded.
    """

    def named(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> object:
        return on_progress(f"{what} with {graph.name}", done, total, unit=unit)

    def detect() -> Arrays:
        with opened(graph) as engine:
            detector = Detector(Artifact(graph.file.parent, graph.manifest, ""), engine)
            detector.warm_up()
            found = predict(
                InProcess(detector),
                judge.dataset,
                judge.matched,
                on_progress=named,
            )
        return {name: getattr(found, name) for name in ("image", "category", "xywh", "score")}

    return Predictions(**work.arrays(f"boxes-{graph.name}", detect))


def speed(
    parent: Graph, child: Graph, feeds: Feeds, work: Workspace, on_progress: Progress
) -> Speed:
    """Throughput of both in turns on all cores, so that other load on the machine affects both."""

    def measure() -> Speed:
        with opened(parent) as before, opened(child) as after:
            return by_turns(before, after, feeds, on_progress)

    return work.value(f"speed-{child.name}", Speed, measure)


def by_turns(
    parent: Engine,
    child: Engine,
    feeds: Feeds,
    on_progress: Progress = silent,
) -> Speed:
    """Throughput of two engines, measured in turns; see `Speed`."""
    lanes = len(child.narrow)
    rounds: list[tuple[float, float]] = []
    with ThreadPoolExecutor(lanes, "seatrial-speed") as pool:

        def throughput(engine: Engine) -> float:
            return sum(pool.map(lambda lane: _rate(lane, feeds), engine.narrow))

        throughput(parent), throughput(child)  # warm-up
        for done in range(1, ROUNDS + 1):
            rounds.append((throughput(parent), throughput(child)))
            on_progress("comparing speed", done, ROUNDS)
    # One round gives all three, so that the ratio is that of the rates beside it.
    before, after = median_round(rounds)
    return Speed(
        parent_hz=before,
        child_hz=after,
        ratio=after / before,
        lanes=lanes,
        rounds=ROUNDS,
    )


def median_round(rounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Rates of parent and child in the round whose ratio is the median of an odd number."""
    return sorted(rounds, key=lambda one: one[1] / one[0])[len(rounds) // 2]


def _rate(lane: Lane, feeds: Feeds) -> float:
    """Images per second of one lane."""
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < ROUND_S or count < 2:
        lane.infer(feeds)
        count += 1
    return count / (time.perf_counter() - begun)
