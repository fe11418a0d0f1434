"""Commands to the processes of a service; see also `test_reload_processes.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from seatrial.serve.serving_processes import _kill


def test_one_that_does_not_even_end_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        _kill(os.pidfd_open(process.pid))
        assert process.wait(20) == -signal.SIGKILL
