"""Seatrial against the plain service of reference_service.py, interleaved in one run.

    python benchmarks/vs_reference.py [--rounds 5] [--seconds 8]

Per round each service in turn gets 8 closed-loop sessions and one session, on the same pictures and
the same cores; the other services are up and idle. `*_ratio` is against the reference.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import measure

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Precision
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import DeviceUnavailable
from seatrial.serve.address import free_port
from seatrial.serve.service_folder import environment


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    measure.need_shared()
    artifact, pictures = measure.open_artifact(), measure.encoded(64)
    best: Precision = "bf16" if has_bf16(artifact) else "f32"
    deployments = {
        "onnxruntime_f32": Deployment("model", engine="onnxruntime"),
        f"openvino_{best}": Deployment("model", precision=best),
    }
    rows: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        urls = {"reference": stack.enter_context(reference())}
        for name, deployment in deployments.items():
            urls[name] = stack.enter_context(measure.served(artifact, deployment)).url
        for number in range(options.rounds):
            for name, url in urls.items():
                to, requests = measure.jpeg_bodies(url, pictures, field="image")
                eight = measure.throughput(measure.load(to, requests, 8, options.seconds))
                alone = measure.p50_ms(measure.load(to, requests, 1, options.seconds))
                rows.setdefault(name, []).append((eight, alone))
                print(number, name, f"{eight:.1f}/s", f"{alone:.1f} ms", flush=True)
    figures: dict[str, object] = {}
    base = rows["reference"]
    for name, row in rows.items():
        figures[name] = {
            "served_per_s": statistics.median(r[0] for r in row),
            "single_stream_p50_ms": statistics.median(r[1] for r in row),
            "throughput_ratio": statistics.median(
                r[0] / b[0] for r, b in zip(row, base, strict=True)
            ),
            "single_stream_ratio": statistics.median(
                r[1] / b[1] for r, b in zip(row, base, strict=True)
            ),
        }
    measure.save("vs_reference", figures)


def has_bf16(artifact: Artifact) -> bool:
    """Whether the best non-INT8 precision of this CPU is bf16."""
    try:
        open_engine(artifact, "openvino", EngineConfig(precision="bf16")).close()
    except DeviceUnavailable:
        return False
    return True


@contextlib.contextmanager
def reference() -> Iterator[str]:
    """The reference service's address."""
    port = free_port("127.0.0.1")
    command = [
        sys.executable, "-m", "bentoml", "serve", "reference_service:Reference",
        "--working-dir", str(Path(__file__).parent), "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        env = {**environment(os.environ), "REFERENCE_MODEL": str(measure.MODEL)}
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            wait_ready(process, f"http://127.0.0.1:{port}/readyz")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Return when it answers."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    sys.exit("the reference service did not start")


if __name__ == "__main__":
    main()
