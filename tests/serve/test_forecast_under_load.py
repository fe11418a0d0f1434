"""The forecast in a simulated service: who is answered in time, and what refusals say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.support.simulated_service import (
    DEADLINE_S,
    Simulation,
    Stages,
    in_turn,
    noisy,
    poisson,
)


@pytest.mark.parametrize("lanes", [1, 2, 8])
@pytest.mark.parametrize("load", [1.5, 3.0, 10.0])
@pytest.mark.parametrize("mean_s", [0.005, 0.04, 0.09])
def test_under_overload_lanes_never_idle_and_answers_are_in_time(
    lanes: int, load: float, mean_s: float
) -> None:
    service = Simulation(lanes, noisy(mean_s), first_s=mean_s)
    peak_hz = lanes / mean_s
    service.run(poisson(load * peak_hz, 20))
    latencies = [one for at, one in service.latencies_s if at >= 2]
    assert service.good_hz(2, 20) >= 0.97 * peak_hz
    assert np.quantile(latencies, 0.99, method="lower") <= DEADLINE_S
    assert service.refused > 0.8 * (load - 1) * peak_hz * 20


def test_below_its_capacity_nothing_is_refused() -> None:
    service = Simulation(2, noisy(0.04))
    service.run(poisson(0.7 * 50, 60))
    assert service.refused == 0


def test_a_neighbour_that_takes_a_core_is_noticed_within_two_seconds() -> None:
    service = Simulation(2, lambda now: 0.04 if now < 10 else 0.08)
    service.run(poisson(150, 30))
    late = [at for at, one in service.latencies_s if one > DEADLINE_S]
    assert all(10 <= at < 12 for at in late)
    assert 0 < len(late) < 50  # what was promised before it came
    assert service.good_hz(12, 30) >= 0.97 * 25


def test_the_end_of_a_neighbour_is_noticed_too() -> None:
    service = Simulation(2, lambda now: 0.08 if now < 10 else 0.04)
    service.run(poisson(150, 20))
    assert service.good_hz(12, 20) >= 0.97 * 50


def test_a_single_stall_does_not_close_the_service() -> None:
    """A suspended machine: one request takes a minute."""
    service = Simulation(1, lambda now: 60.0 if 5 <= now < 5.05 else 0.04)
    service.run(poisson(10, 80))
    assert service.good_hz(66, 80) >= 8.5


def test_a_neighbour_that_comes_and_goes_closes_no_short_queue() -> None:
    """It takes two thirds of the cores in two of each four seconds."""
    service = Simulation(2, lambda now: 0.05 * (3 if now % 4 < 2 else 1))
    service.run(poisson(60, 60))
    late = [one for _, one in service.latencies_s if one > DEADLINE_S]
    assert service.good_hz(0, 60) >= 0.9 * (40 + 40 / 3) / 2
    assert len(late) <= 0.05 * len(service.latencies_s)


@pytest.mark.parametrize(
    ("mean_s", "slower"), [(0.1, 2), (0.15, 2), (0.1, 3)], ids=["half", "half slow", "third"]
)
def test_a_few_clients_are_served_at_any_speed_that_is_enough(mean_s: float, slower: float) -> None:
    """Four, on two lanes: what they wait for is 0.6 s at most."""
    service = Simulation(2, lambda now: mean_s * (slower if now % 4 < 2 else 1), first_s=mean_s)
    in_turn(service, 4, 120)
    assert max(one for _, one in service.latencies_s) < 0.7 * DEADLINE_S
    assert service.refused <= 0.03 * len(service.latencies_s)


@pytest.mark.parametrize("load", [1.5, 5.0])
def test_of_a_short_queue_nearly_all_answers_are_in_time_as_well(load: float) -> None:
    """Three go before at most, and each takes a fifth of the time that there is."""
    service = Simulation(2, noisy(0.2), first_s=0.2)
    service.run(poisson(load * 10, 60))
    late = [one for _, one in service.latencies_s if one > DEADLINE_S]
    assert service.good_hz(2, 60) >= 0.95 * 10
    assert len(late) <= 0.01 * len(service.latencies_s)


def test_a_deadline_that_cannot_be_met_is_refused_at_once_and_not_when_idle() -> None:
    service = Simulation(1, lambda now: 0.5, deadline_s=0.3, first_s=0.5)
    service.run(iter([0.0, 0.1, 1.0]))
    assert service.refused == 1


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("load", [1.5, 10.0])
@pytest.mark.parametrize("read_s", [0.0, 0.02])
def test_time_on_threads_beside_the_lanes_is_no_time_of_the_lanes(
    lanes: int, load: float, read_s: float
) -> None:
    service = Stages(lanes, noisy(0.04), read_s=read_s)
    peak_hz = lanes / 0.04
    service.run(poisson(load * peak_hz, 20))
    latencies = [one for at, one in service.latencies_s if at >= 2]
    assert service.good_hz(2, 20) >= 0.95 * peak_hz
    assert np.quantile(latencies, 0.99, method="lower") <= DEADLINE_S


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("load", [1.5, 5.0])
@pytest.mark.parametrize(("max_batch", "saved"), [(4, 0.0), (8, 0.8)])
def test_shared_runs_are_foretold_as_well(
    lanes: int, load: float, max_batch: int, saved: float
) -> None:
    """A run of eight lasts as long as eight, or as two: each has its part of it as work."""
    service = Stages(lanes, noisy(0.03), max_batch=max_batch, saved=saved)
    peak_hz = lanes / (0.03 * (1 + (max_batch - 1) * (1 - saved)) / max_batch)
    service.run(poisson(load * peak_hz, 20))
    latencies = [one for at, one in service.latencies_s if at >= 2]
    assert service.good_hz(2, 20) >= 0.95 * peak_hz
    assert np.quantile(latencies, 0.99, method="lower") <= DEADLINE_S


def changing(slower: float) -> Callable[[float], float]:
    """A neighbour takes cores in two of each four seconds."""
    return lambda now: 0.1 * (slower if now % 4 < 2 else 1)


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("work_s", "share"),
    [
        *((noisy(0.1, sigma), 1.0) for sigma in (0.05, 0.2, 0.6)),
        (changing(2), 2 / 3), (changing(3), 1 / 2),
    ],
    ids=["even", "noisy", "irregular", "half", "third"],
)  # fmt: skip
def test_what_a_refusal_says_holds_for_19_of_20(
    lanes: int, load: float, work_s: Callable[[float], float], share: float
) -> None:
    """Nobody is refused here, so that it is known when each would have been answered."""
    service = Simulation(lanes, work_s, deadline_s=1e9, first_s=0.1)
    service.run(poisson(load * share * lanes / 0.1, 100))
    for short in (True, False):
        found = [one for one in service.nearly_all_s if one.short is short][20:]
        kept = sum(service.finished_s[one] <= service.nearly_all_s[one] for one in found)
        assert len(found) < 50 or kept >= 0.95 * len(found)


def test_irregular_requests_are_let_in_where_some_are_late() -> None:
    """Of a short queue more answers in time are worth some that are late; a refusal says so."""
    service = Simulation(1, noisy(0.1, 0.6), deadline_s=0.2, first_s=0.1)
    service.run(poisson(5, 300))
    late = [one for _, one in service.latencies_s if one > 0.2]
    assert service.refused > 0
    assert 0.03 < len(late) / len(service.latencies_s) < 0.2
