"""Simulated queues on a simulated clock: machines with lanes, behind a balancer.

Requests of a machine are served first come first served, and a service that has begun is not
interrupted. The end of each is then known when it arrives, so one pass over the arrivals gives
every latency exactly; no list of events is needed (Kiefer & Wolfowitz, On the theory of queues with
many servers, 1955).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.load.samples import Sample
from seatrial.load.window import Loop, Recording

Floats = NDArray[np.float64]
OK = 200
Balancer = Literal["least-requests", "round-robin"]


class Machines(msgspec.Struct, frozen=True):
    """Machines that are alike, behind one balancer.

    Attributes:
        count: Number of machines.
        lanes: Requests that each serves at a time; more wait in its own queue.
        balancer: Who gets the next request: the machine with the fewest in flight (the next in turn
            of several), or the next in turn.
        alone: Service time of a request that finds its machine empty, over that of others: it may
            have all cores.
    """

    count: int = 1
    lanes: int = 1
    balancer: Balancer = "least-requests"
    alone: float = 1.0


def single_lane_ends(due_s: Floats, service_s: Floats) -> Floats:
    """Times at which the requests of one lane end, seconds, (N,).

    The recursion of Lindley (1952), ``end = max(due, end before) + service``, without a loop.

    Args:
        due_s: Arrivals, ascending, (N,).
        service_s: Service times, (N,).
    """
    worked_s = np.cumsum(service_s)
    return worked_s + np.maximum.accumulate(due_s - (worked_s - service_s))


def open_loop_latencies(due_s: Floats, service_s: Floats, machines: Machines) -> Floats:
    """Times from arrival to end of the requests of an open loop, seconds, (N,).

    Args:
        due_s: Arrivals, ascending, (N,).
        service_s: Service times of requests that do not find their machine empty, (N,).
        machines: Who serves them.
    """
    if machines.count == machines.lanes == 1 and machines.alone == 1.0:
        return single_lane_ends(due_s, service_s) - due_s
    if machines.count == 1:
        return _one_machine(due_s, service_s, machines)
    count, alone = machines.count, machines.alone
    free_s = [[0.0] * machines.lanes for _ in range(count)]  # a heap for each machine
    in_flight = [0] * count
    ends: list[tuple[float, int]] = []  # a heap of what is under way: end, machine
    latencies, turn = [], 0
    fewest = machines.balancer == "least-requests"
    for due, service in zip(due_s.tolist(), service_s.tolist(), strict=True):
        while ends and ends[0][0] <= due:
            in_flight[heapq.heappop(ends)[1]] -= 1
        chosen = _fewest(in_flight, turn) if fewest else turn
        turn = (chosen + 1) % count
        lanes = free_s[chosen]
        end = max(due, lanes[0]) + (service if in_flight[chosen] else service * alone)
        heapq.heapreplace(lanes, end)
        heapq.heappush(ends, (end, chosen))
        in_flight[chosen] += 1
        latencies.append(end - due)
    return np.array(latencies)


def _one_machine(due_s: Floats, service_s: Floats, machine: Machines) -> Floats:
    """`open_loop_latencies` of one machine, which is empty when its last end has passed."""
    free_s, alone = [0.0] * machine.lanes, machine.alone
    latencies, last = [], 0.0
    for due, service in zip(due_s.tolist(), service_s.tolist(), strict=True):
        end = due + service * alone if last <= due else max(due, free_s[0]) + service
        heapq.heapreplace(free_s, end)
        last = end if end > last else last
        latencies.append(end - due)
    return np.array(latencies)


def closed_loop_latencies(service_s: Floats, sessions: int, machine: Machines) -> Floats:
    """Times from send to end of the requests of a closed loop without pauses, seconds, (N,).

    Args:
        service_s: Service times, in the order in which requests are sent, (N,).
        sessions: Requests under way at a time.
        machine: One machine that serves them.
    """
    free_s = [0.0] * machine.lanes
    sends = [0.0] * sessions
    latencies = []
    alone = machine.alone if sessions == 1 else 1.0
    for service in service_s.tolist():
        send = sends[0]
        end = max(send, free_s[0]) + service * alone
        heapq.heapreplace(free_s, end)
        heapq.heapreplace(sends, end)
        latencies.append(end - send)
    return np.array(latencies)


def record(due_s: Floats, latency_s: Floats, warmup: int = 0, loop: Loop = "open") -> Recording:
    """The recording that a perfect client makes of simulated requests, all of them answered well.

    Args:
        due_s: Arrivals, ascending, (N,).
        latency_s: Times from arrival to end, (N,).
        warmup: Number of requests, the first ones, that count nowhere.
        loop: Whether the arrivals are due times, or the sends of a closed loop, which has none.
    """
    due_ns = np.rint(due_s * 1e9).astype(np.int64)
    end_ns = due_ns + np.rint(latency_s * 1e9).astype(np.int64)
    order = np.argsort(end_ns[warmup:], kind="stable") + warmup
    pairs = zip(due_ns[order].tolist(), end_ns[order].tolist(), strict=True)
    samples = tuple(
        Sample(due, end, OK, due_ns=due if loop == "open" else None) for due, end in pairs
    )
    return Recording(
        samples=samples,
        stragglers=(),
        open_ns=int(due_ns[warmup]),
        close_ns=int(end_ns.max()),
        warmup_requests=warmup,
        ended="time",
    )


def _fewest(in_flight: Sequence[int], turn: int) -> int:
    """Machine with the fewest requests in flight; of several the first from `turn` on."""
    least = min(in_flight)
    try:
        return in_flight.index(least, turn)
    except ValueError:
        return in_flight.index(least)
