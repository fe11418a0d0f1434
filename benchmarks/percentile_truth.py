"""Reported percentiles beside the truth: known queues, a hidden knee, a real server, a stall.

python benchmarks/percentile_truth.py mm1 | md1 | knee | real

Simulated: due times by our Poisson law, a simulated lane, and from there the whole way of a
measurement. Real: a server of one lane that sleeps 20 ms for each request, under our client; and
the same stall of a second measured by an open and by a closed loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import measure
import numpy as np
import uvloop
from numpy.typing import NDArray

from seatrial.bench.measurement import Measurement, summarise
from seatrial.load.arrivals import ClosedLoop, Poisson
from seatrial.load.queue_simulation import record, single_lane_ends
from seatrial.load.queue_theory import md1_percentile_s, mm1_percentile_s
from seatrial.load.run import run_load
from seatrial.load.statistics import PERCENTILES
from seatrial.load.target import Body, Target, endpoint
from seatrial.load.usage import ClientUsage, Usage
from seatrial.load.window import Load, Recording

Floats = NDArray[np.float64]
SERVICE_S = 0.02
WARMUP = 20_000  # requests before each simulated window: the queue begins empty
WINDOW = 500_000  # requests of a simulated window
# Utilisation -> windows, so many that a standard error of p99 is about 1 % at most.
WINDOWS = {
    "mm1": {0.3: 2, 0.6: 3, 0.8: 8, 0.9: 30},
    "md1": {0.3: 2, 0.6: 3, 0.8: 5, 0.9: 16},
}
KNEE_WINDOWS, KNEE_TRUTHS, TRUTH = 14, 6, 5_000_000  # windows; simulations of the truth, requests
NAMES = {"mm1": "M/M/1", "md1": "M/D/1"}
BATCH = 10_000  # requests: long against the memory of a queue, for the effective sample
KNEE, SLOWER = 8, 1.2  # requests in the system from which each takes longer, and how much
NOBODY = Usage(None, "simulated", ClientUsage(0.0, 0.0), None)
SEED = 20


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("mm1", "md1", "knee", "real"))
    what = parser.parse_args().what
    figures = {"real": real, "knee": knee}.get(what, lambda: simulated(what))()
    measure.save(f"percentile_truth_{what}", figures, ["uvloop"])


# Simulated.


def simulated(law: str) -> dict[str, Any]:
    """Errors of the reported percentiles, per cent of the truth."""
    figures: dict[str, Any] = {}
    theory = mm1_percentile_s if law == "mm1" else md1_percentile_s
    for utilisation, windows in WINDOWS[law].items():
        rate_hz = utilisation / SERVICE_S
        truth_ms = {
            name: 1e3 * theory(fraction, rate_hz, SERVICE_S)
            for name, fraction in PERCENTILES.items()
        }
        found = [window(seed, rate_hz, law == "mm1", single_lane) for seed in range(windows)]
        figures[f"{NAMES[law]}, {utilisation:.0%} utilised"] = compared(found, truth_ms)
    return figures


def single_lane(due_s: Floats, service_s: Floats) -> Floats:
    """Latencies of one lane."""
    return single_lane_ends(due_s, service_s) - due_s


def window(
    seed: int, rate_hz: float, exponential: bool, lane: Callable[[Floats, Floats], Floats]
) -> tuple[Measurement, Floats]:
    """A simulated window, measured; and its latencies in the order of arrival, ms."""
    law = Poisson(rate_hz)
    due_s = law.due_s(SEED + seed, (WINDOW + WARMUP) / rate_hz)
    chance = np.random.default_rng((SEED + seed, 1))
    service_s = np.full(len(due_s), SERVICE_S)
    if exponential:
        service_s = chance.exponential(SERVICE_S, len(due_s))
    latency_s = lane(due_s, service_s)
    load = Load(arrivals=law, measure_s=WINDOW / rate_hz, schedule_seed=SEED + seed)
    point = summarise(load, record(due_s, latency_s, WARMUP), NOBODY, None)
    return point, latency_s[WARMUP:] * 1e3


def compared(
    found: list[tuple[Measurement, Floats]], truth_ms: dict[str, float]
) -> dict[str, float]:
    """Errors of the means over windows, and what the sample of p99 was worth."""
    row: dict[str, float] = {"requests, millions": sum(len(ms) for _, ms in found) / 1e6}
    for name, truth in truth_ms.items():
        reported = np.mean([point.latency.percentiles[name].value_ms for point, _ in found])
        row[f"{name}, error %"] = 100 * float(reported / truth - 1)
    memory = float(np.mean([dependence(ms > truth_ms["p99"]) for _, ms in found]))
    row["requests for one independent, p99"] = memory
    effective = row["requests, millions"] * 1e6 / memory
    row["effective sample of p99"] = round(effective)
    values = [float(point.latency.percentiles["p99"].value_ms or 0) for point, _ in found]
    error = np.std(values, ddof=1) / np.mean(values)
    row["standard error of p99, %"] = 100 * float(error) / len(values) ** 0.5
    return row


def dependence(late: NDArray[np.bool_]) -> float:
    """Requests that say as much of a share as one independent one: 2 tau, by batch means."""
    batches = late[: len(late) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    return max(1.0, float(BATCH * batches.var(ddof=1) / (late.mean() * (1 - late.mean()))))


def knee() -> dict[str, Any]:
    """A lane that is slower while many wait; the truth is a long simulation of its own."""
    rate_hz = 0.7 / SERVICE_S
    parts = []
    for seed in range(KNEE_TRUTHS):
        due_s = Poisson(rate_hz).due_s(seed, TRUTH / rate_hz)
        parts.append(knee_lane(due_s, np.full(len(due_s), SERVICE_S))[WARMUP:])
    truth_s = np.concatenate(parts)
    truth_ms = {n: 1e3 * float(np.quantile(truth_s, part)) for n, part in PERCENTILES.items()}
    found = [window(seed, rate_hz, False, knee_lane) for seed in range(KNEE_WINDOWS)]
    name = f"70% utilised, {SLOWER:g} times as slow from {KNEE} requests on"
    return {name: compared(found, truth_ms)}


def knee_lane(due_s: Floats, service_s: Floats) -> Floats:
    """Latencies of a lane whose requests take longer from the knee on."""
    ends: list[float] = []
    latencies, gone, last = [], 0, 0.0
    for number, (due, service) in enumerate(zip(due_s.tolist(), service_s.tolist(), strict=True)):
        while gone < number and ends[gone] <= due:
            gone += 1
        factor = SLOWER if number - gone >= KNEE else 1.0
        last = max(due, last) + service * factor
        ends.append(last)
        latencies.append(last - due)
    return np.array(latencies)


# Real.


def real() -> dict[str, Any]:
    """The real server: two utilisations, and the stall by an open and by a closed loop."""
    figures: dict[str, Any] = {}
    for utilisation, seconds in ((0.5, 40.0), (0.8, 60.0)):
        law = Poisson(utilisation / SERVICE_S)
        with server() as (url, _):
            load = Load(arrivals=law, measure_s=seconds, warmup_s=2.0, schedule_seed=SEED)
            recording = measured(url, load)
        figures[f"real M/D/1, {utilisation:.0%} utilised"] = against_schedule(load, recording)
    figures |= stalls()
    return figures


@contextlib.contextmanager
def server() -> Iterator[tuple[str, int]]:
    """The server of one lane, as its address and process id."""
    script = measure.ROOT / "benchmarks" / "single_lane_server.py"
    words = [sys.executable, str(script), str(1e3 * SERVICE_S)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}", process.pid
        finally:
            process.terminate()


def measured(url: str, load: Load) -> Recording:
    """A load on the server."""
    request = Body(b"x" * 1000, {"Content-Type": "image/jpeg"})
    job = run_load(endpoint(Target(url)), [request], load, measure._Nobody(), lambda _: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        recording = runner.run(job)
    failed = [one for one in recording.samples if one.error]
    if failed:
        sys.exit(f"{len(failed)} requests failed: {failed[0].error}")
    return recording


def schedule_ns(load: Load, recording: Recording) -> Floats:
    """Due times of all requests of an open loop, those of the warm-up too, on the clock, ns."""
    assert not isinstance(load.arrivals, ClosedLoop)
    due_s = load.arrivals.due_s(load.schedule_seed, load.warmup_s + load.measure_s)
    first = float(due_s[due_s >= load.warmup_s][0])
    begin_ns = min(one.due_ns or 0 for one in recording.samples) - first * 1e9
    return np.asarray(begin_ns + due_s * 1e9, np.float64)


def against_schedule(load: Load, recording: Recording) -> dict[str, float]:
    """Reported percentiles beside those of this schedule on a perfect lane, and of theory."""
    point = summarise(load, recording, NOBODY, None)
    due_s = schedule_ns(load, recording) / 1e9
    due_s -= due_s[0]
    perfect_ms = 1e3 * single_lane(due_s, np.full(len(due_s), SERVICE_S))[-len(recording.samples) :]
    # What HTTP and the timers of both sides add to a request that did not wait.
    overhead_ms = float(np.median([s.latency_ms for s in by_due(recording)] - perfect_ms))
    assert isinstance(load.arrivals, Poisson)
    row: dict[str, float] = {
        "requests": len(recording.samples),
        "added by HTTP and timers, ms": overhead_ms,
    }
    for name, fraction in PERCENTILES.items():
        reported = point.latency.percentiles[name].value_ms or 0.0
        schedule_ms = float(np.quantile(perfect_ms, fraction, method="inverted_cdf")) + overhead_ms
        theory_ms = 1e3 * md1_percentile_s(fraction, load.arrivals.rate_hz, SERVICE_S) + overhead_ms
        row[f"{name}, ms"] = reported
        row[f"{name}, error % against its schedule"] = 100 * (reported / schedule_ms - 1)
        row[f"{name}, error % against M/D/1"] = 100 * (reported / theory_ms - 1)
    return row


def by_due(recording: Recording) -> list[Any]:
    """Samples in the order in which they were due."""
    return sorted(recording.samples, key=lambda one: one.due_ns or 0)


def stalls() -> dict[str, Any]:
    """One second in which the server stands still, measured in two ways."""
    law, seconds = Poisson(0.5 / SERVICE_S), 30.0
    figures: dict[str, Any] = {}
    opened = Load(arrivals=law, measure_s=seconds, warmup_s=1.0, schedule_seed=SEED)
    with server() as (url, pid), stopped(pid, 15.0) as stall_ns:
        recording = measured(url, opened)
    due_ns = schedule_ns(opened, recording)
    truth_ms = with_stall(due_ns, *stall_ns)[due_ns >= recording.open_ns]
    truth = {
        name: float(np.quantile(truth_ms, part, method="inverted_cdf"))
        for name, part in PERCENTILES.items()
    }
    figures["stall of 1 s: truth of this schedule"] = {f"{n}, ms": v for n, v in truth.items()}
    figures["stall of 1 s: open loop (ours)"] = told(opened, recording, truth)
    for sessions in (1, 4):
        closed = Load(arrivals=ClosedLoop(sessions), measure_s=seconds, warmup_s=1.0)
        with server() as (url, pid), stopped(pid, 15.0):
            recording = measured(url, closed)
        name = f"stall of 1 s: closed loop, {sessions} at a time"
        figures[name] = told(closed, recording, truth)
    return figures


def told(load: Load, recording: Recording, truth: dict[str, float]) -> dict[str, float]:
    """What is reported of the stall, and how far it is from the truth."""
    found = summarise(load, recording, NOBODY, None).latency.percentiles
    row = {f"{name}, ms": found[name].value_ms or 0.0 for name in PERCENTILES}
    return row | {"p99, error %": 100 * (row["p99, ms"] / truth["p99"] - 1)}


@contextlib.contextmanager
def stopped(pid: int, after_s: float) -> Iterator[list[float]]:
    """Stop a process for a second; the begin and the end of that second, when they are known."""
    times_ns: list[float] = []

    def stop() -> None:
        time.sleep(after_s)
        os.kill(pid, signal.SIGSTOP)
        times_ns.append(time.perf_counter_ns())
        time.sleep(1.0)
        os.kill(pid, signal.SIGCONT)
        times_ns.append(time.perf_counter_ns())

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield times_ns
    finally:
        thread.join()


def with_stall(due_ns: Floats, begin_ns: float, end_ns: float) -> Floats:
    """Latencies of a lane that stands still for a while, ms: an ordinary one on its own clock."""
    due_s, stall_s = due_ns / 1e9 - begin_ns / 1e9, (end_ns - begin_ns) / 1e9
    own_s = np.where(due_s > 0, np.maximum(due_s - stall_s, 0.0), due_s)
    ends_s = single_lane_ends(own_s, np.full(len(own_s), SERVICE_S))
    return np.asarray(1e3 * (ends_s + stall_s * (ends_s > 0) - due_s), np.float64)


if __name__ == "__main__":
    main()
