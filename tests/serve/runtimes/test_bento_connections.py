"""The real service with few file descriptors, and clients that keep them busy."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

import local_http
from seatrial.deployment import CoreLayout, Limits
from seatrial.serve.process import ServiceProcess

FILES = 256
# So much of it is here at once that a body is not slow for several seconds: it does not give way.
UPLOAD_BYTES = 400_000
PROBES = ("/livez", "/readyz", "/metrics")
POST = b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]


@pytest.fixture(scope="module")
def few_files(start_service: Callable[..., ServiceProcess]) -> Iterator[ServiceProcess]:
    """A service whose processes may have 256 open files."""
    limits = Limits(
        header_s=60, body_s=60, deadline_s=60, drain_s=1, bytes_in_flight=2 * 220 * UPLOAD_BYTES
    )
    starting = start_service(engine="null", layout=CoreLayout(workers=1), limits=limits)
    # The supervisor imports for seconds before it starts what inherits this.
    resource.prlimit(starting.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    with starting as running:
        (worker,) = psutil.Process(running.process.pid).children()
        assert worker.rlimit(psutil.RLIMIT_NOFILE) == (FILES, FILES)
        yield running


@pytest.fixture
def opened(few_files: ServiceProcess) -> Iterator[Callable[[int, bytes], list[socket.socket]]]:
    """Opens so many connections that send something, and closes them at the end."""
    port = int(few_files.url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:

        def open_them(number: int, sent: bytes) -> list[socket.socket]:
            found = []
            for _ in range(number):
                connection = socket.create_connection(("127.0.0.1", port), timeout=20)
                found.append(stack.enter_context(connection))
                with contextlib.suppress(OSError):
                    connection.sendall(sent)
            return found

        yield open_them


def answers(url: str, path: str, **given: Any) -> int:
    """Status of an answer on a new connection."""
    method = "POST" if given else "GET"
    return local_http.request(method, f"{url}{path}", timeout=20, **given).status_code


@pytest.mark.parametrize(
    "sent", [b"", b"GET /model HTTP/1.1\r\nX: ", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_clients_that_send_nothing_more_keep_nobody_out(
    few_files: ServiceProcess, opened: Callable[..., Any], photo: bytes, sent: bytes
) -> None:
    opened(400, sent)
    for path in PROBES:
        assert answers(few_files.url, path) == 200
    assert answers(few_files.url, "/detect", content=photo) == 200


def test_probes_have_places_where_all_others_are_taken(
    few_files: ServiceProcess, opened: Callable[..., Any], photo: bytes
) -> None:
    """By uploads that lack their last byte: these are requests, and not closed for others."""
    opened(220, POST % UPLOAD_BYTES + bytes(UPLOAD_BYTES - 1))
    for path in PROBES:
        assert answers(few_files.url, path) == 200
    assert answers(few_files.url, "/detect", content=photo) == 503
    assert answers(few_files.url, "/model") == 503


def test_bodies_that_drip_give_their_places_and_take_none_of_the_probes(
    few_files: ServiceProcess, opened: Callable[..., Any], photo: bytes
) -> None:
    opened(220, POST % 1000 + b"x")
    for path in PROBES:
        assert answers(few_files.url, path) == 200
    assert answers(few_files.url, "/detect", content=photo) in (200, 503)
