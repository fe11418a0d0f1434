"""What INT8 gives and what it costs: YOLO11n and SSD MobileNet V2, OpenVINO and ONNX Runtime.

    python benchmarks/int8.py [--model yolo11n|ssd-mobilenet-v2] [--rounds 9]

Compresses by the library that `seatrial compress int8` calls, all recipes, on 40 pictures of
coco-train; judges on coco-val (53 pictures: too few to certify half a point of AP, and the figures
say so); then times parent and child by turns: one lane, and one lane of one thread for each core.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import measure
import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.engines.base import Engine, EngineConfig, Lane
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable, Diverged, SourceUnavailable
from seatrial.hardware import usable_cores
from seatrial.lifecycle import acquire
from seatrial.lifecycle.compress.job import Options
from seatrial.lifecycle.compress.report import Report
from seatrial.lifecycle.compress.run import compress_int8
from seatrial.lifecycle.data.labelled import read_labelled

STORE = Store(measure.ROOT / "run" / "benchmarks" / "artifacts")
CALIBRATION = measure.SHARED / "data" / "coco-train" / "images"
LABELLED = f"coco:{measure.SHARED / 'data' / 'coco-val'}"
ENGINES = ("openvino", "onnxruntime")
LANES_S = 1.0


def parent_of(model: str) -> Artifact:
    """The float32 artifact of a model."""
    if model == "ssd-mobilenet-v2":
        try:
            return acquire.pull(STORE, model, on_progress=tell)
        except SourceUnavailable as error:
            sys.exit(f"skipped: {error.message}")
    return measure.open_artifact(str(measure.SHARED / "models" / f"{model}.onnx"))


def tell(what: str, done: int = 0, total: int = 0) -> None:
    """A line for each step, on stderr."""
    if done == total:
        print(f"{what} {total or ''}", file=sys.stderr)


def compress(parent: Artifact, to: str) -> tuple[Artifact | None, Report, float]:
    """Artifact, report, and the seconds that it took."""
    begun = time.perf_counter()
    try:
        made, report = compress_int8(
            STORE,
            parent,
            Options(to=to),
            calibration=CALIBRATION,
            labelled=read_labelled(LABELLED),
            replace=True,
            on_progress=tell,
        )
    except Diverged as error:
        if not isinstance(error.report, Report):
            raise
        return None, error.report, time.perf_counter() - begun
    return made, report, time.perf_counter() - begun


def timed(parent: Artifact, child: Artifact, engine: str, rounds: int) -> dict[str, Any]:
    """Latency of one lane and throughput of all, in turns of f32, bf16 (OpenVINO) and INT8."""
    with contextlib.ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name, artifact, precision in (
            ("f32", parent, "f32"), ("bf16", parent, "bf16"), ("int8", child, "f32"),
        ):  # fmt: skip
            if precision == "bf16" and engine != "openvino":
                continue
            with contextlib.suppress(DeviceUnavailable):  # a CPU without bf16
                config = EngineConfig(precision=precision, instances=usable_cores())
                engines[name] = open_engine(artifact, engine, config)
                stack.callback(engines[name].close)
        feeds = {parent.manifest.inputs[0].name: measure.blank(parent)}
        latency: dict[str, list[float]] = {name: [] for name in engines}
        throughput: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, opened in engines.items():
                latency[name].append(one_lane_ms(opened.narrow[0], feeds))
            for name, opened in engines.items():
                throughput[name].append(all_lanes_hz(opened, feeds))
    return {
        name: {
            "precision": opened.precision,
            "latency_ms_1_thread": statistics.median(latency[name]),
            "throughput_hz": statistics.median(throughput[name]),
            "latency_ratio": ratio(latency["f32"], latency[name]),
            "throughput_ratio": ratio(throughput[name], throughput["f32"]),
            "throughput_rounds": measure.rounded(throughput[name], 1),
        }
        for name, opened in engines.items()
    }


def ratio(above: list[float], below: list[float]) -> float:
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def one_lane_ms(lane: Lane, feeds: dict[str, Any]) -> float:
    """Median of a few calls, ms."""
    return measure.median_ms(lambda: lane.infer(feeds), seconds=LANES_S / 2)


def all_lanes_hz(engine: Engine, feeds: dict[str, Any]) -> float:
    """Calls a second of all lanes together."""

    def rate(lane: Lane) -> float:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < LANES_S:
            lane.infer(feeds)
            count += 1
        return count / (time.perf_counter() - begun)

    with ThreadPoolExecutor(len(engine.narrow)) as pool:
        return sum(pool.map(rate, engine.narrow))


def main() -> None:
    """Run, print, and write benchmarks/results/int8.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=("yolo11n", "ssd-mobilenet-v2"))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    measure.need_shared()
    figures: dict[str, Any] = {"rounds": given.rounds, "lanes": usable_cores()}
    for model in given.model or ("yolo11n", "ssd-mobilenet-v2"):
        parent = parent_of(model)
        figures[model] = {}
        for engine in ENGINES:
            made, report, seconds = compress(parent, engine)
            figures[model][engine] = {
                "compress_s": round(seconds, 1),
                "report": msgspec.to_builtins(report),
                "timing": made and timed(parent, made, engine, given.rounds),
                "size_bytes": made and size(made),
            }
    measure.save("int8", figures)


def size(made: Artifact) -> dict[str, int]:
    """Of the files that hold the graph."""
    return {entry.path: entry.size_bytes for entry in made.manifest.files
            if Path(entry.path).stem == "model"}  # fmt: skip


if __name__ == "__main__":
    main()
