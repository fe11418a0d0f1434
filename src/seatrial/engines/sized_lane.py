"""A lane for batches, of lanes that each take one batch size.

Graphs compiled for one size are faster than graphs for any: OpenVINO took 1.27 times the CPU time
for one image where the batch size was left open (benchmarks/batching.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.engines.base import Arrays, Lane, StoppableLane


def batch_sizes(most: int) -> tuple[int, ...]:
    """Batch sizes that a graph is compiled for: the powers of two up to `most`, and that itself."""
    return tuple(sorted({2**power for power in range(most.bit_length())} | {most}))


def parts(size: int, sizes: tuple[int, ...]) -> list[int]:
    """A batch size as a sum of the sizes that there are, the largest first.

    Args:
        size: Number of images, at least 1.
        sizes: In rising order, the first one 1.
    """
    found: list[int] = []
    for one in reversed(sizes):
        count, size = divmod(size, one)
        found += [one] * count
    return found


def sized(lane_of: Callable[[int], Lane], most: int) -> Lane:
    """A lane for batches of up to `most` images; the plain one where that is 1.

    Args:
        lane_of: Makes the lane of a batch size.
        most: Largest batch size.
    """
    if most == 1:
        return lane_of(1)
    return SizedLane({size: lane_of(size) for size in batch_sizes(most)})


class SizedLane:
    """Runs a batch as one run of the lane of its size, or as several that add up to it.

    Args:
        lanes: Batch size -> lane, with one for 1; all of one number of threads.
    """

    lends = True

    def __init__(self, lanes: Mapping[int, Lane]) -> None:
        self._lanes = dict(lanes)
        self._sizes = tuple(sorted(self._lanes))
        self.threads = self._lanes[1].threads

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `seatrial.engines.base.Lane.infer`."""
        size = len(next(iter(feeds.values())))
        if size in self._lanes:
            return self._lanes[size].infer(feeds)
        answers: list[dict[str, NDArray[Any]]] = []
        begin = 0
        for part in parts(size, self._sizes):
            lane = self._lanes[part]
            given = {name: array[begin : begin + part] for name, array in feeds.items()}
            answer = lane.infer(given)
            # The next part may run on the same lane.
            answers.append({n: np.array(a) if lane.lends else a for n, a in answer.items()})
            begin += part
        return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}

    def stop(self) -> None:
        """See `seatrial.engines.base.StoppableLane.stop`."""
        for lane in self._lanes.values():
            if isinstance(lane, StoppableLane):
                lane.stop()
