"""Requests on lanes, as the detector makes them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from seatrial.engines.lanes import Lanes
from seatrial.engines.places import Place

WIDE = 4  # threads of the wide lane of `make_lanes`


@contextlib.contextmanager
def request(lanes: Lanes) -> Iterator[int]:
    """A request as the detector makes one; gives the threads of its lane."""
    with ready(lanes) as place:
        lane = lanes.acquire(place)
        try:
            yield lane.threads
        finally:
            lanes.release(lane)


def ready(lanes: Lanes, deadline_s: float = math.inf) -> Place:
    place = Place(lanes, deadline_s)
    place.ready()
    return place
