"""CPU time of the client of loads, and how late it sends.

python benchmarks/load_client.py [--rate 260] [--seconds 5] [--rounds 5] [--against COMMIT]

An open loop (Poisson) of JPEGs goes to a server of system calls that answers 503 and does nothing
else (``sockets`` of `refusals`), client and server each on a core of its own. ``before`` is the
client of another commit, with ``--against``; they take turns. ``lateness`` is from the moment at
which a request is due to that at which it is sent. Figures are medians of the rounds.
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
from refusals import bare

from seatrial.load.arrivals import Poisson
from seatrial.load.run import run_load
from seatrial.load.target import endpoint
from seatrial.load.window import Load


def one(port: int, rate_hz: float, seconds: float) -> dict[str, float]:
    """A load by the client that is imported here."""
    to, requests = measure.jpeg_bodies(f"http://127.0.0.1:{port}", measure.encoded(64))
    plan = Load(arrivals=Poisson(rate_hz), measure_s=seconds, warmup_s=1.0, warmup_requests=1)
    before_s = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = run_load(endpoint(to), requests, plan, measure._Nobody(), lambda _: None)
        recording = runner.run(load)
    cpu_ms = 1e3 * (time.process_time() - before_s) / measure.requests_of(recording)
    assert {sample.status for sample in recording.samples} == {503}
    late_ms = [(sample.start_ns - (sample.due_ns or 0)) / 1e6 for sample in recording.samples]
    service_ms = [sample.service_ms for sample in recording.samples]
    p50_ms, p99_ms = np.quantile(late_ms, [0.5, 0.99])
    return {
        "cpu_ms": cpu_ms,
        "lateness_p50_ms": float(p50_ms),
        "lateness_p99_ms": float(p99_ms),
        "refused_p50_ms": statistics.median(service_ms),
    }


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=260.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    measure.need_shared()
    if options.port:
        print(json.dumps(one(options.port, options.rate, options.seconds)))
        return
    client, *cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        trees = {"client": measure.ROOT}
        if options.against:
            # A folder of its own each time: one that was killed leaves it.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="seatrial-old-"))
            tree = Path(scratch) / "tree"
            trees["before"] = stack.enter_context(checkout(options.against, tree))
        port, pid = stack.enter_context(bare("sockets"))
        os.sched_setaffinity(pid, {cores[0] if cores else client})
        os.sched_setaffinity(0, {client})
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for number in range(options.rounds):
            for name in list(trees) if number % 2 == 0 else reversed(list(trees)):
                rounds[name].append(in_tree(trees[name], port, options))
                print(name, rounds[name][-1], flush=True)
    found: dict[str, object] = {"rate_hz": options.rate}
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
    env = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, __file__, *asked]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
