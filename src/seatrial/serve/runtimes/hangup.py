"""SIGHUP: a reload, unless the terminal has closed in which the service was started.

The kernel and shells send the same signal for that. A service that was started with ``nohup``, by a
service manager or without a terminal goes on, and reloads.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from types import FrameType

from seatrial.serve.log import say


class Hangup:
    """Takes SIGHUP of this process; made before another handler of it is set.

    Attributes:
        reload: Called where it does not mean the end; nothing happens before there is a service.
    """

    def __init__(self) -> None:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
        self._ends_with_terminal = not ignored and has_terminal()
        self.reload: Callable[[], object] = _too_early

    def listen(self) -> None:
        """Handle the signal from now on."""
        signal.signal(signal.SIGHUP, self.take)

    def take(self, number: int = signal.SIGHUP, frame: FrameType | None = None) -> None:
        """Handle one signal; on the main thread."""
        if self._ends_with_terminal and not has_terminal():
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.reload()


@functools.cache
def hangup() -> Hangup:
    """That of this process."""
    return Hangup()


def has_terminal() -> bool:
    """Whether this process has a terminal, as one that was started by a shell has."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _too_early() -> None:
    say("warning", "reload", "SIGHUP before the service is ready: it starts with what is named now")
