"""The schedule of an open loop, drawn before it begins: when which image is due."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.load.arrivals import OpenLoop, Times


class DrawnSchedule(msgspec.Struct, frozen=True):
    """All requests of an open loop.

    Attributes:
        due_s: (N,) float64, ascending: when each is due, seconds after the begin of the load.
        images: (N,) int32: index of the image that each sends.
    """

    due_s: NDArray[np.float64]
    images: NDArray[np.int32]


def to_ns(seconds: Times | float) -> NDArray[np.int64]:
    """Times in whole nanoseconds.

    All of a load are rounded here: what is due at the end of a window is not in it.

    Args:
        seconds: Times in seconds.
    """
    return np.rint(np.asarray(seconds) * 1e9).astype(np.int64)


def draw_schedule(
    law: OpenLoop, until_s: float, image_count: int, *, schedule_seed: int, image_seed: int
) -> DrawnSchedule:
    """Draw a schedule.

    Args:
        law: Arrival law. One that knows its images, as a log does, says them (`images`).
        until_s: End of the load, seconds after its begin.
        image_count: Number of images.
        schedule_seed: Seed of the due times.
        image_seed: Seed of the order of the images.
    """
    due_s = law.due_s(schedule_seed, until_s)
    named = getattr(law, "images", None)
    if named is not None:
        return DrawnSchedule(due_s, np.asarray(named[: len(due_s)], np.int32))
    order = islice(image_order(image_count, image_seed, 0), len(due_s))
    return DrawnSchedule(due_s, np.fromiter(order, np.int32, len(due_s)))


def image_order(count: int, seed: int, session: int) -> Iterator[int]:
    """Endless seeded order of image indices; each pass over the images is a new shuffle.

    No two sessions are in step, so an image's size or content never hits all at once.
    """
    chance = random.Random(f"{seed}/{session}")  # noqa: S311 - no secret
    while True:
        yield from chance.sample(range(count), count)
