"""Percentiles of queues that have a closed form: what a measurement of them has to give.

One lane, first come first served, Poisson arrivals. The time in the system counts from the arrival
to the end of the service, as a latency counts from the due time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Of a Poisson distribution with a mean below 1; those after them are below 1e-80 of the first.
TAIL_TERMS = 60
# Bisections of an interval: the last one is below 1e-12 of the first.
BISECTIONS = 60


def mm1_percentile_s(fraction: float, rate_hz: float, service_s: float) -> float:
    """Percentile of the time in a queue with exponential service times, seconds.

    The time in the system is exponential (Kleinrock, Queueing Systems I, 1975, 5.6).

    Args:
        fraction: 0.99 for p99.
        rate_hz: Mean arrivals per second, less than ``1 / service_s``.
        service_s: Mean service time, seconds.
    """
    return -math.log(1 - fraction) * service_s / (1 - rate_hz * service_s)


def md1_percentile_s(fraction: float, rate_hz: float, service_s: float) -> float:
    """Percentile of the time in a queue whose service times are all the same, seconds.

    Args:
        fraction: 0.99 for p99.
        rate_hz: Mean arrivals per second, less than ``1 / service_s``.
        service_s: Service time, seconds.
    """
    offered = rate_hz * service_s

    def until(time_s: float) -> float:
        return md1_waits_at_most(time_s / service_s, offered) - fraction

    high_s = service_s
    while until(high_s) < 0:
        high_s *= 2
    return service_s + _crossing(until, 0.0, high_s)


def md1_waits_at_most(time: float, offered: float) -> float:
    """Probability that an arrival waits no longer than a time for its service to begin.

    Who arrives with u = ``time - floor(time)`` waits at most ``time`` if and only if, u later, at
    most ``floor(time)`` of those before it are there. All who were in service one service time
    before that moment have left by then, and the arrivals between are Poisson (Franx, A simple
    solution for the M/D/c waiting time distribution, Operations Research Letters 29, 2001). All
    terms are positive, so nothing cancels out, as it does in Erlang's alternating series.

    Args:
        time: Waiting time in units of the service time.
        offered: Utilisation, 0-1.
    """
    whole = math.floor(time)
    arrivals = _poisson(offered * (whole + 1 - time), whole + 1)
    present = np.cumsum(md1_numbers(offered, whole + 2))  # P(number in the system <= n)
    return float(arrivals @ present[whole + 1 : 0 : -1])


def md1_numbers(offered: float, count: int) -> NDArray[np.float64]:
    """Probabilities of 0, 1, ... requests in the system, (count,).

    By the balance of the steps up and down over each level at the ends of services: the sums of a
    recursion with positive terms (Tijms, A First Course in Stochastic Models, 2003, 9.6).
    """
    arriving = _poisson(offered, count + TAIL_TERMS)  # during a service
    # Sums from the small end: in 1 - P(at most n) a small tail has no digits left.
    more = np.cumsum(arriving[::-1])[::-1][1:]  # P(more than n)
    found = np.zeros(count)
    found[0] = 1 - offered
    for n in range(1, count):
        up = found[0] * more[n - 1] + found[1:n] @ more[n - 1 : 0 : -1]
        found[n] = up / arriving[0]
    return found


def _poisson(mean: float, count: int) -> NDArray[np.float64]:
    """Probabilities of 0, 1, ... events, (count,)."""
    numbers = np.arange(count)
    logs = np.cumsum(np.log(np.maximum(numbers, 1)))
    # A mean of 0 has no logarithm: all probability is at 0.
    found = np.exp(numbers * math.log(mean) - logs - mean) if mean else (numbers == 0) * 1.0
    return np.asarray(found, np.float64)


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Smallest argument at which a rising function is no longer negative."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return high
