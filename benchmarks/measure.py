"""What the benchmarks share: real pictures, a service under load, raw engines, results on disk.

Every figure is a median over rounds that interleave what is compared, in one run on one machine:
this keeps a neighbour's noise out of the ratios.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import uvloop
from numpy.typing import NDArray

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Deployment, Server, Thresholds
from seatrial.detect.decode import decode
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import fit
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.images import load_images
from seatrial.load.run import run_load
from seatrial.load.target import Body, Target, bodies, endpoint
from seatrial.load.window import Load, Recording
from seatrial.models.resolve import resolve
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.service_folder import environment, write_service
from seatrial.system import hardware
from seatrial.system.versions import versions

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
RESULTS = ROOT / "benchmarks" / "results"
MODEL = SHARED / "models" / "yolo11n.onnx"
IMAGES = SHARED / "data" / "coco-val" / "images"
CLOSED_LOOP_MS = 60_000
HELD_BYTES = 12 * 2**20  # of a request that takes a place


def need_shared() -> None:
    """Leave, saying why, where the weights and pictures are absent."""
    if not MODEL.is_file() or not IMAGES.is_dir():
        sys.exit("skipped: no ../shared (models/yolo11n.onnx and data/coco-val)")


def tell(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    """`seatrial.progress.Progress` as a line on stderr for each step, at its end."""
    if done == total:
        print(what, total or "", unit, file=sys.stderr)


def open_artifact(model: str = str(MODEL)) -> Artifact:
    """Import a model into a store of the benchmarks' own."""
    return resolve(Store(ROOT / "run" / "benchmarks" / "artifacts"), model)


def encoded(limit: int = 64, *, only_hw: tuple[int, int] | None = None) -> list[bytes]:
    """COCO pictures as they come; only those of one size where that is asked for."""
    pictures = load_images(IMAGES, limit=limit, seed=0).images
    if only_hw is not None:
        pictures = tuple(p for p in pictures if (p.height, p.width) == only_hw)
    return [p.data for p in pictures]


@contextlib.contextmanager
def served(artifact: Artifact, deployment: Deployment) -> Iterator[ServiceProcess]:
    """A service for as long as this lasts, on a free port of the loopback."""
    deployment = msgspec.structs.replace(deployment, server=Server(port=free_port("127.0.0.1")))
    with tempfile.TemporaryDirectory(prefix="seatrial-benchmark-") as scratch:
        folder = write_service(Path(scratch) / "service", artifact, deployment)
        log = Path(scratch) / "service.log"
        with ServiceProcess(folder, deployment, environment(os.environ), log) as process:
            yield process


class _Nobody:
    def opened(self) -> None: ...
    def tick(self) -> None: ...
    def closed(self) -> None: ...


def jpeg_bodies(url: str, pictures: Sequence[bytes], **target: Any) -> tuple[Target, list[Body]]:
    """Requests for pictures that are JPEGs."""

    @dataclass
    class Jpeg:
        data: bytes
        content_type: str = "image/jpeg"

    to = Target(url, **target)
    return to, bodies(to, [Jpeg(p) for p in pictures])  # type: ignore[misc]


def within(request: Body, deadline_ms: int) -> Body:
    """The same request with a deadline of its own."""
    return Body(request.data, {**request.headers, "X-Request-Timeout-Ms": str(deadline_ms)})


def load(
    to: Target,
    requests: Sequence[Body],
    sessions: int,
    seconds: float,
    *,
    may_fail: bool = False,
) -> Recording:
    """Closed-loop load; ends the benchmark if any request fails, unless they may.

    It measures what a service can. So that none is refused where a neighbour takes the cores for a
    moment, each request has time enough.
    """
    requests = [within(one, CLOSED_LOOP_MS) for one in requests]
    plan = Load(
        arrivals=ClosedLoop(sessions),
        measure_s=seconds,
        warmup_s=1.0,
        warmup_requests=2 * sessions,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        recording = runner.run(run_load(endpoint(to), requests, plan, _Nobody(), lambda _: None))
    failed = [s for s in recording.samples if s.error]
    if failed and not may_fail:
        sys.exit(f"{len(failed)} of {len(recording.samples)} requests failed: {failed[0].error}")
    return recording


def hold(connection: socket.socket, port: int) -> None:
    """Take the place of one request for three minutes.

    Its body never ends; more of it is here already than a service waits for in that time. One of
    which nothing comes would give way to others.
    """
    connection.connect(("127.0.0.1", port))
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (HELD_BYTES + 1)
    connection.sendall(head + bytes(HELD_BYTES))


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its descendants."""
    root = psutil.Process(pid)
    return float(sum(sum(one.cpu_times()[:2]) for one in (root, *root.children(recursive=True))))


def requests_of(recording: Recording) -> int:
    """Requests that ended, those before and after the window too."""
    return len(recording.samples) + len(recording.stragglers) + recording.warmup_requests


def throughput(recording: Recording) -> float:
    """Requests answered in the window over its wall time, 1/s."""
    answered = sum(not sample.error for sample in recording.samples)
    return answered / ((recording.close_ns - recording.open_ns) / 1e9)


def p50_ms(recording: Recording) -> float:
    """Median latency as the client sees it, ms."""
    return statistics.median(s.latency_ms for s in recording.samples if not s.error)


def raw_openvino_throughput(artifact: Artifact, precision: str) -> Callable[[float], float]:
    """The engine's own best: throughput hint, asynchronous requests, no HTTP, no decode."""
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(
        artifact.file("onnx"),
        "CPU",
        {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": precision},
    )
    queue = ov.AsyncInferQueue(compiled)
    batch = blank(artifact)

    def run(seconds: float) -> float:
        for _ in range(2 * len(queue)):
            queue.start_async({0: batch}, share_inputs=True)
        queue.wait_all()
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            queue.start_async({0: batch}, share_inputs=True)
            count += 1
        queue.wait_all()
        return count / (time.perf_counter() - begun)

    return run


def raw_openvino_latency(
    artifact: Artifact, precision: str, threads: int
) -> Callable[[float], float]:
    """One request at a time on a number of threads, median ms."""
    import openvino as ov

    compiled = ov.Core().compile_model(
        artifact.file("onnx"),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        },
    )
    request = compiled.create_infer_request()
    batch = blank(artifact)
    return lambda seconds: median_ms(
        lambda: request.infer({0: batch}, share_inputs=True, share_outputs=True), seconds
    )


def raw_onnxruntime(artifact: Artifact, threads: int) -> Callable[[float], float]:
    """One request at a time on a number of threads, median ms."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        artifact.file("onnx"), options, providers=["CPUExecutionProvider"]
    )
    feeds = {artifact.manifest.inputs[0].name: blank(artifact)}
    return lambda seconds: median_ms(lambda: session.run(None, feeds), seconds)


def blank(artifact: Artifact) -> NDArray[np.uint8]:
    """A noise picture of the canvas' size, (1, H, W, 3) uint8."""
    height, width = artifact.manifest.preprocessing.size_hw
    return np.random.default_rng(0).integers(0, 255, (1, height, width, 3), np.uint8)


def median_ms(work: Callable[[], object], seconds: float) -> float:
    """Median time of a call, ms; two calls before are not counted."""
    work(), work()
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or len(times) < 5:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def parts_ms(artifact: Artifact, pictures: Sequence[bytes], outputs: Any) -> dict[str, float]:
    """Decode, preprocess and postprocess of one picture on one core, in process, mean ms."""
    family, preprocessing = family_of(artifact.manifest), artifact.manifest.preprocessing
    images = [decode(p, max_pixels=10**8) for p in pictures]
    canvases = [fit(image, preprocessing)[1] for image in images]
    options = Thresholds()
    steps: dict[str, Callable[[int], object]] = {
        "decode": lambda i: decode(pictures[i], max_pixels=10**8),
        "preprocess": lambda i: fit(images[i], preprocessing),
        "postprocess": lambda i: family.detections(outputs[i], canvases[i], options),
    }
    result: dict[str, float] = {}
    for name, step in steps.items():
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            for index in range(len(pictures)):
                step(index)
            rounds.append((time.perf_counter() - start) / len(pictures))
        result[name] = 1e3 * statistics.median(rounds)
    return result


def _script() -> str:
    """This benchmark as a command from the top of the repository names it."""
    path = Path(sys.argv[0]).resolve()
    top = RESULTS.parent.parent.resolve()
    return str(path.relative_to(top)) if path.is_relative_to(top) else path.name


def save(name: str, figures: dict[str, Any], packages: Sequence[str] = ()) -> None:
    """Write a result beside what it was measured on and with, and print it."""
    cpu = hardware.cpu()
    document = {
        "benchmark": name,
        "command": " ".join(["python", _script(), *sys.argv[1:]]),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu.model,
            "cores": cpu.cores,
            "features": cpu.features,
            "system": platform.platform(),
            "load_average": os.getloadavg(),
        },
        "versions": {"python": platform.python_version()}
        | versions(
            "bentoml", "openvino", "onnxruntime", "numpy", "simplejpeg", "httptools", *packages
        ),
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2, default=float)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(json.dumps(figures, indent=2, default=float))


def rounded(values: Sequence[float], digits: int = 3) -> list[float]:
    """For reports: the rounds behind a median."""
    return [round(v, digits) for v in values]
