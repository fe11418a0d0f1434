"""What INT8 gives and what it costs.

    python benchmarks/int8.py --model yolo11n|ssd-mobilenet-v2 --to openvino|onnxruntime

Compresses by the library that `seatrial compress int8` calls, all recipes, on 40 pictures of
coco-train; judges on coco-val (53 pictures: too few to certify half a point of AP, and the verdict
says so); then times parent and child by turns, in the engine alone: one lane of one thread, and one
such lane for each core. `compress_s` is the whole compression.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import measure
import msgspec

from seatrial.artifact import Artifact, Store
from seatrial.datasets.read import read_labelled
from seatrial.deployment import Precision
from seatrial.engines.base import Engine, EngineConfig, Lane
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable, Diverged, SourceUnavailable
from seatrial.models.sources.table import pull
from seatrial.quantise.options import Backends, QuantiseOptions
from seatrial.quantise.report import QuantiseReport
from seatrial.quantise.run import compress_int8
from seatrial.system.hardware import usable_cores

STORE = Store(measure.ROOT / "run" / "benchmarks" / "artifacts")
CALIBRATION = measure.SHARED / "data" / "coco-train" / "images"
LABELLED = f"coco:{measure.SHARED / 'data' / 'coco-val'}"
ROUND_S = 1.0


def main() -> None:
    """Run, print, and write benchmarks/results/int8_MODEL_TARGET.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolo11n", choices=("yolo11n", "ssd-mobilenet-v2"))
    parser.add_argument("--to", default="openvino", choices=("openvino", "onnxruntime"))
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    measure.need_shared()
    parent = parent_of(given.model)
    begun = time.perf_counter()
    made, report = compress(parent, given.to)
    spent_s = time.perf_counter() - begun
    rounds = timed(parent, made, given.to, given.rounds)
    measure.save(
        f"int8_{given.model}_{given.to}",
        accuracy(report)
        | {name: statistics.median(values) for name, values in rounds.items()}
        | {"size_mb": size_mb(made, given.to), "size_mb_parent": size_mb(parent, given.to),
           "compress_s": round(spent_s, 1), "lanes": usable_cores(), "rounds": rounds}
        | {one.recipe: row(one.finding) for one in report.candidates}
        | {"report": msgspec.to_builtins(anywhere(report))},
        packages=("nncf", "onnx"),
    )  # fmt: skip


def parent_of(model: str) -> Artifact:
    """The float32 artifact of a model."""
    if model == "yolo11n":
        return measure.open_artifact()
    try:
        return pull(STORE, model, on_progress=measure.tell)
    except SourceUnavailable as error:
        sys.exit(f"skipped: {error.message}")


def compress(parent: Artifact, to: Backends) -> tuple[Artifact, QuantiseReport]:
    """Artifact and report; ends the benchmark if the gate fails."""
    try:
        return compress_int8(
            STORE,
            parent,
            QuantiseOptions(to=to),
            calibration=CALIBRATION,
            labelled=read_labelled(LABELLED),
            replace=True,
            on_progress=measure.tell,
        )
    except Diverged as error:
        sys.exit(error.message)


def anywhere(report: QuantiseReport) -> QuantiseReport:
    """The report without this machine's folders."""
    place = report.judged_on.replace(str(measure.SHARED), "../shared")
    return msgspec.structs.replace(report, judged_on=place)


def accuracy(report: QuantiseReport) -> dict[str, Any]:
    """What the verdict says."""
    return {
        "recipe": report.recipe,
        "verdict": report.verdict.outcome,
        "int8_layers": report.quantised,
        "float_layers": len(report.restored),
        "ap_parent": report.finding.parent,
        **row(report.finding),
    }


def row(finding: Any) -> dict[str, Any]:
    """A finding in a line."""
    return {
        "ap": finding.child,
        "drop": finding.drop,
        "drop_low": finding.low,
        "drop_high": finding.high,
        "shift_mean": finding.mean_shift,
        "shift_size_mean": finding.mean_abs_shift,
        "boxes_matched": finding.matched,
    }


def timed(parent: Artifact, child: Artifact, engine: str, rounds: int) -> dict[str, list[float]]:
    """Each figure's rounds: f32, bf16 (OpenVINO, where the CPU has it) and INT8 by turns."""
    found: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        engines: dict[str, Engine] = {}
        ways: tuple[tuple[str, Artifact, Precision], ...] = (
            ("f32", parent, "f32"), ("bf16", parent, "bf16"), ("int8", child, "f32"),
        )  # fmt: skip
        for name, artifact, precision in ways:
            if precision == "bf16" and engine != "openvino":
                continue
            with contextlib.suppress(DeviceUnavailable):
                config = EngineConfig(precision=precision, instances=usable_cores())
                engines[name] = open_engine(artifact, engine, config)
                stack.callback(engines[name].close)
        feeds = {parent.manifest.inputs[0].name: measure.blank(parent)}
        for _ in range(rounds):
            for name, opened in engines.items():
                lane = opened.narrow[0]
                one_ms = measure.median_ms(partial(lane.infer, feeds), ROUND_S / 2)
                found.setdefault(f"latency_ms_{name}", []).append(one_ms)
            for name, opened in engines.items():
                found.setdefault(f"per_s_{name}", []).append(all_lanes_hz(opened, feeds))
    for name in engines:
        if name != "f32":
            found[f"throughput_ratio_{name}"] = ratios(found, f"per_s_{name}", "per_s_f32")
            found[f"latency_ratio_{name}"] = ratios(found, "latency_ms_f32", f"latency_ms_{name}")
    return found


def ratios(found: dict[str, list[float]], above: str, below: str) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(found[above], found[below], strict=True)]


def all_lanes_hz(engine: Engine, feeds: dict[str, Any]) -> float:
    """Calls a second of all lanes together."""

    def rate(lane: Lane) -> float:
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < ROUND_S:
            lane.infer(feeds)
            count += 1
        return count / (time.perf_counter() - begun)

    with ThreadPoolExecutor(len(engine.narrow)) as pool:
        return sum(pool.map(rate, engine.narrow))


def size_mb(artifact: Artifact, engine: str) -> float:
    """Of the graph that the engine reads, with its weights."""
    graph = artifact.file(engine if engine in artifact.manifest.formats else "onnx")
    files = [graph, graph.with_suffix(".bin")] if graph.suffix == ".xml" else [graph]
    return round(sum(file.stat().st_size for file in files) / 1e6, 2)


if __name__ == "__main__":
    main()
