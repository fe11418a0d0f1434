"""One change at a time: which of several that are asked for is made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from seatrial.errors import NotSwapped
from seatrial.serve import changes
from seatrial.serve.changes import Changes

pytestmark = pytest.mark.usefixtures("time_limit")


class Asked:
    """Changes that are asked for, each on a thread of its own.

    Attributes:
        made: Names of those that were made, in their order.
        ends: Name -> set when its trial may end.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.changes = Changes()
        self.made: list[str] = []
        self.ends: dict[str, threading.Event] = {}
        self._pool = pool

    def ask(self, name: str) -> Future[None]:
        """Ask for a change; returns when it is under way or waits."""
        self.ends[name] = threading.Event()
        before = self.changes._newest
        asked = self._pool.submit(self._change, name)
        while self.changes._newest == before and not asked.done():
            threading.Event().wait(0.001)
        return asked

    def _change(self, name: str) -> None:
        with self.changes.alone(tries=True):
            with self.changes.trial(name, lambda: False) as gives_way:
                # A trial looks now and then whether it is to give way.
                assert self.ends[name].wait(60)
                gives_way()
            self.made.append(name)


@pytest.fixture
def asked() -> Iterator[Asked]:
    pool = ThreadPoolExecutor()
    found = Asked(pool)
    yield found
    for event in found.ends.values():
        event.set()
    pool.shutdown()


def test_of_several_that_come_during_a_trial_the_newest_is_made(asked: Asked) -> None:
    """The second waits for the first, which has not noticed yet, when the third comes."""
    first, second, third = asked.ask("first"), asked.ask("second"), asked.ask("third")
    with pytest.raises(NotSwapped, match="another change was asked for"):
        second.result(60)
    for name in asked.ends:
        asked.ends[name].set()
    with pytest.raises(NotSwapped, match="first is tried no more: another change was asked for"):
        first.result(60)
    third.result(60)
    assert asked.made == ["third"]


def test_one_that_comes_before_the_trial_begins_ends_it(asked: Asked) -> None:
    with asked.changes.alone(tries=True):
        newer = asked.ask("newer")
        with (
            pytest.raises(NotSwapped, match="older is tried no more"),
            asked.changes.trial("older", lambda: False),
        ):
            pytest.fail("it was tried")
    asked.ends["newer"].set()
    newer.result(60)


def test_after_the_trial_another_is_refused_at_once(asked: Asked) -> None:
    with asked.changes.alone(tries=True):
        with asked.changes.trial("tried", lambda: False):
            pass
        with pytest.raises(NotSwapped, match="another change is under way"):
            asked.ask("other").result(60)
    with asked.changes.alone(newest=False):
        pass  # it is over


def test_what_may_not_end_a_trial_is_refused_at_once_and_ends_none(asked: Asked) -> None:
    first = asked.ask("first")
    with (
        pytest.raises(NotSwapped, match="another change is under way"),
        asked.changes.alone(newest=False),
    ):
        pytest.fail("there were two at a time")
    asked.ends["first"].set()
    first.result(60)
    assert asked.made == ["first"]


def test_a_trial_that_does_not_end_is_not_waited_for_for_ever(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "GIVE_WAY_S", 0.05)
    first = asked.ask("first")
    with pytest.raises(NotSwapped, match="the trial of another model does not end"):
        asked.ask("second").result(60)
    asked.ends["first"].set()
    with pytest.raises(NotSwapped, match="first is tried no more"):
        first.result(60)
    assert asked.made == []


def test_one_that_comes_while_the_result_of_a_trial_is_read_ends_it(asked: Asked) -> None:
    """Nothing looks whether it gives way between the end of its process and the next step."""
    with asked.changes.alone(tries=True):
        with (
            pytest.raises(NotSwapped, match="other is tried no more: another change was asked for"),
            asked.changes.trial("other", lambda: False) as gives_way,
        ):
            assert not gives_way()
            newer = asked.ask("newer")
        assert not newer.done()
    asked.ends["newer"].set()
    newer.result(60)  # what ended the one before does not end this one
    assert asked.made == ["newer"]


def test_giving_up_ends_what_is_tried_and_what_waits_for_it(asked: Asked) -> None:
    assert not asked.changes.give_up()
    first, second = asked.ask("first"), asked.ask("second")
    with ThreadPoolExecutor() as pool:
        given_up = pool.submit(asked.changes.give_up)
        with pytest.raises(NotSwapped, match="it is not tried: it was given up"):
            second.result(60)
        assert not given_up.done()  # the first has not noticed yet
        asked.ends["first"].set()
        assert given_up.result(60)
    with pytest.raises(NotSwapped, match="first is tried no more: it was given up"):
        first.result(60)
    third = asked.ask("third")
    asked.ends["third"].set()
    third.result(60)
    assert asked.made == ["third"]


def test_giving_up_ends_what_waits_and_has_not_begun_when_the_one_before_it_is_over(
    asked: Asked,
) -> None:
    with ExitStack() as before:
        before.enter_context(asked.changes.alone(tries=True))
        second = asked.ask("second")
        with asked.changes._turn:  # the second cannot wake up before the end of this block
            before.close()
            assert asked.changes.give_up()
    with pytest.raises(NotSwapped, match="it is not tried: it was given up"):
        second.result(60)
    assert asked.made == []


def test_nothing_begins_before_what_takes_the_place_of_a_change_that_is_given_up(
    asked: Asked,
) -> None:
    first = asked.ask("first")
    inside = threading.Event()

    def instead() -> bool:
        with asked.changes.instead() as gave_up:
            assert inside.wait(60)
            return gave_up

    with ThreadPoolExecutor() as pool:
        takes_its_place = pool.submit(instead)
        while not asked.changes._instead:
            threading.Event().wait(0.001)
        with pytest.raises(NotSwapped, match="another change is under way"):
            asked.ask("second").result(60)
        asked.ends["first"].set()
        with pytest.raises(NotSwapped, match="first is tried no more: it was given up"):
            first.result(60)
        while asked.changes._instead:
            threading.Event().wait(0.001)
        with pytest.raises(NotSwapped, match="another change is under way"):
            asked.ask("third").result(60)
        with pytest.raises(NotSwapped, match="it is too late to give it up"):
            asked.changes.give_up()
        inside.set()
        assert takes_its_place.result(60)
    with asked.changes.instead() as gave_up:
        assert not gave_up


def test_what_is_loaded_can_be_given_up_until_all_have_it(asked: Asked) -> None:
    with ThreadPoolExecutor() as pool:
        with (
            pytest.raises(NotSwapped, match="other is not served: it was given up"),
            asked.changes.alone(tries=True),
        ):
            with asked.changes.trial("other", lambda: False):
                pass
            with asked.changes.loading("other") as check:
                check()
                given_up = pool.submit(asked.changes.give_up)
                while asked.changes._reason != changes.GIVEN_UP:
                    threading.Event().wait(0.001)
        assert given_up.result(60)
    with asked.changes.alone(tries=True):
        with asked.changes.loading("other"):
            pass
        with pytest.raises(NotSwapped, match="it is too late to give it up"):
            asked.changes.give_up()


def test_a_change_that_does_not_end_is_not_waited_for_for_ever(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "GIVE_UP_S", 0.05)
    first = asked.ask("first")
    with pytest.raises(NotSwapped, match="has not ended that"):
        asked.changes.give_up()
    asked.ends["first"].set()
    with pytest.raises(NotSwapped, match="it was given up"):
        first.result(60)
