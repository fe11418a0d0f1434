"""Everything but the model: HTTP + decode + JSON for a 112 KB JPEG, the engine computing nothing.

python benchmarks/null_engine.py [--rounds 5] [--seconds 5]

``cpu_ms`` is the CPU time of a request under load, by where it is spent: the client, and of the
service the event loop (connections, HTTP, admission, body, answer) and the threads of requests. The
lines below are what the work of these threads takes alone, in this process, and ``rest``: threads
that wake each other, caches that others have used, clocks, tickets and lanes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import measure
import msgspec
import numpy as np
import psutil
from prometheus_client import CollectorRegistry

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment
from seatrial.detect.answer import answer
from seatrial.detect.opening import open_detector
from seatrial.serve.metrics import RequestMetrics

SIZE_BYTES = 112_000
REPEATS = 50


def event_loop_s(pid: int) -> float:
    """CPU seconds of the main threads of a service's server processes."""
    workers = psutil.Process(pid).children()
    runs = (Path(f"/proc/{one.pid}/task/{one.pid}/schedstat").read_text() for one in workers)
    return sum(int(line.split()[0]) for line in runs) / 1e9


def alone_ms(artifact: Artifact, picture: bytes) -> dict[str, float]:
    """CPU time of each step of a request's thread, alone."""
    deployment = Deployment("model", engine="null")
    with open_detector(artifact, deployment) as detector:
        found = detector.detect(picture, deployment.detection.of(artifact.manifest))
        outputs = detector.engine.narrow[0].infer({"": np.empty(1)})
        parts = measure.parts_ms(artifact, [picture] * REPEATS, [outputs] * REPEATS)
        labels, metrics = artifact.manifest.labels, RequestMetrics(registry=CollectorRegistry())
        timing_ms = {**found.stages_ms, "total": 1.0}
        parts["encode"] = mean_ms(lambda: msgspec.json.encode(answer(found, labels, timing_ms)))
        parts["metrics"] = mean_ms(lambda: metrics.observe(timing_ms, 0, 1))
    return parts


def mean_ms(step: Callable[[], object]) -> float:
    """CPU time of a step, the median of five times many."""
    rounds = []
    for _ in range(5):
        begun = time.thread_time()
        for _ in range(REPEATS):
            step()
        rounds.append((time.thread_time() - begun) / REPEATS)
    return 1e3 * statistics.median(rounds)


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact()
    vga = measure.encoded(64, only_hw=(480, 640))
    picture = min(vga, key=lambda data: abs(len(data) - SIZE_BYTES))
    rates, latencies = [], []
    spent: dict[str, list[float]] = defaultdict(list)
    alone = alone_ms(artifact, picture)
    with measure.served(artifact, Deployment("model", engine="null")) as service:
        to, requests = measure.jpeg_bodies(service.url, [picture])
        pid = service.process.pid

        def used_s() -> tuple[float, float, float]:
            return measure.cpu_s(pid), event_loop_s(pid), time.process_time()

        for _ in range(options.rounds):
            before = used_s()
            busy = measure.load(to, requests, 8, options.seconds)
            service_ms, loop_ms, client_ms = (
                1e3 * (now - then) / measure.requests_of(busy)
                for now, then in zip(used_s(), before, strict=True)
            )
            rates.append(measure.throughput(busy))
            spent["client"].append(client_ms)
            spent["service"].append(service_ms)
            spent["event loop"].append(loop_ms)
            spent["request threads"].append(service_ms - loop_ms)
            latencies.append(measure.p50_ms(measure.load(to, requests, 1, options.seconds)))
    cpu_ms = {name: statistics.median(values) for name, values in spent.items()}
    cpu_ms |= alone | {"rest": cpu_ms["request threads"] - sum(alone.values())}
    measure.save(
        "null_engine",
        {
            "picture_bytes": len(picture),
            "served_per_s": statistics.median(rates),
            "single_stream_p50_ms": statistics.median(latencies),
            **{f"cpu_ms: {name}": round(value, 3) for name, value in cpu_ms.items()},
            "rounds": {"served_per_s": measure.rounded(rates, 1)},
        },
    )


if __name__ == "__main__":
    main()
