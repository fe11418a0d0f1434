"""The gRPC server beside the application: reflection, what it refuses, the drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

import raw_http2
from grpc_calls import (
    NOT_SERVING,
    SERVING,
    Service,
    calls,
    failure,
    health,
    images_request,
    tensors,
)
from seatrial.artifact import Artifact
from seatrial.client.inference_messages import SERVICE
from seatrial.deployment import Deployment, Limits, Server
from seatrial.errors import PortInUse
from seatrial.serve import grpc_server as module
from seatrial.serve.grpc_server import REFLECTION, grpc_server
from served_application import Running, serve_application

pytestmark = pytest.mark.usefixtures("time_limit")
HEADER_S = 1.0  # that a connection has until its first call


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    limits = Limits(header_s=HEADER_S, body_s=2.0)
    with run_app(limits, grpc=True) as served:
        yield served


@pytest.fixture
def service(serving: Running) -> Iterator[Service]:
    with calls(serving.grpc_port) as opened:
        yield opened


def test_thousands_of_silent_calls_keep_nobody_out(
    run_app: Callable[..., Any], photo: bytes, until: Callable[..., Any]
) -> None:
    """More of each kind than there may be calls at a time."""
    silent = (
        f"/{SERVICE}/ServerLive", f"/{SERVICE}/ModelInfer", "/grpc.health.v1.Health/Check",
        f"/{REFLECTION[0]}/ServerReflectionInfo",
    )  # fmt: skip
    limits = Limits(body_s=50.0, deadline_s=30.0, queue=32)
    with (
        run_app(limits, grpc=True) as served,
        calls(served.grpc_port) as service,
        contextlib.ExitStack() as clients,
    ):
        for path in silent:
            for _ in range(2):
                client = clients.enter_context(raw_http2.begin(served.grpc_port))
                raw_http2.call(client, path, range(1, 401, 2))
        stub = health_pb2_grpc.HealthStub(service.channel)
        # While they all begin at once, a client may have to come again.
        until(lambda: not failed(lambda: stub.Check(health_pb2.HealthCheckRequest(), timeout=20)))
        until(lambda: not failed(lambda: service.ServerLive(timeout=20)))
        until(lambda: not failed(lambda: service.ModelInfer(images_request(photo), timeout=20)))


def failed(ask: Callable[[], Any]) -> str:
    """Details of the error of a call; empty where it is answered."""
    try:
        ask()
    except grpc.RpcError as error:
        return str(error.details())
    return ""


def test_only_so_many_calls_of_reflection_are_open(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFLECTIONS", len(REFLECTION))  # one of each version
    ask = service.channel.stream_stream(f"/{REFLECTION[0]}/ServerReflectionInfo")
    listing = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    never = threading.Event()

    def one_question() -> Iterator[bytes]:
        yield listing
        never.wait()

    first = ask(one_question(), timeout=60)
    assert next(first)
    with pytest.raises(grpc.RpcError) as refused:
        next(ask(iter([listing]), timeout=20))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert health(service, SERVICE) == SERVING
    never.set()
    assert list(first) == []


@pytest.mark.parametrize("version", REFLECTION)
def test_reflection_tells_all_that_a_client_needs(service: Service, version: str) -> None:
    """From reflection alone a client makes a request and reads its answer."""
    kind = reflection_pb2.ServerReflectionRequest
    ask = service.channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=kind.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    listed, ours, theirs, none = ask(
        iter(
            [
                kind(list_services=""),
                kind(file_containing_symbol=SERVICE),
                kind(file_containing_symbol="grpc.health.v1.Health"),
                kind(file_containing_symbol="nobody.Knows"),
            ]
        ),
        timeout=20,
    )
    names = {one.name for one in listed.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", *REFLECTION}
    assert theirs.file_descriptor_response.file_descriptor_proto
    assert none.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    pool = descriptor_pool.DescriptorPool()
    for data in ours.file_descriptor_response.file_descriptor_proto:
        pool.Add(FileDescriptorProto.FromString(data))
    method = pool.FindServiceByName(SERVICE).methods_by_name["ServerMetadata"]
    asked, told = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = service.channel.unary_unary(
        f"/{SERVICE}/ServerMetadata", asked.SerializeToString, told.FromString
    )
    assert call(asked(), timeout=20).name == "seatrial"


def test_silent_connections_are_closed_after_a_time(serving: Running) -> None:
    """And not before: their first call may be on the way."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", serving.grpc_port), timeout=30) as one:
        while one.recv(4096):
            pass
    assert time.monotonic() - began >= 0.99 * HEADER_S  # gRPC counts in milliseconds


def test_what_is_no_http2_is_closed(serving: Running) -> None:
    with socket.create_connection(("127.0.0.1", serving.grpc_port), timeout=30) as one:
        one.sendall(b"GET /detect HTTP/1.1\r\nHost: x\r\n\r\n")
        while one.recv(4096):
            pass
    with calls(serving.grpc_port) as service:
        assert service.ServerLive(wait_for_ready=True).live


def test_long_metadata_is_refused(service: Service) -> None:
    status, _, _ = failure(service.ServerLive, metadata=(("x-long", "x" * 40_000),))
    assert status == "RESOURCE_EXHAUSTED"


def test_a_taken_port_is_an_error(tiny_artifact: Artifact, serving: Running) -> None:
    async def serve(port: int) -> None:
        deployment = Deployment("tiny", server=Server(grpc_port=port))
        async with grpc_server(deployment, serving.app.state.serving, 10):
            pass

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            asyncio.run(serve(port))


def test_the_drain_answers_what_runs_and_takes_no_more(
    tiny_artifact: Artifact, files: list[bytes], until: Callable[..., Any]
) -> None:
    with (
        serve_application(tiny_artifact, Limits(drain_s=20, deadline_s=30.0), grpc=True) as serving,
        calls(serving.grpc_port) as service,
    ):
        stub = health_pb2_grpc.HealthStub(service.channel)
        told = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(told).status == SERVING
        with serving.lanes_held():
            running = service.ModelInfer.future(images_request(files[0]))
            until(lambda: serving.detector.lanes.waiting == 1)
            serving.service.health.draining = True
            assert next(told).status == NOT_SERVING
            with pytest.raises(grpc.RpcError) as ended:  # watchers do not hold up the end
                next(told)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            with calls(serving.grpc_port) as late:
                assert failure(late.ServerLive)[0] == "UNAVAILABLE"
            assert not running.done()
        assert tensors(running.result())["counts"].tolist() == [2]


def test_a_look_at_the_health_that_fails_does_not_keep_it_from_the_drain(
    tiny_artifact: Artifact, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with serve_application(tiny_artifact, grpc=True) as serving, calls(serving.grpc_port) as first:
        state = serving.service.health

        def fails() -> str:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(state, "unready", fails)
            until(lambda: "ZeroDivisionError" in caplog.text)
        usable, state.usable_lanes = state.usable_lanes, lambda: 0
        until(lambda: health(first) == NOT_SERVING)
        state.usable_lanes = usable
        until(lambda: health(first) == SERVING)
        monkeypatch.setattr(state, "unready", fails)
        state.draining = True

        def refused() -> bool:
            with calls(serving.grpc_port) as late:
                try:
                    late.ServerLive()
                except grpc.RpcError as error:
                    return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
            return False

        until(refused)


def test_a_service_with_tokens_asks_for_one(tiny_artifact: Artifact, tmp_path: Path) -> None:
    """For all but health, as over HTTP."""
    (tmp_path / "tokens").write_text("a-token-of-sixteen-characters-or-more\n")
    server = Server(token_file=str(tmp_path / "tokens"))
    known = (("authorization", "Bearer a-token-of-sixteen-characters-or-more"),)
    unknown = (("authorization", "Bearer another-token-of-sixteen-characters"),)
    with (
        serve_application(tiny_artifact, grpc=True, server=server) as serving,
        calls(serving.grpc_port) as service,
    ):
        assert health(service, SERVICE) == SERVING
        assert service.ServerLive(metadata=known).live
        for name in ("ServerLive", "ModelInfer", "ModelStatistics"):
            for metadata in ((), unknown):
                status, details, found = failure(getattr(service, name), metadata=metadata)
                assert (status, found["x-error-code"]) == ("UNAUTHENTICATED", "Unauthorized")
                assert "Authorization: Bearer TOKEN" in details
        status, _, _ = failure(service.ModelInfer, metadata=known)
        assert status == "NOT_FOUND"
        reflect = service.channel.stream_stream(f"/{REFLECTION[0]}/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as refused:
            next(reflect(iter([b""]), timeout=20))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("early", [False, True])
def test_pings_on_a_connection_without_calls(
    serving: Running, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As clients with keep-alive send them; gRPC's own default ends the connection at the third."""
    often = 0.2
    monkeypatch.setattr(module, "PING_S", 1000 * often if early else often / 2)

    async def serve() -> bool:
        deployment = Deployment("tiny", server=Server(grpc_port=0))
        async with grpc_server(deployment, serving.app.state.serving, 10) as port:
            return await asyncio.to_thread(are_answered, port)

    def are_answered(port: int) -> bool:
        with (
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
            socket.create_connection(("127.0.0.1", port), timeout=30) as one,
        ):
            one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, b""))
            for number in range(8):
                ping, got = bytes(7) + bytes([number]), b""
                one.sendall(frame(PING, ping))
                while ping not in got:
                    got += (read := one.recv(4096))
                    if not read or b"too_many_pings" in got:
                        return False
                time.sleep(often)
            return True
        return False

    assert asyncio.run(serve()) == (not early)


SETTINGS, PING = 4, 6


def frame(kind: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 on the connection itself (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind]) + bytes(5) + payload
