"""Child processes: the end of one, or of its process group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any


def end(process: subprocess.Popen[Any], *, grace_s: float, group: bool = False) -> None:
    """End a child process: SIGTERM, and SIGKILL where it is still alive after a while.

    Args:
        process: The child; one that has ended already is left as it is.
        grace_s: Seconds between the two signals.
        group: Send the signals to the child's process group, which it leads
            (``start_new_session``); its members get them also where the child has ended.
    """

    def send(number: signal.Signals) -> None:
        if group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)

    send(signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        send(signal.SIGKILL)
        process.wait()
