"""Lanes of one batch size each, put together to a lane for batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatrial.engines.base import StoppableLane
from seatrial.engines.sized_lane import SizedLane, batch_sizes, parts, sized


class Doubling:
    """A lane of one batch size, which writes each answer over the one before."""

    threads = 3
    lends = True

    def __init__(self, size: int) -> None:
        self.sizes: list[int] = []
        self.stopped = False
        self._answer = np.zeros((size, 2))

    def infer(self, feeds: Any) -> dict[str, np.ndarray]:
        self.sizes.append(len(feeds["x"]))
        self._answer[...] = 2 * feeds["x"]
        return {"y": self._answer}

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))],
)
def test_sizes_are_powers_of_two_and_the_largest(most: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(most) == sizes


@given(st.integers(1, 64).flatmap(lambda most: st.tuples(st.just(most), st.integers(1, most))))
def test_each_size_is_a_sum_of_few_of_them(sizes: tuple[int, int]) -> None:
    most, size = sizes
    found = parts(size, batch_sizes(most))
    assert sum(found) == size
    assert {*found} <= {*batch_sizes(most)}
    assert len(found) <= most.bit_length()


@pytest.mark.parametrize("size", range(1, 9))
def test_a_batch_of_any_size_is_answered_image_by_image(size: int) -> None:
    lanes = {one: Doubling(one) for one in batch_sizes(8)}
    lane = SizedLane(lanes)
    x = np.random.default_rng(size).random((size, 2))
    np.testing.assert_array_equal(lane.infer({"x": x})["y"], 2 * x)
    assert lane.threads == 3
    assert sum(sum(one.sizes) for one in lanes.values()) == size
    assert all({*one.sizes} <= {size} for size, one in lanes.items())


def test_one_lane_of_all_sizes_may_lend_its_answers() -> None:
    """Each part is written over the one before."""

    class OneBuffer(Doubling):
        def infer(self, feeds: Any) -> dict[str, np.ndarray]:
            size = len(feeds["x"])
            self._answer[:size] = 2 * feeds["x"]
            return {"y": self._answer[:size]}

    x = np.random.default_rng(0).random((7, 2))
    lane = SizedLane(dict.fromkeys(batch_sizes(8), OneBuffer(8)))
    np.testing.assert_array_equal(lane.infer({"x": x})["y"], 2 * x)


def test_where_one_image_is_the_most_the_lane_is_the_plain_one() -> None:
    assert isinstance(sized(Doubling, 1), Doubling)
    assert isinstance(sized(Doubling, 2), SizedLane)


def test_to_stop_it_is_to_stop_each() -> None:
    lanes = {one: Doubling(one) for one in (1, 2)}
    lane = SizedLane(lanes)
    assert isinstance(lane, StoppableLane)
    lane.stop()
    assert all(one.stopped for one in lanes.values())
