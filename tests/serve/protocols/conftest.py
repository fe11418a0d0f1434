"""A service with gRPC and little room, for the tests of calls that leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from seatrial.client.inference_messages import INFER
from seatrial.deployment import Limits
from served_application import Running

if TYPE_CHECKING:
    from grpc_calls import Service


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    limits = Limits(body_bytes=2**18, image_pixels=1_000_000, body_s=2.0, queue=4)
    with run_app(limits, grpc=True) as served:
        yield served


@pytest.fixture(scope="module")
def service(serving: Running) -> Iterator[Service]:
    from grpc_calls import calls

    with calls(serving.grpc_port) as opened:
        yield opened


@pytest.fixture
def outcomes(metric: Callable[..., float]) -> Callable[[int], float]:
    """Number of inferences that ended with a status of HTTP."""
    return lambda code: metric("seatrial_requests_total", route=INFER, code=str(code))
