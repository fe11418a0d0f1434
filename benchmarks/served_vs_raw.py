"""How much of the engine's own speed the service gives away.

    python benchmarks/served_vs_raw.py [--precision f32] [--rounds 7] [--seconds 6]
    python benchmarks/served_vs_raw.py --single-stream [--engine openvino] [--precision f32]
                                       [--seconds 150]

In each round, one after the other: the raw engine's best throughput, the service under 8 sessions;
the client runs on the same cores as the service. The service is the default deployment: nothing is
set.

- ``throughput_ratio``: served at 8 sessions / raw throughput.
- ``limit_ratio``: served at 8 sessions / (cores / core-seconds of one picture), each part (engine
  on one thread, decode, preprocess, postprocess) measured in process on one core.

With ``--single-stream`` one request at a time, in ways that take turns within a second (see
`single_stream`), each with a few calls in a row on the same 640x480 JPEGs:

- ``raw``: the detector in this process, called again and again;
- ``raw_after_gap``: the same after this process was idle for as long as the service's lane is
  between two requests of one session;
- ``plain``: the least server that there can be, with a client of a few lines;
- ``service``: the service, with the same client;
- ``client``: the service, with `seatrial.Client`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import urllib.request

import measure
import psutil
import single_stream

from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Precision
from seatrial.detect.decode import decode
from seatrial.detect.opening import open_detector
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
    parser.add_argument("--seconds", type=float, help="of a load; or of all with --single-stream")
    parser.add_argument("--engine", default="openvino", help="with --single-stream")
    parser.add_argument("--single-stream", action="store_true")
    options = parser.parse_args()
    options.seconds = options.seconds or (150.0 if options.single_stream else 6.0)
    measure.need_shared()
    if options.single_stream:
        one_at_a_time(options)
        return
    artifact, cores = measure.open_artifact(), hardware.usable_cores()
    pictures = measure.encoded(64)
    raw_throughput = measure.raw_openvino_throughput(artifact, options.precision)
    raw_single = measure.raw_openvino_latency(artifact, options.precision, 1)
    outputs = run_engine(artifact, pictures, options.precision)
    rows: list[dict[str, float]] = []
    deployment = Deployment("model", precision=options.precision)
    with measure.served(artifact, deployment) as service:
        to, mixed = measure.jpeg_bodies(service.url, pictures)
        for _ in range(options.rounds):
            parts = measure.parts_ms(artifact, pictures, outputs)
            engine_ms = raw_single(options.seconds / 3)
            raw = raw_throughput(options.seconds)
            loaded = measure.throughput(measure.load(to, mixed, 8, options.seconds))
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
                }
            )
            print({key: round(value, 3) for key, value in rows[-1].items()}, flush=True)
        memory = memory_mb(service.process.pid)
    figures = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    rounds = {key: measure.rounded([row[key] for row in rows]) for key in rows[0]}
    measure.save(
        f"served_vs_raw_{options.precision}",
        {**figures, "memory_mb": memory, "rounds": rounds},
    )


def one_at_a_time(options: argparse.Namespace) -> None:
    """Measure a single stream and save."""
    artifact = measure.open_artifact()
    deployment = Deployment("model", engine=options.engine, precision=options.precision)
    pictures = measure.encoded(64, only_hw=(480, 640))
    with contextlib.ExitStack() as stack:
        detector = stack.enter_context(open_detector(artifact, deployment))
        service = stack.enter_context(measure.served(artifact, deployment))
        plain_url, pid = stack.enter_context(single_stream.plain_server(artifact, deployment))
        plain, close_plain = single_stream.over_http(plain_url)
        stack.callback(close_plain)
        served, close_served = single_stream.over_http(service.url)
        stack.callback(close_served)
        client, close_client = single_stream.by_client(service.url)
        stack.callback(close_client)
        first, _ = single_stream.by_turns({"service": served}, pictures, 5.0)
        idle_s = 1e-3 * single_stream.medians_ms(first["service"])["overhead"]
        ways = {
            "raw": single_stream.in_process(detector),
            "raw_after_gap": single_stream.in_process(detector, lambda: idle_s),
            "plain": plain,
            "service": served,
            "client": client,
        }
        single_stream.by_turns(ways, pictures, 3.0)
        pids = {
            "this process": [os.getpid()],
            "plain server": [pid],
            "service": [one.pid for one in family(service.process.pid)],
        }
        before_s, before = stage_seconds(service.url, "send")
        calls, used_ms = single_stream.by_turns(
            ways,
            pictures,
            options.seconds,
            lambda: {name: single_stream.cpu_ms(each) for name, each in pids.items()},
        )
        sent_s, sent = stage_seconds(service.url, "send")
    figures: dict[str, object] = {
        "iterations": len(calls["raw"]),
        "calls_of_each": len(calls["raw"]) * (single_stream.BURST - single_stream.SETTLES),
        "idle_gap_ms": 1e3 * idle_s,
        "send_mean_ms": 1e3 * (sent_s - before_s) / (sent - before),
    }
    for name, rows in calls.items():
        figures[f"{name}, ms"] = single_stream.medians_ms(rows)
    for name, row in used_ms.items():
        figures[f"{name}: CPU of each process, ms"] = row
    for name, base, stage, base_stage in DIFFERENCES:
        title = f"{name} {stage} - {base} {base_stage}, ms"
        figures[title] = single_stream.difference_ms(calls[name], calls[base], stage, base_stage)
    measure.save(f"single_stream_{options.engine}_{options.precision}", figures)


DIFFERENCES = (
    ("service", "raw", "latency", "infer"),
    ("service", "raw_after_gap", "latency", "infer"),
    ("plain", "raw", "latency", "infer"),
    ("service", "raw", "latency", "latency"),
    ("raw_after_gap", "raw", "latency", "latency"),
    ("plain", "raw", "latency", "latency"),
    ("service", "plain", "latency", "latency"),
    ("client", "service", "latency", "latency"),
    ("service", "raw", "infer", "infer"),
    ("plain", "raw", "infer", "infer"),
    ("raw_after_gap", "raw", "infer", "infer"),
    ("service", "raw", "decode", "decode"),
    ("plain", "raw", "decode", "decode"),
    ("service", "raw", "postprocess", "postprocess"),
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


def family(pid: int) -> list[psutil.Process]:
    """The processes of a service."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def memory_mb(pid: int) -> dict[str, float]:
    """Proportional set size of the service's processes, MB."""
    sizes = {" ".join(p.cmdline()[1:4]): p.memory_full_info().pss for p in family(pid)}
    return {name: round(size / 1e6, 1) for name, size in sizes.items()}


def stage_seconds(url: str, stage: str) -> tuple[float, float]:
    """Seconds and requests of a stage, as the metrics of a service have them."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    name = "seatrial_stage_seconds"
    found = [re.search(rf'^{name}_{kind}{{stage="{stage}"}} (\S+)', page, re.MULTILINE)
             for kind in ("sum", "count")]  # fmt: skip
    if not all(found):
        raise SystemExit(f"no {name} of the stage {stage} at {url}/metrics")
    seconds, count = (float(one[1]) for one in found if one)
    return seconds, count


if __name__ == "__main__":
    main()
