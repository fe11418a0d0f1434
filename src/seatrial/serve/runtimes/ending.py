"""The lines of the log on the end of a service: that it was asked to end, and that it has ended."""

from __future__ import annotations

import atexit
import signal

from seatrial.serve.log import say

_asked: list[int] = []  # signals; empty before one came, and once the end was told


def say_ending(number: int) -> None:
    """Say that a signal ends the service, the first time; `say_ended` follows.

    In the process that the service was started as: server processes of a supervisor say nothing.

    Args:
        number: The signal.
    """
    if not _asked:
        _asked.append(number)
        atexit.register(say_ended)
        say("info", "ending", f"{signal.Signals(number).name}: the service ends")


def say_ended() -> None:
    """Say that the service has ended, where it was asked to; when nothing else is to come."""
    if _asked:
        _asked.clear()
        atexit.unregister(say_ended)
        say("info", "ended", "the service has ended")
