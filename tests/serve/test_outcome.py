"""How requests end: counted by a label that no client chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import generate_latest

from open_inference import INFER, images_body
from seatrial.errors import DeadlineExceeded, InputTooSlow, Overloaded, Unauthorized
from seatrial.serve.outcome import error_headers

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


def test_paths_that_are_tried_leave_no_series_behind(running: Running) -> None:
    for number in range(3):
        running.client.get(f"/v2/models/tried{number}")
        running.client.get(f"/v2/models/tried{number}/infer")  # a wrong method
        running.client.post(f"/v2/models/tried{number}/infer")
        running.client.post(f"/v2/models/tiny/versions/tried{number}/infer")
    page = generate_latest().decode()
    assert "tried" not in page
    assert 'route="/v2/models/infer"' in page


def test_a_client_that_leaves_takes_its_images_with_it(
    run_app: Callable[..., Any],
    files: list[bytes],
    until: Callable[..., Any],
    metric: Callable[..., float],
) -> None:
    def gone() -> float:
        return metric("seatrial_requests_total", route="/v2/models/infer", code="499")

    before = gone()
    body, headers = images_body(*files)
    head = [f"POST {INFER} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    with run_app() as running, running.lanes_held():
        with running.connect() as leaver:
            leaver.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            until(lambda: running.detector.lanes.waiting == 2)
        until(lambda: gone() == before + 1)
        until(lambda: running.detector.lanes.present == 1)


def test_headers_of_errors_are_in_their_units() -> None:
    found = [error_headers(Overloaded("x", wait_s=2.5)) for _ in range(200)]
    assert {one["X-Predicted-Wait-Ms"] for one in found} == {"2500"}
    assert {int(one["Retry-After"]) for one in found} == {3, 4, 5, 6}  # whole seconds, drawn
    assert error_headers(Unauthorized("x")) == {"WWW-Authenticate": "Bearer"}
    assert error_headers(InputTooSlow("x")) == {"Connection": "close"}
    assert error_headers(DeadlineExceeded("x")) == {}
