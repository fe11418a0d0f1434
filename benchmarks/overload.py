"""Open loop, Poisson, at multiples of the capacity: answers within the deadline, cost of refusals.

python benchmarks/overload.py [--seconds 60] [--rounds 1] [--loads 3 10] [--workers 1]
                              [--neighbour] [--hand-set 2 4 8 16 32]

The peak is the throughput of eight sessions that wait for their answers. It is measured before and
after each storm, and the storm is compared with the mean of both: the speed of a virtual machine
changes by some per cent within minutes. With several rounds, figures are of the requests of all.

After each storm half of the capacity is asked for: ``normal_after_s`` is when the last request was
sent, counted from the end of the storm, that was refused, late or failed; 0 where there was none.

The client runs on the same cores. ``client_cores`` and ``service_cores`` are what both take of
them; ``goodput_of_left`` is the share of the peak that the cores which the client leaves could
reach: goodput / (peak x cores left in the storm / cores left at the peak).

``--neighbour`` measures once more while another process takes all it gets of one core, and once
with that process from the middle of the storm on. ``--hand-set`` compares the goodput at the first
load with that of services which admit by a number of requests alone, as people set it by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import measure
import numpy as np
import psutil
import uvloop

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.load.arrivals import Steps
from seatrial.load.run import run_load
from seatrial.load.samples import Sample
from seatrial.load.target import Body, Target, endpoint
from seatrial.load.window import Load, Recording
from seatrial.system.hardware import usable_cores

WARMUP_S = 1.0
CALM_S = 4.0  # watched after the storm
PEAK_SESSIONS, PEAK_S = 8, 10.0
SETTLED_S = 5.0  # after a neighbour has come


def storm(
    to: Target, requests: list[Body], rate_hz: float, seconds: float, calm_hz: float = 0.0
) -> tuple[Recording, int]:
    """Poisson arrivals at a rate, of which the first second is not counted; and when it was over.

    Where ``calm_hz`` is given, requests at that rate follow for `CALM_S`.
    """
    law = Steps((rate_hz, calm_hz or rate_hz), each_s=WARMUP_S + seconds)
    plan = Load(
        arrivals=law,
        measure_s=seconds + (CALM_S if calm_hz else 0.0),
        warmup_s=WARMUP_S,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = run_load(endpoint(to), requests, plan, measure._Nobody(), lambda _: None)
        recording = runner.run(load)
    return recording, recording.open_ns + round(1e9 * seconds)


def figures(
    recording: Recording, over_ns: int, deadline_ms: float, peak_hz: float
) -> dict[str, Any]:
    """Goodput, latency of what was let in, latency of refusals, and what comes after the storm."""
    seconds = (min(over_ns, recording.close_ns) - recording.open_ns) / 1e9
    everything = [*recording.samples, *recording.stragglers]
    samples = [one for one in everything if (one.due_ns or 0) < over_ns]
    refused = [one for one in samples if one.status == 503]
    accepted = [one for one in samples if one.status != 503]
    calm = [one for one in everything if (one.due_ns or 0) >= over_ns]
    amiss_s = [((one.due_ns or 0) - over_ns) / 1e9 for one in calm if not good(one, deadline_ms)]
    goodput = sum(good(one, deadline_ms) for one in samples) / seconds
    return {
        "goodput_per_s": round(goodput, 2),
        "goodput_of_peak": round(goodput / peak_hz, 3),
        "refused_per_s": round(len(refused) / seconds, 1),
        **quantiles("accepted", accepted),
        **quantiles("refused", refused),
        "late_or_failed": sum(not good(one, deadline_ms) for one in accepted),
        **({"normal_after_s": round(max(amiss_s, default=0.0), 2)} if calm else {}),
    }


def good(sample: Sample, deadline_ms: float) -> bool:
    """Whether a request was answered by its deadline.

    From the send: a client on the same cores sends late, which is not the service's time.
    """
    return sample.status == 200 and sample.service_ms <= deadline_ms


def quantiles(name: str, samples: list[Sample]) -> dict[str, float]:
    """p50 and p99, ms."""
    if not samples:
        return {}
    p50, p99 = np.quantile([one.service_ms for one in samples], [0.5, 0.99])
    return {f"{name}_p50_ms": round(float(p50), 2), f"{name}_p99_ms": round(float(p99), 2)}


def refusing(artifact: Artifact, pictures: list[bytes], rate_hz: float) -> dict[str, Any]:
    """Latency and cores of refusals alone: one request whose body does not come is all it takes."""
    full = Deployment("model", layout=CoreLayout(workers=1), limits=Limits(queue=1, body_s=60.0))
    with measure.served(artifact, full) as service, socket.socket() as held:
        to, requests = measure.jpeg_bodies(service.url, pictures)
        measure.hold(held, int(service.url.rpartition(":")[2]))
        time.sleep(0.5)
        pid = service.process.pid
        before, start = measure.cpu_s(pid), time.monotonic()
        found, _ = storm(to, requests, rate_hz, 10.0)
        share = (measure.cpu_s(pid) - before) / (time.monotonic() - start)
    refused = [one for one in found.samples if one.status == 503]
    return {
        "refused_per_s": round(len(refused) / 10.0, 1),
        **quantiles("refused", refused),
        "late_or_failed": len(found.samples) - len(refused),
        "core_share": round(share, 4),
    }


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """A process that takes all it gets of one core."""
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    os.sched_setaffinity(burner.pid, {min(os.sched_getaffinity(0))})
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


class Cores:
    """Cores that this process, the client, the service and all others take from now on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = self._now()

    def _now(self) -> tuple[float, ...]:
        machine = psutil.cpu_times()
        stolen_s = getattr(machine, "steal", 0.0)
        busy_s = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0) - stolen_s
        # User time has that of guests in it, and nice time that of nice guests.
        busy_s -= getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
        client_s, service_s = time.process_time(), measure.cpu_s(self._pid)
        return time.monotonic(), client_s, service_s, busy_s, stolen_s

    def taken(self) -> dict[str, float]:
        """CPU seconds in a second: of the client, the service, others, and other machines."""
        passed_s, client, service, busy, stolen = (
            now - begun for now, begun in zip(self._now(), self._begun, strict=True)
        )
        return {
            "client_cores": round(client / passed_s, 3),
            "service_cores": round(service / passed_s, 3),
            "other_cores": round(max(0.0, busy - client - service) / passed_s, 3),
            "stolen_cores": round(stolen / passed_s, 3),
        }


def storms(
    to: Target, requests: list[Body], options: argparse.Namespace, deadline_ms: float, pid: int
) -> dict[str, Any]:
    """The capacity, and each load by turns; `pid` is that of the service."""

    def at_peak() -> tuple[float, dict[str, float]]:
        cores = Cores(pid)
        # Some are refused where a neighbour takes the cores for a moment: they do not count.
        sent = measure.load(to, requests, PEAK_SESSIONS, PEAK_S, may_fail=True)
        peak_hz = measure.throughput(sent)
        return peak_hz, cores.taken()

    rows: dict[float, list[Storms]] = {load: [] for load in options.loads}
    before = at_peak()
    peaks = [before]
    for _ in range(options.rounds):
        for load in options.loads:
            cores = Cores(pid)
            sent = storm(to, requests, load * before[0], options.seconds, before[0] / 2)
            taken = cores.taken()
            after = at_peak()
            peaks.append(after)
            rows[load].append(Storms(*sent, taken, [before, after]))
            print(load, rows[load][-1].figures(deadline_ms), flush=True)
            before = after
    found: dict[str, Any] = {"peak_per_s": round(statistics.median(hz for hz, _ in peaks), 2)}
    found |= mean_of([taken for _, taken in peaks])
    return found | {f"at_{load:g}x": summary(rows[load], deadline_ms) for load in options.loads}


@dataclass
class Storms:
    """One storm, what was taken of the cores in it, and both peaks beside it."""

    recording: Recording
    over_ns: int
    taken: dict[str, float]
    peaks: list[tuple[float, dict[str, float]]]

    def figures(self, deadline_ms: float) -> dict[str, Any]:
        """See `figures`."""
        peak_hz = statistics.fmean(hz for hz, _ in self.peaks)
        row = figures(self.recording, self.over_ns, deadline_ms, peak_hz)
        at_peak = mean_of([taken for _, taken in self.peaks])["client_cores"]
        left = (usable_cores() - self.taken["client_cores"]) / (usable_cores() - at_peak)
        return row | {"goodput_of_left": round(row["goodput_of_peak"] / left, 3)} | self.taken


def summary(rounds: list[Storms], deadline_ms: float) -> dict[str, Any]:
    """Figures of all storms of a load: of all their requests, and means and worst of the rounds."""
    rows = [one.figures(deadline_ms) for one in rounds]
    found: dict[str, Any] = mean_of(rows)
    of_peak = [row["goodput_of_peak"] for row in rows]
    found["goodput_of_peak_lowest"], found["goodput_of_peak_highest"] = min(of_peak), max(of_peak)
    found["late_or_failed"] = sum(row["late_or_failed"] for row in rows)
    found["normal_after_s"] = max(row["normal_after_s"] for row in rows)
    sent = [
        sample
        for one in rounds
        for sample in (*one.recording.samples, *one.recording.stragglers)
        if (sample.due_ns or 0) < one.over_ns
    ]
    found |= quantiles("accepted", [sample for sample in sent if sample.status != 503])
    return found | quantiles("refused", [sample for sample in sent if sample.status == 503])


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means of what is in all rows."""
    return {name: round(statistics.fmean(row[name] for row in rows), 3) for name in rows[0]}


def with_neighbour(
    to: Target,
    requests: list[Body],
    options: argparse.Namespace,
    deadline_ms: float,
    alone_hz: float,
    pid: int,
) -> dict[str, Any]:
    """The same beside another process, and what becomes of a storm into which it comes."""
    with neighbour():
        found = storms(to, requests, options, deadline_ms, pid)
    stop = threading.Event()

    def come() -> None:
        if not stop.wait(1.0 + options.seconds / 2):
            with neighbour():
                stop.wait()

    coming = threading.Thread(target=come)
    coming.start()
    rate_hz = options.loads[0] * alone_hz
    recording, over_ns = storm(to, requests, rate_hz, options.seconds)
    stop.set()
    coming.join()
    settled_ns = over_ns - round(1e9 * max(1.0, options.seconds / 2 - SETTLED_S))
    accepted = [
        one
        for one in (*recording.samples, *recording.stragglers)
        if one.status != 503 and settled_ns <= (one.due_ns or 0) < over_ns
    ]
    late = sum(not good(one, deadline_ms) for one in accepted)
    found["it_comes"] = {**quantiles("accepted", accepted), "accepted": len(accepted), "late": late}
    return found


def hand_set(
    artifact: Artifact, pictures: list[bytes], options: argparse.Namespace, deadline_ms: float,
    peak_hz: float,
) -> dict[str, Any]:  # fmt: skip
    """Goodput within the same deadline where a number of requests is the only limit."""
    found: dict[str, Any] = {}
    for queue in options.hand_set:
        limits = Limits(queue=queue, deadline_s=60.0, longest_deadline_s=60.0)
        layout = CoreLayout(workers=options.workers)
        with measure.served(artifact, Deployment("model", layout=layout, limits=limits)) as service:
            to, requests = measure.jpeg_bodies(service.url, pictures)
            measure.load(to, requests, 1, 2)
            recording, over_ns = storm(to, requests, options.loads[0] * peak_hz, options.seconds)
        found[str(queue)] = figures(recording, over_ns, deadline_ms, peak_hz)
        print("queue", queue, found[str(queue)], flush=True)
    return found


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--loads", type=float, nargs="+", default=[3.0, 10.0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--neighbour", action="store_true")
    parser.add_argument("--hand-set", type=int, nargs="+", default=[])
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact()
    pictures = measure.encoded(64)
    deployment = Deployment("model", layout=CoreLayout(workers=options.workers))
    results: dict[str, Any] = {
        "workers": options.workers, "seconds": options.seconds, "rounds": options.rounds,
    }  # fmt: skip
    with measure.served(artifact, deployment) as service:
        to, requests = measure.jpeg_bodies(service.url, pictures)
        model = httpx.get(f"{service.url}/model").json()
        deadline_ms = 1e3 * model["limits"]["deadline_s"]
        results["deadline_ms"] = round(deadline_ms)
        pid = service.process.pid
        results |= storms(to, requests, options, deadline_ms, pid)
        peak_hz = results["peak_per_s"]
        if options.neighbour:
            found = with_neighbour(to, requests, options, deadline_ms, peak_hz, pid)
            results |= {f"neighbour_{name}": figure for name, figure in found.items()}
    if options.hand_set:
        by_hand = hand_set(artifact, pictures, options, deadline_ms, peak_hz)
        best = max(one["goodput_per_s"] for one in by_hand.values())
        own = results[f"at_{options.loads[0]:g}x"]["goodput_per_s"]
        results |= {f"queue_of_{queue}": row for queue, row in by_hand.items()}
        results["of_best_hand_set"] = round(own / best, 3) if best else None
    results["refusals_alone"] = refusing(artifact, pictures, 10 * peak_hz)
    several = f"-{options.workers}-workers" if options.workers > 1 else ""
    measure.save(f"overload{several}", results)


if __name__ == "__main__":
    main()
