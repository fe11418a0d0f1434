"""How many narrow lanes: services with different layouts, interleaved in one run.

    python benchmarks/lanes.py [--instances 2 3 4] [--precision bf16] [--sessions 8] [--rounds 8]

``idle_ms`` is the time that the machine's cores stood idle for each request.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics

import measure
import psutil

from seatrial.deployment import CoreLayout, Deployment


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--instances", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--precision", default="bf16", choices=["f32", "bf16"])
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    measure.need_shared()
    artifact, pictures = measure.open_artifact(), measure.encoded(64)
    rows: dict[int, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        urls = {}
        for count in options.instances:
            layout = CoreLayout(instances=count, threads=1)
            deployment = Deployment("model", precision=options.precision, layout=layout)
            urls[count] = stack.enter_context(measure.served(artifact, deployment)).url
        for _ in range(options.rounds):
            for count, url in urls.items():
                to, requests = measure.jpeg_bodies(url, pictures)
                idle = psutil.cpu_times().idle
                recording = measure.load(to, requests, options.sessions, options.seconds)
                idle = psutil.cpu_times().idle - idle
                done = len(recording.samples) + recording.warmup_requests
                row = (measure.throughput(recording), 1e3 * idle / done)
                rows.setdefault(count, []).append(row)
                print(count, f"{row[0]:.1f}/s", f"idle {row[1]:.2f} ms", flush=True)
    first = rows[options.instances[0]]
    figures = {
        f"{count} lanes": {
            "served_per_s": statistics.median(r[0] for r in row),
            "idle_ms": statistics.median(r[1] for r in row),
            "throughput_ratio": statistics.median(
                r[0] / f[0] for r, f in zip(row, first, strict=True)
            ),
        }
        for count, row in rows.items()
    }
    measure.save(f"lanes_{options.precision}", figures)


if __name__ == "__main__":
    main()
