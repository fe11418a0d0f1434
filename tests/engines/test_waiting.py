"""Which requests share a run, and when it is released."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.lane_requests import ready

from seatrial.engines import waiting
from seatrial.engines.lanes import Lanes
from seatrial.engines.places import Place, Share
from seatrial.engines.waiting import DELAY, FULL, IDLE, Waiting

RUN_S = 0.0


class Time:
    now = 100.0

    @classmethod
    def monotonic(cls) -> float:
        return cls.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Time]:
    monkeypatch.setattr(waiting, "time", Time)
    monkeypatch.setattr(Time, "now", 100.0)
    return Time


@pytest.fixture
def ask(make_lanes: Callable[..., Lanes]) -> Callable[..., Place]:
    """A request that asks for a lane; it may share a run unless told otherwise."""
    lanes = make_lanes()

    def make(line: Waiting, *, joins: bool = True, batch: bool = False) -> Place:
        place = ready(lanes)
        place.batch, place.asked = batch, Time.now
        place.share = Share({}) if joins else None
        line.add(place)
        return place

    return make


def test_as_many_as_may_share_a_run_do_at_once(ask: Callable[..., Place]) -> None:
    line = Waiting(3, delay_s=9)
    places = [ask(line) for _ in range(5)]
    taken = line.take(coming=True, run_s=RUN_S)
    assert taken is not None
    assert (taken.places, taken.reason, taken.held_s) == (places[:3], FULL, 0.0)
    assert len(line) == 2


def test_a_lone_request_is_never_held_back(ask: Callable[..., Place]) -> None:
    line = Waiting(8, delay_s=9)
    place = ask(line)
    taken = line.take(coming=False, run_s=RUN_S)
    assert taken is not None
    assert (taken.places, taken.reason, taken.held_s) == ([place], IDLE, 0.0)


def test_others_that_are_on_their_way_are_waited_for_as_long_as_is_allowed(
    ask: Callable[..., Place], clock: type[Time]
) -> None:
    line = Waiting(8, delay_s=0.5)
    first = ask(line)
    assert line.take(coming=True, run_s=RUN_S) is None
    clock.now += 0.25
    second = ask(line)
    assert line.take(coming=True, run_s=RUN_S) is None
    clock.now += 0.25
    taken = line.take(coming=True, run_s=RUN_S)
    assert taken is not None
    assert (taken.places, taken.reason, taken.held_s) == ([first, second], DELAY, 0.5)


def test_when_the_last_has_come_nothing_is_waited_for(
    ask: Callable[..., Place], clock: type[Time]
) -> None:
    line = Waiting(8, delay_s=0.5)
    first = ask(line)
    assert line.take(coming=True, run_s=RUN_S) is None
    clock.now += 0.25
    second = ask(line)
    taken = line.take(coming=False, run_s=RUN_S)
    assert taken is not None
    assert (taken.places, taken.reason, taken.held_s) == ([first, second], IDLE, 0.25)


def test_without_a_delay_nothing_is_held_back(ask: Callable[..., Place]) -> None:
    line = Waiting(8)
    ask(line)
    taken = line.take(coming=True, run_s=RUN_S)
    assert taken is not None
    assert taken.reason == IDLE


@pytest.mark.usefixtures("clock")
def test_a_request_whose_deadline_is_near_is_not_held_back(ask: Callable[..., Place]) -> None:
    line = Waiting(8, delay_s=5.0)
    place = ask(line)
    place.expire_in(10.0)
    assert line.take(coming=True, run_s=1.0) is None
    taken = line.take(coming=True, run_s=5.0)
    assert taken is not None
    assert taken.reason == DELAY


def test_a_live_request_shares_no_run_with_those_of_a_batch(ask: Callable[..., Place]) -> None:
    line = Waiting(8)
    later = [ask(line, batch=True) for _ in range(2)]
    live = [ask(line) for _ in range(2)]
    taken = [line.take(coming=False, run_s=RUN_S) for _ in range(2)]
    assert [one and one.places for one in taken] == [live, later]
    assert line.take(coming=False, run_s=RUN_S) is None


def test_what_is_not_wanted_is_in_no_batch(ask: Callable[..., Place]) -> None:
    line = Waiting(3)
    places = [ask(line) for _ in range(5)]
    places[0].expire_in(0.0)
    places[2].cancelled = True
    taken = line.take(coming=False, run_s=RUN_S)
    assert taken is not None
    assert (taken.places, taken.reason) == ([places[1], places[3], places[4]], FULL)


def test_who_shares_no_run_has_one_alone_and_keeps_the_turn(ask: Callable[..., Place]) -> None:
    line = Waiting(8)
    places = [ask(line), ask(line, joins=False), ask(line)]
    taken = [line.take(coming=False, run_s=RUN_S) for _ in range(3)]
    assert [one and one.places for one in taken] == [[place] for place in places]


def test_who_is_put_back_is_first(ask: Callable[..., Place]) -> None:
    line = Waiting(2)
    places = [ask(line) for _ in range(3)]
    taken = line.take(coming=False, run_s=RUN_S)
    assert taken is not None
    line.put_back(taken.places)
    again = line.take(coming=False, run_s=RUN_S)
    assert again is not None
    assert again.places == places[:2]
