"""CPU time of the client of loads, and how late it sends.

python benchmarks/load_client.py [--rate 1500] [--bytes 114688] [--seconds 3] [--rounds 5]
                                 [--ceiling] [--against COMMIT]

An open loop (Poisson) goes to the null server (`seatrial.load.null_server`), client and server each
on a core of its own. ``before`` is the client of another commit, with ``--against``; they take
turns. ``lateness`` is from the moment at which a request is due to that at which it is sent.
``ceiling_per_s`` is the highest rate at which its 99th percentile stays below 2 ms
(`seatrial.load.ceiling`). Figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
import uvloop
from against_commit import checkout

from seatrial.load.arrivals import Poisson
from seatrial.load.ceiling import measure_ceiling
from seatrial.load.null_server import null_server
from seatrial.load.run import run_load
from seatrial.load.target import Body, Target, endpoint
from seatrial.load.window import Load


def one(port: int, options: argparse.Namespace) -> dict[str, float]:
    """A load by the client that is imported here, and its ceiling."""
    to = Target(f"http://127.0.0.1:{port}")
    requests = [Body(os.urandom(options.bytes), {"Content-Type": "image/jpeg"}) for _ in range(64)]
    plan = Load(arrivals=Poisson(options.rate), measure_s=options.seconds, warmup_s=0.5)
    before_s = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = run_load(endpoint(to), requests, plan, measure._Nobody(), lambda _: None)
        recording = runner.run(load)
    cpu_ms = 1e3 * (time.process_time() - before_s) / measure.requests_of(recording)
    assert {sample.status for sample in recording.samples} == {200}
    late_ms = [(sample.start_ns - (sample.due_ns or 0)) / 1e6 for sample in recording.samples]
    service_ms = [sample.service_ms for sample in recording.samples]
    p50_ms, p99_ms = np.quantile(late_ms, [0.5, 0.99])
    found = {
        "cpu_ms": cpu_ms,
        "lateness_p50_ms": float(p50_ms),
        "lateness_p99_ms": float(p99_ms),
        "service_p50_ms": statistics.median(service_ms),
    }
    if options.ceiling:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        found["ceiling_per_s"] = measure_ceiling(options.bytes).rate_hz
    return found


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=1500.0)
    parser.add_argument("--bytes", type=int, default=114_688)
    parser.add_argument("--ceiling", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port:
        print(json.dumps(one(options.port, options)))
        return
    client, *cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        trees = {"client": measure.ROOT}
        if options.against:
            # A folder of its own each time: one that was killed leaves it.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="seatrial-old-"))
            tree = Path(scratch) / "tree"
            trees["before"] = stack.enter_context(checkout(options.against, tree))
        server = stack.enter_context(null_server())
        os.sched_setaffinity(server.pid, {cores[0] if cores else client})
        os.sched_setaffinity(0, {client})
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for number in range(options.rounds):
            for name in list(trees) if number % 2 == 0 else reversed(list(trees)):
                rounds[name].append(in_tree(trees[name], server.port, options))
                print(name, rounds[name][-1], flush=True)
    found: dict[str, object] = {"rate_hz": options.rate, "bytes": options.bytes}
    for name, rows in rounds.items():
        found[name] = {
            figure: round(statistics.median(row[figure] for row in rows), 4) for figure in rows[0]
        }
    if options.against:
        pairs = zip(rounds["client"], rounds["before"], strict=True)
        ratio = statistics.median(own["cpu_ms"] / before["cpu_ms"] for own, before in pairs)
        found["cpu_of_before"] = round(ratio, 3)
    measure.save("load_client", found)


def in_tree(tree: Path, port: int, options: argparse.Namespace) -> dict[str, float]:
    """The figures of the client of a tree, in a process of its own."""
    asked = ["--port", str(port), "--rate", str(options.rate), "--seconds", str(options.seconds)]
    asked += ["--bytes", str(options.bytes), *(["--ceiling"] if options.ceiling else [])]
    env = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, __file__, *asked]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
