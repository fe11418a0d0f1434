"""A process ends with the one that started it, also where that ended first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

WAITS = """
import os, signal, sys
from seatrial.serve.parent import end_with_parent
end_with_parent(int(sys.argv[1]))
sys.stdout.write("alive"); sys.stdout.flush()
signal.sigwait([signal.SIGUSR1])
"""


def test_a_parent_that_ended_before_the_kernel_was_asked_ends_its_child() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = subprocess.run(
        [sys.executable, "-c", WAITS, str(gone.pid)], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def test_a_parent_that_lives_does_not() -> None:
    words = [sys.executable, "-c", WAITS, str(os.getpid())]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(5) == b"alive"
        child.kill()
