"""A request's place: its deadline, and whether it is still wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.support.lane_requests import ready

from seatrial.engines.lanes import Lanes
from seatrial.engines.places import Abandoned, Place, Share
from seatrial.errors import DeadlineExceeded


def test_a_place_is_wanted_until_its_deadline_or_its_end(make_lanes: Callable[..., Lanes]) -> None:
    place = Place(make_lanes())
    assert place.wanted
    assert (place.remaining_s(), place.patience_s()) == (float("inf"), -1.0)
    place.check()
    place.expire_in(5.0, passed_s=2.0)
    assert place.wanted
    assert 2.0 < place.remaining_s() <= 3.0
    place.expire_in(5.0, passed_s=6.0)
    assert not place.wanted
    assert place.remaining_s() == 0.0
    with pytest.raises(DeadlineExceeded, match="not answered within 5 s"):
        place.check()
    other = Place(place._lanes)
    other.cancel()
    assert not other.wanted
    with pytest.raises(Abandoned):
        other.check()


def test_only_a_place_with_a_share_joins_others(make_lanes: Callable[..., Lanes]) -> None:
    place = ready(make_lanes())
    assert not place.joins
    place.share = Share({})
    assert place.joins


def test_to_wake_who_does_not_wait_changes_nothing(make_lanes: Callable[..., Lanes]) -> None:
    place = ready(make_lanes())
    place.wake()  # it never asked
    place.turn, place.asks = threading.Lock(), True
    place.wake()  # it is awake
    place.turn.acquire()
    place.wake()
    place.wake()
    assert not place.turn.locked()
