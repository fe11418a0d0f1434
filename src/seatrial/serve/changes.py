"""Changes of the served model: one at a time, and the newest counts.

A change that tries a model gives way to a newer one while it does so: the trial may hang. A change
that waits for that gives way to a newer one too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from seatrial.errors import NotSwapped

GIVE_WAY_S = 10.0  # in which a trial that another change ends is over


class Changes:
    """The turn of the changes of one service. Thread-safe."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._newest = 0  # number of the newest change that may end others
        self._mine: int | None = None  # number of the change that is under way
        self._gives_way = False  # whether that one does

    @contextlib.contextmanager
    def alone(self, *, newest: bool = True, tries: bool = False) -> Iterator[bool]:
        """Make a change in this block, when the one that gives way to it has ended.

        Args:
            newest: Whether it may end the trial of another one.
            tries: Whether it tries a model (`trial`), and so gives way to a newer one until then.

        Yields:
            Whether it has ended a trial.

        Raises:
            NotSwapped: Another change is under way and gives no way, or not in time; or a newer one
                came while this one waited.
        """
        with self._turn:
            if self._mine is not None and not (newest and self._gives_way):
                raise NotSwapped("another change is under way", hint="try again when it is over")
            self._newest += newest
            number, ended = self._newest, self._mine is not None
            self._turn.notify_all()
            give_up = time.monotonic() + GIVE_WAY_S
            while self._mine is not None:
                left_s = give_up - time.monotonic()
                if left_s <= 0:
                    raise NotSwapped(
                        "the trial of another model does not end", hint="try again in a minute"
                    )
                self._turn.wait(left_s)
                if number != self._newest:
                    raise NotSwapped("it is not tried: another change was asked for")
            self._mine, self._gives_way = number, tries
        try:
            yield ended
        finally:
            with self._turn:
                self._mine, self._gives_way = None, False
                self._turn.notify_all()

    @contextlib.contextmanager
    def trial(self, named: str, has_left: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
        """Try an artifact in this block, within a change that `tries`; nothing is served of it.

        Args:
            named: Name or path of the artifact.
            has_left: See `seatrial.serve.rehearsing.rehearse_apart`.

        Yields:
            What `rehearse_apart` takes in the place of `has_left`.

        Raises:
            NotSwapped: A newer change is to take its place.
        """

        def gives_way() -> bool:
            if self._mine != self._newest:
                raise NotSwapped(f"{named} is tried no more: another change was asked for")
            return has_left()

        gives_way()
        yield gives_way
        with self._turn:
            gives_way()
            self._gives_way = False
