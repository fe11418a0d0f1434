"""Health checking over gRPC, by the protocol's own client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import raw_http2
from grpc_calls import (
    LIVE,
    NOT_SERVING,
    SERVING,
    WATCH,
    WATCH_REQUEST,
    Service,
    calls,
    failure,
    field,
    health,
)
from seatrial.client.inference_messages import SERVICE
from seatrial.deployment import Limits
from seatrial.serve.protocols import grpc_health as module
from seatrial.serve.protocols.grpc_health import WATCHERS, HealthStatuses
from seatrial.serve.protocols.inference_grpc import QUESTION_PLACES
from served_application import Running

SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    with run_app(grpc=True) as served:
        yield served


@pytest.fixture
def service(serving: Running) -> Iterator[Service]:
    with calls(serving.grpc_port) as opened:
        yield opened


@contextlib.contextmanager
def no_usable_lane(serving: Running) -> Iterator[None]:
    """What the process says while its lanes are out."""
    state = serving.service.health
    usable, state.usable_lanes = state.usable_lanes, lambda: 0
    try:
        yield
    finally:
        state.usable_lanes = usable


def test_health_follows_readiness(
    serving: Running, service: Service, until: Callable[..., Any]
) -> None:
    for name in ("", SERVICE, "readiness", "liveness"):
        assert health(service, name) == SERVING
    with no_usable_lane(serving):
        until(lambda: health(service, "readiness") == NOT_SERVING)
        assert health(service, SERVICE) == health(service, "") == NOT_SERVING
        assert health(service, "liveness") == SERVING
        assert not service.ServerReady().ready
        assert not service.ModelReady(name="tiny").ready
        assert service.ServerLive().live
    until(lambda: health(service, "readiness") == SERVING)


def test_liveness_is_that_of_the_process(
    serving: Running, service: Service, until: Callable[..., Any]
) -> None:
    serving.service.health.failure = "it cannot be mended"
    try:
        until(lambda: health(service, "liveness") == NOT_SERVING)
        assert health(service, "readiness") == NOT_SERVING
    finally:
        serving.service.health.failure = ""
    until(lambda: health(service, "liveness") == SERVING)


def test_watchers_are_told_of_each_change(serving: Running, service: Service) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)
    told = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert next(told).status == SERVING
    with no_usable_lane(serving):
        assert next(told).status == NOT_SERVING
    assert next(told).status == SERVING
    told.cancel()


def test_a_name_that_is_not_known(service: Service) -> None:
    """`Check` fails, and `Watch` waits for it to become known, as the protocol says."""
    stub = health_pb2_grpc.HealthStub(service.channel)
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="none"))
    assert next(unknown).status == SERVICE_UNKNOWN
    status, details, _ = failure(stub.Check, health_pb2.HealthCheckRequest(service="none"))
    assert (status, details.partition(";")[0]) == ("NOT_FOUND", "no service 'none' is known here")
    assert "'readiness'" in details
    assert unknown.is_active()
    unknown.cancel()


def test_only_so_many_watch(
    service: Service, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are calls without end, and anyone may make them: others need the places."""
    monkeypatch.setattr(module, "OLDEST_S", 3600.0)
    stub = health_pb2_grpc.HealthStub(service.channel)
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    told = [stub.Watch(request) for _ in range(WATCHERS)]
    assert [next(one).status for one in told] == [SERVING] * WATCHERS
    with pytest.raises(grpc.RpcError) as refused:
        next(stub.Watch(request, timeout=20))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert health(service, SERVICE) == SERVING

    def watched() -> bool:
        one = stub.Watch(request)
        try:
            return bool(next(one).status == SERVING)
        except grpc.RpcError:
            return False
        finally:
            one.cancel()

    told[0].cancel()
    until(watched)
    for one in told:
        one.cancel()


def test_who_watches_most_gives_a_place_to_another(
    serving: Running, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OLDEST_S", 3600.0)
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    stub = health_pb2_grpc.HealthStub(service.channel)
    told = []
    for _ in range(WATCHERS):  # one after the other, so that the first is the oldest
        told.append(stub.Watch(request))
        assert next(told[-1]).status == SERVING
    with calls(serving.grpc_port) as other:
        one = health_pb2_grpc.HealthStub(other.channel).Watch(request, timeout=20)
        assert next(one).status == SERVING
        ended = [watcher for watcher in told if not watcher.is_active()]
        status, details, _ = failure(next, told[0])
        assert status == "UNAVAILABLE"
        assert "other watchers of health needed the place" in details
        assert len(ended) <= 1
        monkeypatch.setattr(module, "OLDEST_S", 0.0)
        more = stub.Watch(request, timeout=20)
        assert next(more).status == SERVING  # another of its own goes
        assert failure(next, told[1])[0] == "UNAVAILABLE"
        assert one.is_active()
    for watcher in (*told, more):
        watcher.cancel()


def test_calls_without_a_message_do_not_hold_up_health(
    run_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEALTH_S", 0.5)
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait()
        yield from ()

    with run_app(Limits(body_s=50.0), grpc=True) as served, calls(served.grpc_port) as service:
        ask = service.channel.stream_unary(LIVE)
        silent = [ask.future(nothing(), timeout=50) for _ in range(2 * QUESTION_PLACES)]
        stub = health_pb2_grpc.HealthStub(service.channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        assert stub.Check(request, timeout=20).status == SERVING
        check = service.channel.stream_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as late:
            check(nothing(), timeout=20)
        assert "the message was not here after 0.5 s" in str(late.value.details())
        for one in silent:
            one.cancel()
        never.set()


def test_a_watcher_that_takes_nothing_holds_up_no_other(
    serving: Running, service: Service, until: Callable[..., Any]
) -> None:
    """Nor a change, nor who asks once."""
    request = health_pb2.HealthCheckRequest(service=SERVICE)
    with raw_http2.begin(serving.grpc_port, window=0) as client:
        raw_http2.call(client, WATCH, range(1, 9, 2), WATCH_REQUEST)
        begun = (one for one in raw_http2.frames(client) if one[0] == raw_http2.HEADERS)
        assert {next(begun)[2] for _ in range(4)} == {1, 3, 5, 7}
        told = health_pb2_grpc.HealthStub(service.channel).Watch(request)
        assert next(told).status == SERVING
        for _ in range(2):
            with no_usable_lane(serving):
                assert next(told).status == NOT_SERVING
                assert health(service, SERVICE) == NOT_SERVING
            assert next(told).status == SERVING
        told.cancel()


def test_health_takes_no_long_or_broken_messages(service: Service) -> None:
    check = service.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert failure(check, field(1, b"x" * 2**17), timeout=20)[0] == "RESOURCE_EXHAUSTED"
    assert failure(check, b"\xff", timeout=20)[0] == "INVALID_ARGUMENT"


def state(*, ready: bool = True, live: bool = True) -> Any:
    return SimpleNamespace(
        unready=lambda: "" if ready and live else "it is not", failure="" if live else "it fails"
    )


def test_who_is_slow_is_told_of_the_last_change_alone() -> None:
    async def watch() -> list[int]:
        statuses = HealthStatuses()
        statuses.tell(state())
        changes = statuses.changes(SERVICE)
        told = [await anext(changes)]
        for ready in (False, True, False):
            statuses.tell(state(ready=ready))
        told.append(await anext(changes))
        again = asyncio.ensure_future(anext(changes))
        statuses.tell(state(ready=False))
        statuses.tell(state(ready=True))
        statuses.tell(state(ready=False))
        for _ in range(10):  # it is woken, and nothing has changed
            await asyncio.sleep(0)
        assert not again.done()
        statuses.tell(state())
        return [*told, await again]

    assert asyncio.run(watch()) == [SERVING, NOT_SERVING, SERVING]


def test_nothing_serves_before_the_first_word_and_after_the_end() -> None:
    async def watch() -> None:
        statuses = HealthStatuses()
        assert statuses.of("liveness") == NOT_SERVING
        statuses.tell(state())
        assert statuses.of("") == SERVING
        statuses.end()
        statuses.tell(state())
        assert {statuses.of(name) for name in ("", "readiness", "liveness")} == {NOT_SERVING}
        assert statuses.of("none") is None

    asyncio.run(watch())
