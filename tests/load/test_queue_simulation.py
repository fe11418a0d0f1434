from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import simpy

from seatrial.bench.measurement import summarise
from seatrial.load.arrivals import Poisson
from seatrial.load.queue_simulation import (
    Machines,
    closed_loop_latencies,
    open_loop_latencies,
    record,
    single_lane_ends,
)
from seatrial.load.window import Load


@pytest.fixture
def requests():
    """Arrivals and service times that are drawn: 3,000 requests, 1.6 lanes busy in the mean."""
    chance = np.random.default_rng(3)
    return np.cumsum(chance.exponential(0.01, 3000)), chance.gamma(4, 0.004, 3000)


def events(due_s, service_s, machines):
    """The same machines as processes of SimPy; latencies in the order of arrival."""
    environment = simpy.Environment()
    lanes = [simpy.Resource(environment, machines.lanes) for _ in range(machines.count)]
    in_flight, latencies, turn = [0] * machines.count, [0.0] * len(due_s), 0

    def serve(number, chosen):
        arrived = environment.now
        factor = 1.0 if in_flight[chosen] else machines.alone
        in_flight[chosen] += 1
        with lanes[chosen].request() as lane:
            yield lane
            yield environment.timeout(service_s[number] * factor)
        in_flight[chosen] -= 1
        latencies[number] = environment.now - arrived

    def arrive():
        nonlocal turn
        for number, due in enumerate(due_s):
            yield environment.timeout(due - environment.now)
            order = [(turn + n) % machines.count for n in range(machines.count)]
            if machines.balancer == "least-requests":
                order.sort(key=in_flight.__getitem__)
            turn = (order[0] + 1) % machines.count
            environment.process(serve(number, order[0]))

    environment.process(arrive())
    environment.run()
    return np.array(latencies)


@pytest.mark.parametrize(
    "machines",
    [
        Machines(1, 1), Machines(1, 3), Machines(4, 1), Machines(3, 2),
        Machines(3, 2, "round-robin"), Machines(2, 2, "least-requests", 0.6),
        Machines(1, 1, alone=0.5),
    ],
    ids=["lane", "lanes", "machines", "both", "in-turn", "alone", "lane-alone"],
)  # fmt: skip
def test_one_pass_gives_what_a_simulation_of_events_gives(requests, machines):
    due_s, service_s = requests
    found = open_loop_latencies(due_s, service_s, machines)
    assert found == pytest.approx(events(due_s, service_s, machines), abs=1e-9)


def test_one_lane_by_hand():
    due_s, service_s = np.array([0.0, 1.0, 1.5, 9.0]), np.array([2.0, 1.0, 0.5, 1.0])
    assert single_lane_ends(due_s, service_s).tolist() == [2.0, 3.0, 3.5, 10.0]


def test_requests_in_turn_wait_where_those_sent_to_the_fewest_do_not():
    # The first takes long: in turn, the third waits behind it, and the second machine is free.
    due_s, service_s = np.array([0.0, 0.1, 0.3]), np.array([10.0, 0.1, 0.1])
    fewest = open_loop_latencies(due_s, service_s, Machines(2, 1, "least-requests"))
    in_turn = open_loop_latencies(due_s, service_s, Machines(2, 1, "round-robin"))
    assert fewest.tolist() == pytest.approx([10.0, 0.1, 0.1])
    assert in_turn.tolist() == pytest.approx([10.0, 0.1, 9.8])


def test_of_machines_with_as_few_in_flight_the_next_in_turn_is_taken():
    # With each machine empty again, none is preferred: their lanes end where they began.
    due_s, service_s = np.arange(6.0), np.full(6, 0.5)
    alike = open_loop_latencies(due_s, service_s, Machines(3, 1))
    assert alike.tolist() == [0.5] * 6


def test_a_closed_loop_keeps_its_sessions_in_flight():
    # Two lanes, three sessions: the third waits for a whole service, and so does who comes next.
    latencies = closed_loop_latencies(np.full(9, 1.0), 3, Machines(lanes=2))
    assert latencies.tolist() == [1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    alone = closed_loop_latencies(np.full(4, 1.0), 1, Machines(lanes=2, alone=0.4))
    assert alone.tolist() == pytest.approx([0.4] * 4)
    together = closed_loop_latencies(np.full(4, 1.0), 2, Machines(lanes=2, alone=0.4))
    assert together.tolist() == [1.0] * 4


def test_a_record_goes_through_the_figures_of_a_measurement(requests, build_usage):
    due_s, service_s = requests
    latency_s = open_loop_latencies(due_s, service_s, Machines(2, 1))
    recording = record(due_s, latency_s, warmup=500)
    point = summarise(Load(arrivals=Poisson(100.0), measure_s=30.0), recording, build_usage(), None)
    assert (point.good, point.failed, point.warmup_requests) == (2500, 0, 500)
    assert point.latency.mean_ms == pytest.approx(1e3 * latency_s[500:].mean())
    assert all(one.end_ns <= other.end_ns for one, other in pairwise(recording.samples))
    assert recording.open_ns == pytest.approx(due_s[500] * 1e9, abs=1)
    assert recording.close_ns == pytest.approx((due_s + latency_s).max() * 1e9, abs=1)


def test_a_record_of_a_closed_loop_has_no_due_times():
    (sample,) = record(np.array([1.0]), np.array([0.5]), loop="closed").samples
    assert (sample.start_ns, sample.end_ns, sample.due_ns) == (10**9, 15 * 10**8, None)
    (sample,) = record(np.array([1.0]), np.array([0.5])).samples
    assert (sample.start_ns, sample.due_ns) == (10**9, 10**9)
