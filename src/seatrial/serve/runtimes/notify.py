"""Messages to systemd from a service of ``Type=notify``; see sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

SOCKET = "NOTIFY_SOCKET"
READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"


def notify(state: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell the service manager a state.

    Args:
        state: Assignments, one in each line, such as `READY`.
        environment: Has the manager's socket; the process has no manager where it has none.

    Returns:
        Whether there is a manager.

    Raises:
        OSError: The manager does not take it.
    """
    address = environment.get(SOCKET, "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # an abstract socket, whose name begins with a zero byte
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.sendto(state.encode(), address)
    return True


def alive_every_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two `ALIVE`; None where the manager does not want it of us.

    It may come late twice before the manager gives the process up.
    """
    within = environment.get("WATCHDOG_USEC", "")
    if not within.isdecimal() or environment.get("WATCHDOG_PID", str(os.getpid())) != str(
        os.getpid()
    ):
        return None
    return int(within) / 1e6 / 3
