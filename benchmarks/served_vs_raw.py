"""How much of the engine's own speed the service gives away.

    python benchmarks/served_vs_raw.py [--precision f32] [--rounds 7] [--seconds 6]

In each round, one after the other: the raw engine's best throughput, the service under 8 sessions,
the raw engine's latency with all threads on one request, the service under one session; the client
runs on the same cores as the service. The service is the default deployment: nothing is set.

- ``throughput_ratio``: served at 8 sessions / raw throughput.
- ``limit_ratio``: served at 8 sessions / (cores / core-seconds of one picture), each part (engine
  on one thread, decode, preprocess, postprocess) measured in process on one core.
- ``single_stream_overhead_ms``: p50 of single 640x480 JPEGs - raw latency.
"""

from __future__ import annotations

import argparse
import statistics

import measure
import psutil

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Precision
from seatrial.detect.decode import decode
from seatrial.detect.preprocess import fit
from seatrial.engines.base import Arrays, EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.system import hardware


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    measure.need_shared()
    artifact, cores = measure.open_artifact(), hardware.usable_cores()
    pictures, vga = measure.encoded(64), measure.encoded(64, only_hw=(480, 640))
    raw_throughput = measure.raw_openvino_throughput(artifact, options.precision)
    raw_wide = measure.raw_openvino_latency(artifact, options.precision, cores)
    raw_single = measure.raw_openvino_latency(artifact, options.precision, 1)
    outputs = run_engine(artifact, pictures, options.precision)
    rows: list[dict[str, float]] = []
    deployment = Deployment("model", precision=options.precision)
    with measure.served(artifact, deployment) as service:
        to, mixed = measure.jpeg_bodies(service.url, pictures)
        _, same = measure.jpeg_bodies(service.url, vga)
        for _ in range(options.rounds):
            parts = measure.parts_ms(artifact, pictures, outputs)
            engine_ms = raw_single(options.seconds / 3)
            raw = raw_throughput(options.seconds)
            loaded = measure.throughput(measure.load(to, mixed, 8, options.seconds))
            wide_ms = raw_wide(options.seconds / 2)
            alone_ms = measure.p50_ms(measure.load(to, same, 1, options.seconds))
            limit = 1e3 * cores / (engine_ms + sum(parts.values()))
            rows.append(
                {
                    **{f"{name}_ms": value for name, value in parts.items()},
                    "engine_one_core_ms": engine_ms,
                    "limit_per_s": limit,
                    "raw_per_s": raw,
                    "served_per_s": loaded,
                    "throughput_ratio": loaded / raw,
                    "limit_ratio": loaded / limit,
                    "raw_latency_ms": wide_ms,
                    "single_stream_p50_ms": alone_ms,
                    "single_stream_overhead_ms": alone_ms - wide_ms,
                }
            )
            print({key: round(value, 3) for key, value in rows[-1].items()}, flush=True)
        memory = memory_mb(service.process.pid)
    figures = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    rounds = {key: measure.rounded([row[key] for row in rows]) for key in rows[0]}
    measure.save(
        f"served_vs_raw_{options.precision}",
        {**figures, "memory_mb": memory, "vga_pictures": len(vga), "rounds": rounds},
    )


def run_engine(artifact: Artifact, pictures: list[bytes], precision: Precision) -> list[Arrays]:
    """The engine's real outputs, for timing the postprocessing on them."""
    engine = open_engine(artifact, "openvino", EngineConfig(precision=precision))
    name, size = artifact.manifest.inputs[0].name, artifact.manifest.preprocessing
    results: list[Arrays] = []
    for picture in pictures:
        batch, _ = fit(decode(picture, max_pixels=10**8), size)
        results.append({k: v.copy() for k, v in engine.narrow[0].infer({name: batch}).items()})
    engine.close()
    return results


def memory_mb(pid: int) -> dict[str, float]:
    """Proportional set size of the service's processes, MB."""
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    return {" ".join(p.cmdline()[1:4]): round(p.memory_full_info().pss / 1e6, 1) for p in family}


if __name__ == "__main__":
    main()
