"""Reported percentiles of queues whose percentiles are known, by the whole way of a measurement."""

from __future__ import annotations

import numpy as np
import pytest

from seatrial.bench.measurement import Measurement, summarise
from seatrial.load.arrivals import ClosedLoop, Poisson
from seatrial.load.queue_simulation import record, single_lane_ends
from seatrial.load.queue_theory import md1_percentile_s, mm1_percentile_s
from seatrial.load.statistics import PERCENTILES
from seatrial.load.window import Load

SERVICE_S = 0.01
WARMUP = 2000


@pytest.fixture
def measured(build_usage):
    """Percentiles in ms that are reported of a lane, means over windows with a schedule each."""

    def run(law: str, utilisation: float, requests: int, windows: int) -> dict[str, float]:
        found = [one_window(law, utilisation, requests, seed) for seed in range(windows)]
        return {
            name: float(np.mean([point.latency.percentiles[name].value_ms for point in found]))
            for name in PERCENTILES
        }

    def one_window(law: str, utilisation: float, requests: int, seed: int) -> Measurement:
        arrivals = Poisson(utilisation / SERVICE_S)
        due_s = arrivals.due_s(seed, (requests + WARMUP) / arrivals.rate_hz)
        chance = np.random.default_rng((seed, 1))  # not the numbers of the schedule
        random = chance.exponential(SERVICE_S, len(due_s))
        service_s = random if law == "mm1" else np.full(len(due_s), SERVICE_S)
        recording = record(due_s, single_lane_ends(due_s, service_s) - due_s, WARMUP)
        load = Load(arrivals=arrivals, measure_s=float(due_s[-1]), schedule_seed=seed)
        return summarise(load, recording, build_usage(), None)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("law", ["mm1", "md1"])
@pytest.mark.parametrize(
    ("utilisation", "requests", "windows", "tolerance"),
    # Near 90 % utilisation 300 requests that wait in one queue say as much of p99 as one that is
    # independent: 4 % is two standard errors there. benchmarks/percentile_truth.py has as many
    # requests as 2 % takes.
    [(0.3, 300_000, 1, 0.02), (0.6, 400_000, 2, 0.02), (0.9, 400_000, 10, 0.04)],
    ids=["30", "60", "90"],
)
def test_percentiles_are_those_of_theory(measured, law, utilisation, requests, windows, tolerance):
    theory = {"mm1": mm1_percentile_s, "md1": md1_percentile_s}[law]
    found = measured(law, utilisation, requests, windows)
    for name, fraction in PERCENTILES.items():
        truth_ms = 1e3 * theory(fraction, utilisation / SERVICE_S, SERVICE_S)
        assert found[name] == pytest.approx(truth_ms, rel=tolerance), name


class Stalling:
    """A lane of 10 ms that stands still for one second of each minute, from its 30th on."""

    def worked_s(self, time_s: np.ndarray) -> np.ndarray:
        """Time without the stalls: on this clock it is an ordinary lane."""
        minutes, rest_s = np.divmod(time_s, 60.0)
        return minutes * 59.0 + np.where(rest_s > 30.0, np.maximum(rest_s - 1.0, 30.0), rest_s)

    def time_s(self, worked_s: np.ndarray) -> np.ndarray:
        """The clock on the wall."""
        minutes, rest_s = np.divmod(worked_s, 59.0)
        return minutes * 60.0 + rest_s + (rest_s > 30.0)

    def open_latencies_s(self, due_s: np.ndarray) -> np.ndarray:
        """Of arrivals that come whatever the lane does."""
        ends_s = single_lane_ends(self.worked_s(due_s), np.full(len(due_s), SERVICE_S))
        return self.time_s(ends_s) - due_s

    def closed_sends_s(self, count: int) -> np.ndarray:
        """Of a session that waits for each answer, with the end of the last one behind them."""
        return self.time_s(np.arange(count + 1) * SERVICE_S)


def test_a_stall_is_seen_by_an_open_loop_and_missed_by_a_closed_one(build_usage):
    lane, count = Stalling(), 60_000  # 20 minutes of the open loop

    def p99_ms(arrivals, due_s, latency_s):
        load = Load(arrivals=arrivals, measure_s=float(due_s[-1]))
        point = summarise(load, record(due_s, latency_s, loop=load.loop), build_usage(), None)
        return point.latency.percentiles["p99"].value_ms

    def due_s(seed, requests):
        return Poisson(50.0).due_s(seed, requests / 50.0)

    truth_ms = 1e3 * np.quantile(lane.open_latencies_s(due_s(1, 3_000_000)), 0.99)
    assert truth_ms > 500
    ours = due_s(0, count)
    opened = p99_ms(Poisson(50.0), ours, lane.open_latencies_s(ours))
    assert opened == pytest.approx(truth_ms, rel=0.05)
    # Each minute one of its 5,900 requests meets the second in which nothing is answered.
    sends = lane.closed_sends_s(count)
    closed = p99_ms(ClosedLoop(1), sends[:-1], np.diff(sends))
    assert closed == pytest.approx(1e3 * SERVICE_S, rel=1e-3)
