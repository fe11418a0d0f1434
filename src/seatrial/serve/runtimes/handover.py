"""Signals between two programs of one process: the one that checks, and the one that serves.

``seatrial serve`` ends with `os.execve`. A signal is blocked in one thread alone: another thread of
the first program, an engine's for instance, may take it in the last moment, and what its handler
noted is gone with the program. The handler writes to a pipe as well, which the next program reads.
"""

from __future__ import annotations

import os
import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PIPE = "SEATRIAL_SIGNALS"  # variable of the environment: descriptor of the pipe's end
MOST_BYTES = 64


def hold_signals() -> dict[str, str]:
    """Have signals wait for the program that takes this one's place.

    Returns:
        What the environment of that program needs.
    """
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    return {PIPE: str(reading)}


def take_signals() -> None:
    """Take signals again, those first that came meanwhile; their handlers are in place."""
    came = b""
    if (given := os.environ.pop(PIPE, "")).isdigit():
        try:
            came = os.read(int(given), MOST_BYTES)
            os.close(int(given))
        except OSError:  # nothing was written; or who started this process had it closed
            pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for number in SIGNALS:
        if number in came:
            signal.raise_signal(number)
