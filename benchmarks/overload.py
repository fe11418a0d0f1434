"""Open loop, Poisson, at multiples of the capacity: answers within the deadline, cost of refusals.

python benchmarks/overload.py [--seconds 60] [--loads 3 10] [--workers 1]
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time
from typing import Any

import httpx
import measure
import numpy as np
import psutil
import uvloop

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.load.arrivals import Poisson
from seatrial.load.http_client import Sample
from seatrial.load.run import Load, Recording, run_load
from seatrial.load.target import Body, Target, endpoint

NORMAL_S = 3.0  # watched after the storm, at a tenth of the capacity


def storm(to: Target, requests: list[Body], rate_hz: float, seconds: float) -> Recording:
    """An open loop at a rate; its first second is not counted."""
    plan = Load(arrivals=Poisson(rate_hz), measure_s=seconds, warmup_s=1.0, warmup_requests=1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_load(endpoint(to), requests, plan, measure._Nobody(), lambda _: None))


def figures(recording: Recording, deadline_ms: float, peak_hz: float) -> dict[str, Any]:
    """Goodput, latency of what was let in, latency of refusals."""
    samples = [*recording.samples, *recording.stragglers]
    seconds = (recording.close_ns - recording.open_ns) / 1e9
    answered = [one for one in recording.samples if one.status == 200]
    refused = [one for one in recording.samples if one.status == 503]
    accepted = [one for one in samples if one.status != 503]
    # From the send: a client on the same cores sends late, which is not the service's time.
    good = [one for one in answered if one.service_ms <= deadline_ms]
    return {
        "goodput_per_s": round(len(good) / seconds, 2),
        "goodput_of_peak": round(len(good) / seconds / peak_hz, 3),
        "refused_per_s": round(len(refused) / seconds, 1),
        **quantiles("accepted", accepted),
        **quantiles("refused", refused),
        "late_or_failed": len([one for one in accepted if one.status != 200]),
    }


def quantiles(name: str, samples: list[Sample]) -> dict[str, float]:
    """p50 and p99, ms."""
    if not samples:
        return {}
    p50, p99 = np.quantile([one.service_ms for one in samples], [0.5, 0.99])
    return {f"{name}_p50_ms": round(float(p50), 2), f"{name}_p99_ms": round(float(p99), 2)}


def within(requests: list[Body], deadline_ms: int) -> list[Body]:
    """The same requests with a deadline of their own."""
    asked = {"X-Request-Timeout-Ms": str(deadline_ms)}
    return [Body(one.data, {**one.headers, **asked}) for one in requests]


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its descendants."""
    root = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in (root, *root.children(recursive=True)))


def refusing(artifact: Artifact, pictures: list[bytes], rate_hz: float) -> dict[str, Any]:
    """Latency and cores of refusals alone: one request whose body does not come is all it takes."""
    full = Deployment("model", layout=CoreLayout(workers=1), limits=Limits(queue=1, body_s=60.0))
    with measure.served(artifact, full) as service, socket.socket() as held:
        to, requests = measure.jpeg_bodies(service.url, pictures)
        held.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
        held.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        time.sleep(0.5)
        pid = service.process.pid
        before, start = cpu_s(pid), time.monotonic()
        found = storm(to, requests, rate_hz, 10.0)
        share = (cpu_s(pid) - before) / (time.monotonic() - start)
    refused = [one for one in found.samples if one.status == 503]
    return {
        "refused_per_s": round(len(refused) / 10.0, 1),
        **quantiles("refused", refused),
        "late_or_failed": len(found.samples) - len(refused),
        "core_share": round(share, 4),
    }


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--loads", type=float, nargs="+", default=[3.0, 10.0])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact()
    pictures = measure.encoded(64)
    deployment = Deployment("model", layout=CoreLayout(workers=options.workers))
    results: dict[str, Any] = {"workers": options.workers, "seconds": options.seconds}
    with measure.served(artifact, deployment) as service:
        to, requests = measure.jpeg_bodies(service.url, pictures)
        peak_hz = measure.throughput(measure.load(to, within(requests, 60_000), 8, 10))
        results["peak_per_s"] = round(peak_hz, 2)
        model = httpx.get(f"{service.url}/model").json()
        deadline_ms = 1e3 * model["limits"]["deadline_s"]
        results["deadline_ms"] = round(deadline_ms)
        for load in options.loads:
            recording = storm(to, requests, load * peak_hz, options.seconds)
            results[f"at_{load:g}x"] = figures(recording, deadline_ms, peak_hz)
            after = storm(to, requests, 0.1 * peak_hz, NORMAL_S)
            results[f"after_{load:g}x"] = figures(after, deadline_ms, 0.1 * peak_hz)
            print(load, results[f"at_{load:g}x"], results[f"after_{load:g}x"], flush=True)
    results["refusals_alone"] = refusing(artifact, pictures, 10 * peak_hz)
    measure.save("overload", results)


if __name__ == "__main__":
    main()
