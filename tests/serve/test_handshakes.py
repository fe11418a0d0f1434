"""Whose handshake begins, and when: by a loop whose clock the test moves."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from seatrial.serve.handshake import Handshake
from seatrial.serve.handshakes import (
    AT_ONCE,
    FRESH,
    GIVES_WAY_S,
    LATE_EACH,
    OF_MOST_S,
    Handshakes,
)


class Certificate:
    context = None


class Client:
    """A client whose first message is there."""

    address = "192.0.2.1"

    def __init__(self, name: str, log: list[str], queue: list[Handshakes]) -> None:
        self.name, self._log, self._queue = name, log, queue

    def begin(self, context: object, within_s: float) -> None:
        self._log.append(self.name)
        self._queue[0].answered(cast(Handshake, self), 0.0)

    def abort(self) -> None:
        self._log.append(f"{self.name} ended")
        self._queue[0].remove(cast(Handshake, self))


class Loop:
    """An event loop that runs what is due in steps, at a time that the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self._soon: list[Handle] = []
        self._later: list[tuple[float, Handle]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, callback: Any) -> Handle:
        self._soon.append(handle := Handle(callback))
        return handle

    def call_at(self, when: float, callback: Any) -> Handle:
        self._later.append((when, handle := Handle(callback)))
        return handle

    def turn(self) -> None:
        """One turn: what was asked for meanwhile comes in the next."""
        due = [handle for when, handle in self._later if when <= self.now_s]
        self._later = [one for one in self._later if one[0] > self.now_s]
        ready, self._soon = [*due, *self._soon], []
        for handle in ready:
            handle.run()


class Handle:
    def __init__(self, callback: Any) -> None:
        self._callback = callback

    def cancel(self) -> None:
        self._callback = lambda: None

    def run(self) -> None:
        self._callback()


class Made:
    """The handshakes of a loop, and those of its clients that began."""

    def __init__(self) -> None:
        self.loop, self.log = Loop(), cast(list[str], [])
        self._queue: list[Handshakes] = []

    def start(self) -> None:
        self._queue.append(Handshakes(cast(Any, Certificate()), 10.0))

    def add(self, *names: str, address: str = Client.address) -> list[Any]:
        clients = [Client(name, self.log, self._queue) for name in names]
        for one in clients:
            one.address = address
            self._queue[0].add(cast(Handshake, one))
        return clients

    def answered(self, one: Any, took_s: float) -> None:
        self._queue[0].answered(one, took_s)

    def remove(self, one: Any) -> None:
        self._queue[0].remove(one)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    one = Made()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: one.loop)
    one.start()
    return one


def test_the_next_one_begins_after_as_long_as_the_last_took(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New connections are taken meanwhile, one in each turn: a probe's must not wait for all."""
    monkeypatch.setattr(Client, "begin", lambda self, *_: made.log.append(self.name))
    one, two, _ = made.add("one", "two", "three")
    for _ in range(3):
        made.loop.turn()
    assert made.log == ["one"]
    made.answered(one, 0.5)
    for _ in range(3):
        made.loop.turn()
    assert made.log == ["one"]
    made.loop.now_s += 0.5
    made.loop.turn()
    assert made.log == ["one", "two"]
    made.remove(two)  # it left before there was an answer
    made.loop.turn()
    assert made.log == ["one", "two", "three"]


def test_one_begins_in_each_turn_in_the_order_of_arrival(made: Made) -> None:
    """Other connections, such as those of probes, have their turns between them."""
    made.add("a", "b", "c")
    for count in (1, 2, 3, 3):
        made.loop.turn()
        assert len(made.log) == count
    assert made.log == ["a", "b", "c"]


def test_a_new_client_does_not_wait_behind_more_than_the_process_can_do(made: Made) -> None:
    made.add(*(f"old {index}" for index in range(1000)))
    made.add("new")
    while "new" not in made.log:
        made.loop.turn()
    assert len(made.log) <= FRESH * LATE_EACH // (LATE_EACH - 1)
    late = made.log[LATE_EACH - 1 :: LATE_EACH]
    fresh = [one for one in made.log if one not in late]
    assert fresh == [*(f"old {index}" for index in range(1001 - FRESH, 1000)), "new"]
    assert late == [f"old {1000 - FRESH - index}" for index in range(len(late))]


def test_those_who_come_again_do_not_push_out_a_new_client(made: Made) -> None:
    """Each of them connects anew as soon as it has its answer."""
    made.add(*(f"old {index}" for index in range(1000)))
    made.add("new")
    turns = 0
    while "new" not in made.log:
        made.loop.turn()
        made.add("again")
        turns += 1
    assert FRESH <= turns <= FRESH * LATE_EACH // (LATE_EACH - 1)


def test_addresses_take_turns(made: Made) -> None:
    made.add("one", "two", "three")
    made.add("other", "another", address="192.0.2.2")
    for _ in range(5):
        made.loop.turn()
    assert made.log == ["one", "other", "two", "another", "three"]


def test_who_left_has_no_turn(made: Made) -> None:
    one, _ = made.add("one", "two")
    made.remove(one)
    made.loop.turn()
    assert made.log == ["two"]


def test_so_many_are_under_way(made: Made) -> None:
    held = [
        made.add(f"held {index}", address=f"192.0.2.{index + 9}")[0] for index in range(AT_ONCE)
    ]
    for _ in held:
        made.loop.turn()
    made.log.clear()
    made.add("one", "two", "three")
    for _ in range(3):
        made.loop.turn()
    assert made.log == []  # a client takes a moment to answer
    made.remove(held[1])
    made.loop.turn()
    assert made.log == ["one"]
    made.loop.turn()
    made.loop.now_s += GIVES_WAY_S
    made.loop.turn()
    assert made.log == ["one", "held 0 ended", "two"]
    made.loop.turn()
    assert made.log[3:] == ["held 2 ended", "three"]
    for _ in range(3):
        made.loop.turn()
    assert len(made.log) == 5  # nobody waits: the others may take their time


def test_clients_that_were_overtaken_have_a_turn_while_others_go_on_coming(made: Made) -> None:
    early = [f"early {number}" for number in range(8)]
    made.add(*early)
    made.add(*(f"first {number}" for number in range(FRESH)))
    for number in range(LATE_EACH * len(early)):
        made.add(f"new {number}")  # there are always as many as have the first turns
        made.loop.turn()
        made.loop.turn()
    assert set(early) <= set(made.log)


def test_the_address_with_most_places_gives_way_first(made: Made) -> None:
    """One stranger's silent connections keep nobody of another address waiting."""
    made.add("early", address="192.0.2.9")
    made.loop.turn()
    made.loop.now_s += GIVES_WAY_S / 2
    made.add(*(f"silent {index}" for index in range(AT_ONCE + 9)))
    for _ in range(AT_ONCE + 2):
        made.loop.turn()
    assert len(made.log) == AT_ONCE
    begun = [one for one in made.log if one != "early"]
    made.log.clear()
    made.add("honest", address="192.0.2.2")  # while the next silent one waits for a place
    made.loop.turn()
    assert made.log == []  # most clients take a moment to answer
    made.loop.now_s += OF_MOST_S
    made.loop.turn()
    assert made.log == [f"{begun[0]} ended", "honest"]
    made.loop.turn()
    assert len(made.log) == 2  # no other place goes for those of the same address
    made.add("second", address="192.0.2.2")
    made.loop.turn()
    assert made.log[2:] == [f"{begun[1]} ended", "second"]


def test_an_address_with_one_place_less_waits_as_those_of_one_address_do(made: Made) -> None:
    """It would have the most itself then, and the two would go on ending each other's."""
    addresses = ("192.0.2.1", "192.0.2.2")
    for index in range(AT_ONCE - 1):
        made.add(f"held {index}", address=addresses[index % 2])
        made.loop.turn()
        made.loop.turn()
    made.add("of a third", address="192.0.2.3")
    made.loop.turn()
    assert len(made.log) == AT_ONCE
    made.log.clear()
    made.add("next", address=addresses[1])
    made.loop.turn()
    made.loop.now_s += OF_MOST_S
    made.loop.turn()
    assert made.log == []
    made.loop.now_s += GIVES_WAY_S
    made.loop.turn()
    assert made.log == ["held 0 ended", "next"]


def test_who_goes_on_gives_its_place_back_and_waits_as_others_do(made: Made) -> None:
    held = made.add(*(f"held {index}" for index in range(AT_ONCE)))
    for _ in held:
        made.loop.turn()
    made.add("next")
    for _ in range(2):
        made.loop.turn()
    made.log.clear()
    made._queue[0].add(cast(Handshake, held[3]))  # what it sent has a costly answer
    made.loop.turn()
    assert made.log == ["next"]
    made.remove(held[0])
    for _ in range(2):
        made.loop.turn()
    assert made.log == ["next", "held 3"]
