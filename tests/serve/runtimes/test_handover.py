"""Signals that come while one program takes the place of another."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A thread of the first program takes the signal, and its handler's note is gone with the program.
BEFORE = """
import os, signal, sys, threading, time
from seatrial.serve.runtimes.handover import hold_signals

number, then = int(sys.argv[1]), sys.argv[2]
if sys.argv[3] == "a thread":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
taken = threading.Event()
signal.signal(number, lambda *given: taken.set())
environment = os.environ | hold_signals()
os.kill(os.getpid(), number)
if sys.argv[3] == "a thread":
    while not taken.is_set():  # the main thread, whose signals these are, may not wait for long
        time.sleep(0.01)
os.execve(sys.executable, [sys.executable, "-c", then, str(number)], environment)
"""
AFTER = """
import os, signal, sys
from seatrial.serve.runtimes.handover import PIPE, take_signals

signal.signal(int(sys.argv[1]), lambda number, frame: print("came", number, flush=True))
before = len(os.listdir("/proc/self/fd"))
take_signals()
assert len(os.listdir("/proc/self/fd")) == before - 1
assert PIPE not in os.environ
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}
take_signals()  # a program that was started by itself has nothing to take
print("over")
"""


@pytest.mark.parametrize("taken_by", ["a thread", "nobody"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_next_program_whoever_took_it(number: int, taken_by: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEFORE, str(int(number)), AFTER, taken_by],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"came {int(number)}\nover\n", "")
