"""Deadlines, overload and clients that leave, over gRPC against a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grpc_calls import Service, calls, failure, images_request, infer, tensors
from seatrial.client.inference_messages import INFER
from served_application import Running

pytestmark = pytest.mark.usefixtures("time_limit")


def test_who_asked_for_little_time_is_told_so(service: Service) -> None:
    """Not that the service has too little."""
    ended = threading.Event()

    def never() -> Iterator[bytes]:
        ended.wait(60)
        yield from ()

    call = service.channel.stream_unary(INFER)
    metadata = (("x-request-timeout-ms", "50"),)
    status, details, _ = failure(call, never(), timeout=60, metadata=metadata)
    ended.set()
    assert status == "DEADLINE_EXCEEDED"
    assert "the message was not here after 0.05 s" in details
    assert "the deadline of the request itself has passed: ask for more time" in details
    assert "limits.body_s" not in details


def test_a_call_has_the_deadline_of_its_client(
    serving: Running, service: Service, files: list[bytes], outcomes: Callable[[int], float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    # By the client's clock, or by ours: on a busy machine it may be any of the two.
    before = outcomes(504) + outcomes(499)
    with serving.lanes_held():
        status, _, _ = failure(service.ModelInfer, images_request(files[0]), timeout=0.2)
        assert status == "DEADLINE_EXCEEDED"
        until(lambda: outcomes(504) + outcomes(499) > before)
        until(lambda: serving.detector.lanes.present == 1)  # what holds the lane
    assert tensors(infer(service, files[0]))["counts"].tolist() == [2]


def test_the_deadline_of_a_client_is_in_seconds_and_no_longer_than_allowed(
    serving: Running, service: Service, files: list[bytes], until: Callable[..., Any]
) -> None:
    lanes = serving.detector.lanes

    def given(timeout: float) -> float:
        with serving.lanes_held():
            waiting = service.ModelInfer.future(images_request(files[0]), timeout=timeout)
            until(lambda: lanes.waiting == 1)
            (deadline_s,) = (one.deadline_s for one in [*lanes._places] if one.asks)
            waiting.cancel()
            until(lambda: lanes.present == 1)
        return deadline_s

    assert 0 < given(30.0) <= 30.2  # on the wire gRPC rounds it up, to a tenth
    assert given(3000.0) == serving.service.dispatcher.limits.longest_deadline_s == 60.0


def test_the_parameter_timeout_and_the_deployments_deadline_hold(
    serving: Running, service: Service, files: list[bytes]
) -> None:
    with serving.lanes_held():
        for request in (
            images_request(files[0], parameters={"timeout": 200_000}),
            images_request(files[0]),
        ):
            status, details, metadata = failure(service.ModelInfer, request, timeout=None)
            assert (status, metadata["x-error-code"]) == ("DEADLINE_EXCEEDED", "DeadlineExceeded")
            assert details.startswith("not answered within")
    metadata = (("x-request-timeout-ms", "soon"),)
    status, details, _ = failure(service.ModelInfer, images_request(files[0]), metadata=metadata)
    assert (status, "'soon' is not a whole number" in details) == ("INVALID_ARGUMENT", True)


def test_a_client_that_leaves_gives_its_place_back(
    serving: Running, service: Service, files: list[bytes], outcomes: Callable[[int], float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    before = outcomes(499)
    lanes = serving.detector.lanes
    ran = lanes.mean_s
    with serving.lanes_held():
        # It has time left: it is no deadline that ends it.
        waiting = service.ModelInfer.future(images_request(files[0]), timeout=60)
        until(lambda: lanes.waiting == 1)
        waiting.cancel()
        until(lambda: lanes.waiting == 0 and lanes.present == 1)
    until(lambda: outcomes(499) > before)
    assert lanes.mean_s == ran  # it never had a lane


def test_what_would_be_late_is_refused_before_its_message_is_read(
    serving: Running, service: Service, files: list[bytes], metric: Callable[..., float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    before = metric("seatrial_refusals_total", reason="queue")
    silent = service.channel.stream_unary(INFER)
    arrived = threading.Event()

    def never() -> Iterator[bytes]:
        arrived.wait(60)
        yield images_request(files[0]).SerializeToString()

    with serving.lanes_held():
        waiting = [
            service.ModelInfer.future(images_request(files[0]), timeout=60) for _ in range(3)
        ]
        until(lambda: serving.detector.lanes.present == 4)
        status, details, metadata = failure(silent, never(), timeout=30)
        arrived.set()
        for one in waiting:
            one.cancel()
    assert (status, "4 requests wait or run already" in details) == ("UNAVAILABLE", True)
    assert metadata["x-error-code"] == "Overloaded"
    assert int(metadata["retry-after"]) >= 1
    assert metadata["grpc-retry-pushback-ms"] == f"{metadata['retry-after']}000"
    assert int(metadata["x-predicted-wait-ms"]) > 0
    assert metric("seatrial_refusals_total", reason="queue") == before + 1


def test_clients_with_a_policy_of_retries_wait_as_told(
    serving: Running, files: list[bytes], until: Callable[..., Any], metric: Callable[..., float]
) -> None:
    """gRPC's own retries: it comes again after the pushback, and is answered."""
    policy = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "initialBackoff": '
        '"0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": '
        '["UNAVAILABLE"]}}]}'
    )
    refused = metric("seatrial_refusals_total", reason="queue")
    with calls(serving.grpc_port, service_config=policy) as service:
        with serving.lanes_held():
            held = [service.ModelInfer.future(images_request(files[0])) for _ in range(3)]
            until(lambda: serving.detector.lanes.present == 4)
            again = service.ModelInfer.future(images_request(files[0]), timeout=60)
            until(lambda: metric("seatrial_refusals_total", reason="queue") == refused + 1)
            for one in held:
                one.cancel()
        assert tensors(again.result())["counts"].tolist() == [2]
    assert metric("seatrial_refusals_total", reason="queue") == refused + 1


def test_a_message_that_does_not_arrive_ends_its_call(
    service: Service, files: list[bytes], outcomes: Callable[[int], float]
) -> None:
    before = outcomes(408)
    done = threading.Event()

    def never() -> Iterator[bytes]:
        done.wait(60)
        yield b""

    call = service.channel.stream_unary(INFER)
    status, details, _ = failure(call, never(), timeout=30)
    done.set()
    assert status == "DEADLINE_EXCEEDED"
    assert details.startswith("the message was not here after 2 s"), details
    assert outcomes(408) == before + 1


def test_bytes_are_counted_as_long_as_they_are(
    serving: Running, service: Service, files: list[bytes], metric: Callable[..., float],
    until: Callable[..., Any],
) -> None:  # fmt: skip
    name = "seatrial_body_bytes_present"
    until(lambda: metric(name) == 0)
    request = images_request(files[0])
    with serving.lanes_held():
        waiting = service.ModelInfer.future(request)
        until(lambda: serving.detector.lanes.waiting == 1)
        assert metric(name) == len(request.SerializeToString())
        waiting.cancel()
        until(lambda: metric(name) == 0)
