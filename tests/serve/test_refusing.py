"""Refusals that are written round the application, and the bodies behind them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from raw_http import GET, POST, read_response
from seatrial.deployment import Limits
from seatrial.serve import open_connections
from seatrial.serve.refusing import Refusing

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.mark.parametrize("plain", [True, False])
def test_who_does_not_read_refusals_is_hung_up_on(
    run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    """They are written round the application, which waits for the client to read."""
    written: list[int] = []
    write = Refusing.write

    def noted(self: Refusing, status: int, rest: bytes) -> None:
        write(self, status, rest)
        written.append(self._connection.transport.get_write_buffer_size())

    monkeypatch.setattr(Refusing, "write", noted)
    monkeypatch.setattr(open_connections, "REFUSES_S", 60.0 if plain else 0.0)
    one = POST + b"Content-Length: 1\r\n%s\r\nx" % (b"" if plain else b"X:\r\n")
    with (
        run_app(Limits(queue=1, idle_s=0.5)) as running,
        running.lanes_held(),
        running.connect() as connection,
    ):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while max(written, default=0) < 2**20:
                connection.sendall(one * 100)
        assert 0 < max(written) < 2**20


def test_a_connection_that_was_refused_serves_the_next_requests(
    run_app: Callable[..., Any], photo: bytes
) -> None:
    head = POST + b"Content-Length: %d\r\n\r\n" % len(photo)
    with run_app(Limits(queue=1)) as running, running.connect() as connection:
        with running.lanes_held():
            for _ in range(3):
                connection.sendall(head)
                assert read_response(connection)[0] == 503  # before a byte of the body
                connection.sendall(photo[:100])
                connection.sendall(photo[100:])
            # Requests that come at once are answered in their order.
            connection.sendall((head + photo) * 2 + GET + b"\r\n" + head + photo)
            answers = b""
            while len(found := re.findall(rb"HTTP/1\.1 (\d+)", answers)) < 4:
                answers += connection.recv(65536)
            assert found == [b"503", b"503", b"200", b"503"]
            time.sleep(0.05)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.recv(65536)  # the rest of the last one
            connection.settimeout(20)
        connection.sendall(head + photo)
        assert read_response(connection)[0] == 200
