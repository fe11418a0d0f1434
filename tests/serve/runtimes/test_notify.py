"""What the service manager is told."""

from __future__ import annotations

import os
import socket

import pytest

from seatrial.serve.runtimes.notify import READY, alive_every_s, notify


def test_without_a_manager_nothing_is_told() -> None:
    assert notify(READY, {}) is False
    assert notify(READY, {"NOTIFY_SOCKET": "vsock:2:1"}) is False


def test_an_abstract_socket() -> None:
    name = f"seatrial-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        assert notify(READY, {"NOTIFY_SOCKET": f"@{name}"}) is True
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_the_manager_wants_to_hear_of_us(
    given: dict[str, str], expected: float | None
) -> None:
    assert alive_every_s(given) == expected
