"""The one ``openvino.Core`` of a process."""

from __future__ import annotations

import threading
from typing import Any

from seatrial.system.extras import require

_lock = threading.Lock()
_core: Any = None


def openvino_core(purpose: str, extra: str = "openvino") -> Any:
    """The core, which lives as long as the process.

    A core whose CPU plugin is loaded gives the thread that made it a stack for signals, and unmaps
    that when the core ends (for processors with AMX). Where another thread ends it, or another core
    was made meanwhile, the first thread keeps the address: Python's handlers run on that stack, and
    the next SIGTERM or Ctrl-C kills the process (OpenVINO 2022.2 to 2026.4).

    Args:
        purpose: What needs OpenVINO, for the error.
        extra: What to install.

    Raises:
        MissingExtra: OpenVINO is not installed.
    """
    global _core
    ov = require("openvino", extra=extra, purpose=purpose)
    with _lock:
        if _core is None:
            _core = ov.Core()
        return _core
