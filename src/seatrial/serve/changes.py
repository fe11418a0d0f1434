"""Changes of the served model: one at a time, and the newest counts.

A change that tries a model gives way to a newer one while it does so: the trial may hang. A change
that waits for that gives way to a newer one too. Each of them can be given up until the processes
have loaded the model.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from seatrial.errors import NotSwapped

GIVE_WAY_S = 10.0  # in which a trial that another change ends is over
GIVE_UP_S = 600.0  # in which a change that is given up is over: a process may be loading the model
NEWER, GIVEN_UP = "another change was asked for", "it was given up"


class Changes:
    """The turn of the changes of one service. Thread-safe."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._newest = 0  # number of the newest change that may end others
        self._mine: int | None = None  # number of the change that is under way
        self._gives_way = False  # whether that one does
        self._may_end = False  # whether that one can be given up
        self._waiting = 0  # number of those that wait for its end
        self._instead = 0  # number of those that give it up and wait for its end: none goes before
        self._reason = NEWER  # why the newest before it was ended

    @contextlib.contextmanager
    def alone(self, *, newest: bool = True, tries: bool = False) -> Iterator[None]:
        """Make a change in this block, when the one that gives way to it has ended.

        Args:
            newest: Whether it may end the trial of another one.
            tries: Whether it tries a model (`trial`), and so gives way to a newer one until then,
                and loads it (`loading`), and so can be given up until then.

        Raises:
            NotSwapped: Another change is under way and gives no way, or not in time; or a newer one
                came while this one waited.
        """
        with self._turn:
            if self._instead or (self._mine is not None and not (newest and self._gives_way)):
                raise NotSwapped("another change is under way", hint="try again when it is over")
            if newest:
                self._end_others(NEWER)
            number = self._newest
            self._waiting += 1
            try:
                self._wait_for_turn(number)
            finally:
                self._waiting -= 1
            self._mine, self._gives_way, self._may_end = number, tries, tries
        try:
            yield
        finally:
            self._end()

    def give_up(self) -> bool:
        """End the change that is under way, and the one that waits for its end.

        Returns:
            Whether there was one; it is over.

        Raises:
            NotSwapped: It cannot be given up any more, or it does not end.
        """
        with self._turn:
            return self._end_all()

    @contextlib.contextmanager
    def instead(self) -> Iterator[bool]:
        """Make a change in this block in the place of what is under way or waits, which is ended.

        No other change begins before it, however many are asked for.

        Yields:
            Whether there was another one; it is over.

        Raises:
            NotSwapped: It cannot be given up any more, or it does not end.
        """
        with self._turn:
            gave_up = self._end_all()
            self._mine = self._newest
        try:
            yield gave_up
        finally:
            self._end()

    def _end_all(self) -> bool:
        if self._mine is not None and not self._may_end:
            raise NotSwapped(
                "another change is under way, and it is too late to give it up",
                hint="try again when it is over",
            )
        gave_up = self._mine is not None or self._waiting > 0
        self._end_others(GIVEN_UP)
        self._instead += 1
        try:
            if not self._turn.wait_for(lambda: self._mine is None, GIVE_UP_S):
                raise NotSwapped(
                    "the change is given up, and a process that loads its model has not ended that",
                    hint="try again in a minute",
                )
        finally:
            self._instead -= 1
        return gave_up

    def _end(self) -> None:
        with self._turn:
            self._mine, self._gives_way, self._may_end = None, False, False
            self._turn.notify_all()

    def _end_others(self, reason: str) -> None:
        self._newest, self._reason = self._newest + 1, reason
        self._turn.notify_all()

    def _wait_for_turn(self, number: int) -> None:
        give_up = time.monotonic() + GIVE_WAY_S
        while self._mine is not None:
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                raise NotSwapped(
                    "the trial of another model does not end", hint="try again in a minute"
                )
            self._turn.wait(left_s)
            if number != self._newest:
                raise NotSwapped(f"it is not tried: {self._reason}")

    @contextlib.contextmanager
    def trial(self, named: str, has_left: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
        """Try an artifact in this block, within a change that `tries`; nothing is served of it.

        Args:
            named: Name or path of the artifact.
            has_left: See `seatrial.serve.rehearsing.rehearse_apart`.

        Yields:
            What `rehearse_apart` takes in the place of `has_left`.

        Raises:
            NotSwapped: A newer change is to take its place, or it was given up.
        """

        def gives_way() -> bool:
            if self._mine != self._newest:
                raise NotSwapped(f"{named} is tried no more: {self._reason}")
            return has_left()

        gives_way()
        yield gives_way
        with self._turn:
            gives_way()
            self._gives_way = False

    @contextlib.contextmanager
    def loading(self, named: str) -> Iterator[Callable[[], None]]:
        """Load an artifact in this block, behind its trial; at its end it cannot be given up.

        Args:
            named: Name or path of the artifact.

        Yields:
            A function that raises where it was given up.

        Raises:
            NotSwapped: It was given up.
        """

        def check() -> None:
            if self._mine != self._newest:
                raise NotSwapped(f"{named} is not served: {self._reason}")

        yield check
        with self._turn:
            check()
            self._may_end = False
