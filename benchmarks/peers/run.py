"""Seatrial and other servers with the same detector, engine and lanes, interleaved in one run.

    python benchmarks/peers/run.py [--servers seatrial bentoml litserve mlserver kserve triton]
        [--engine onnxruntime] [--rounds 5] [--seconds 10] [--deadline-ms 1000] [--load 3]

Each server has an environment of its own, made at the first run. In each round each server in turn
gets a closed loop of `--sessions`, then an open loop (Poisson) at `--load` times the throughput
that it had in the closed loop: answers within the deadline are its goodput. Every second round goes
in the opposite order. The other servers are up, and idle: what follows waits until all have done
what they were sent before. All have to find as many boxes in each image, or nothing is measured.

``cpu_ms`` is the CPU time of a server's processes for each answer of the closed loop. It depends
far less on neighbours of the machine than throughput does. ``of_seatrial`` is the median of the
ratios within the rounds. `--engine null` computes nothing: what is left is the server's own work.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # measure.py and overload.py

import measure
import overload
import servers

from seatrial.system.hardware import usable_cores

REST_S, AT_REST = 0.5, 0.1  # CPU seconds in a second that servers take which have nothing to do
REST_WITHIN_S = 120.0
SAME = 8  # images in which the boxes of all servers are counted
RATIOS = ("throughput_per_s", "cpu_ms")  # which are compared with ours within a round


def one_round(up: servers.Up, options: argparse.Namespace) -> dict[str, float]:
    """Closed loop, then open loop."""
    begun_s = measure.cpu_s(up.pid)
    # The deadline of some servers is one for all requests: they miss it in the closed loop, too.
    closed = measure.load(up.target, up.requests, options.sessions, options.seconds, may_fail=True)
    cpu_ms = 1e3 * (measure.cpu_s(up.pid) - begun_s) / measure.requests_of(closed)
    peak_hz = measure.throughput(closed)
    deadline_ms = options.deadline_ms
    asked = [measure.within(one, deadline_ms) for one in up.requests]
    rate_hz = options.load * peak_hz
    recording, over_ns = overload.storm(up.target, asked, rate_hz, options.seconds)
    found = overload.figures(recording, over_ns, deadline_ms, peak_hz)
    return {
        "throughput_per_s": round(peak_hz, 2),
        "cpu_ms": round(cpu_ms, 2),
        "p50_ms": round(measure.p50_ms(closed), 2),
        "goodput_per_s": found["goodput_per_s"],
        "goodput_of_peak": found["goodput_of_peak"],
        "accepted_p99_ms": found.get("accepted_p99_ms", 0.0),
        "refused_per_s": found["refused_per_s"],
        "late_or_failed": found["late_or_failed"],
    }


def come_to_rest(running: dict[str, servers.Up]) -> None:
    """Wait until no server works any more: some go on with requests whose clients have left."""
    give_up = time.monotonic() + REST_WITHIN_S
    while time.monotonic() < give_up:
        before = {name: measure.cpu_s(up.pid) for name, up in running.items()}
        time.sleep(REST_S)
        used = {name: measure.cpu_s(up.pid) - before[name] for name, up in running.items()}
        if max(used.values()) < AT_REST * REST_S:
            return
    busy = ", ".join(name for name, seconds in used.items() if seconds >= AT_REST * REST_S)
    print(f"{busy}: still at work after {REST_WITHIN_S:g} s", file=sys.stderr)


def check_same(running: dict[str, servers.Up]) -> None:
    """Leave where servers find another number of boxes in one of the images."""
    found = {
        name: [servers.count_boxes(up, request) for request in up.requests[:SAME]]
        for name, up in running.items()
    }
    if len({tuple(counts) for counts in found.values()}) > 1:
        sys.exit(f"the servers do not find the same: {found}")


def compared(rounds: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians of each server, and its ratios to ours within the rounds."""
    medians = {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for name, found in rounds.items()
    }
    for name in medians if "seatrial" in rounds else ():
        for key in RATIOS:
            pairs = zip(rounds[name], rounds["seatrial"], strict=True)
            ratio = statistics.median(one[key] / own[key] for one, own in pairs)
            medians[name][f"{key.rsplit('_per_s', 1)[0]}_of_seatrial"] = round(ratio, 3)
    return medians


def table(figures: dict[str, dict[str, float]]) -> str:
    """The medians, a server a line."""
    names = list(next(iter(figures.values())))
    head = f"| server | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n"
    rows = (
        f"| {server} | {' | '.join(f'{found[name]:g}' for name in names)} |\n"
        for server, found in figures.items()
    )
    return head + "".join(rows)


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    every = list(servers.SERVERS)
    parser.add_argument("--servers", nargs="+", choices=servers.SERVERS, default=every)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--lanes", type=int, default=usable_cores() + 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--deadline-ms", type=int, default=1000)
    parser.add_argument("--load", type=float, default=3.0)
    parser.add_argument("--no-save", action="store_true", help="print, and write no result")
    options = parser.parse_args()
    measure.need_shared()
    artifact, pictures = measure.open_artifact(), measure.encoded(32)
    setting = servers.Setting(artifact, options.engine, options.lanes, options.deadline_ms / 1e3)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in options.servers}
    with contextlib.ExitStack() as stack:
        running: dict[str, servers.Up] = {}
        for name in options.servers:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"peer-{name}-")))
            running[name] = stack.enter_context(servers.SERVERS[name](setting, scratch, pictures))
        check_same(running)
        for number in range(options.rounds):
            for name in running if number % 2 == 0 else reversed(running):
                come_to_rest(running)
                rounds[name].append(one_round(running[name], options))
                print(name, rounds[name][-1], file=sys.stderr, flush=True)
    medians = compared(rounds)
    print(table(medians))
    if not options.no_save:
        figures: dict[str, Any] = {
            "engine": options.engine, "lanes": options.lanes, "sessions": options.sessions,
            "deadline_ms": options.deadline_ms, "load": options.load, "rounds": options.rounds,
            **medians,
        }  # fmt: skip
        measure.save(f"peers-{options.engine}", figures)


if __name__ == "__main__":
    main()
