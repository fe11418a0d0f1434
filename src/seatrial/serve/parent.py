"""The end of a process with the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "SEATRIAL_PARENT"  # id of the process that the service ends with, however that ends
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent process ends; see prctl(2).

    BentoML's workers are sessions of their own: they would go on, unsupervised and with the port,
    if their supervisor was killed.

    Args:
        parent: Id of the parent. One that has ended before the kernel was asked ends this process
            at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def end_with_owner() -> None:
    """`end_with_parent` where the parent asks for it, by `PARENT` in the environment."""
    parent = os.getppid()
    if os.environ.get(PARENT) == str(parent):
        end_with_parent(parent)
