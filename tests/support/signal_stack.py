"""The stack on which handlers of signals run in this thread."""

from __future__ import annotations

import ctypes
import sys

_DISABLE = 2  # SS_DISABLE of signal.h, on Linux


class _Stack(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def use_the_ordinary_stack() -> None:
    """Run handlers on the thread's own stack: see sigaltstack(2).

    Cores of OpenVINO that tests and other libraries make and drop leave the address of an unmapped
    stack behind (`seatrial.system.openvino_core`): the signal of a time limit would kill the run.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_Stack(None, _DISABLE, 0)), None)
