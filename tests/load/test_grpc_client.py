"""Requests over gRPC and their records, against a real service in the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import uvloop
from yarl import URL

from certificates import make_certificate
from seatrial.artifact import Artifact
from seatrial.client.credentials import Credentials
from seatrial.client.inference_wire import ModelName
from seatrial.deployment import CoreLayout, Deployment, Limits, Server
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.grpc_client import GrpcSession, bodies, grpc_session
from seatrial.load.images import EncodedImage
from seatrial.load.inference import InferenceModel, InferenceServer, ModelInput
from seatrial.load.run import run_load
from seatrial.load.samples import Reply, Sample
from seatrial.load.target import Body
from seatrial.load.window import Load, Window
from seatrial.serve.address import free_port
from seatrial.serve.grpc_server import grpc_server
from seatrial.serve.serving import Serving
from seatrial.serve.startup import open_service
from served_application import Running, serve_application

SETTINGS = b"\0\0\0\4\0\0\0\0\0"  # an empty frame of HTTP/2, with which a server begins

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def serving(tiny_artifact: Artifact) -> Iterator[Running]:
    with serve_application(tiny_artifact, Limits(queue=4, deadline_s=30.0), grpc=True) as running:
        yield running


@pytest.fixture
def url(serving: Running) -> URL:
    return URL(f"grpc://127.0.0.1:{serving.grpc_port}")


@pytest.fixture
def prepared(photo: bytes) -> list[Body]:
    image = EncodedImage("photo.jpg", photo, "image/jpeg", 128, 128)
    broken = EncodedImage("broken.jpg", b"hello", "image/jpeg", 1, 1)
    return bodies(ModelName("tiny"), ModelInput("image", "BYTES", (-1,)), [image, broken])


def talk(
    url: URL,
    job: Callable[[GrpcSession], Coroutine[Any, Any, Any]],
    *,
    connections: int = 1,
    timeout_s: float = 60.0,
) -> Any:
    async def conversation() -> Any:
        async with grpc_session(url, connections, timeout_s) as session:
            return await job(session)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(conversation())


def test_a_good_exchange_holds_what_was_answered_and_when(url: URL, prepared: list[Body]) -> None:
    before = time.perf_counter_ns()
    sample: Sample = talk(url, lambda session: session.send(prepared[0], before))
    after = time.perf_counter_ns()
    assert (sample.status, sample.error, sample.detections) == (200, "", 1)
    assert sample.timing_ms is not None
    assert {"decode", "infer", "total"} <= sample.timing_ms.keys()
    assert sample.received_bytes > 50
    assert before == sample.due_ns
    assert before <= sample.start_ns < sample.end_ns <= after
    assert sample.latency_ms >= sample.service_ms >= sample.timing_ms["total"] > 0


def test_what_the_service_refuses_has_its_status(url: URL, prepared: list[Body]) -> None:
    sample = talk(url, lambda session: session.send(prepared[1]))
    assert (sample.status, sample.error) == (400, "grpc-invalid-argument")
    assert (sample.detections, sample.timing_ms) == (None, None)
    assert "known formats" in talk(url, lambda session: session.refusal(prepared[1]))


def test_a_server_says_what_it_is_and_has(url: URL) -> None:
    async def job(session: GrpcSession) -> Any:
        server: InferenceServer = session
        return (
            await server.ready(),
            await server.server(),
            await server.models(),
            await server.metadata(ModelName("tiny")),
            await server.metadata(ModelName("tiny", "7")),
        )

    ready, name, models, tiny, unknown = talk(url, job)
    assert (ready.status, name.partition(" ")[0]) == (200, "seatrial")
    assert models == ["tiny", "tiny.graph"]
    inputs = (ModelInput("image", "BYTES", (-1,)),)
    assert tiny == InferenceModel("tiny", "seatrial_onnxruntime", inputs)
    assert isinstance(unknown, Reply)
    assert (unknown.status, b"version" in unknown.payload) == (404, True)


def test_an_overloaded_service_is_no_broken_connection(
    serving: Running, url: URL, prepared: list[Body]
) -> None:
    async def job(session: GrpcSession) -> Sample:
        waiting = [asyncio.create_task(session.send(prepared[0])) for _ in range(3)]
        while serving.detector.lanes.present < 4:
            await asyncio.sleep(0.002)
        refused = await session.send(prepared[0])
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return refused

    with serving.lanes_held():
        sample = talk(url, job, connections=4)
    assert (sample.status, sample.error) == (503, "grpc-unavailable")


def test_a_client_that_gives_up_has_a_timeout(
    serving: Running, url: URL, prepared: list[Body]
) -> None:
    with serving.lanes_held():
        sample = talk(url, lambda session: session.send(prepared[0]), timeout_s=0.2)
    assert (sample.status, sample.error) == (0, "timeout")


def test_nobody_listens(prepared: list[Body]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = URL(f"grpc://127.0.0.1:{free.getsockname()[1]}")

        async def job(session: GrpcSession) -> tuple[Sample, Any]:
            return await session.send(prepared[0]), await session.ask("ServerReady")

        sample, (told, reply) = talk(url, job)
    assert (sample.status, sample.error) == (0, "connect")
    assert (told, reply.status) == (None, 0)
    assert reply.error


def test_a_connection_that_breaks(prepared: list[Body]) -> None:
    """The process on the other side ends in the middle of a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_after_a_request() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(SETTINGS)
                seen = b""
                while b"ModelInfer" not in seen:
                    seen += connection.recv(65536)

        closing = threading.Thread(target=close_after_a_request)
        closing.start()
        url = URL(f"grpc://127.0.0.1:{listener.getsockname()[1]}")
        sample = talk(url, lambda session: session.send(prepared[0]))
        closing.join()
    assert (sample.status, sample.error) == (0, "disconnect")


def test_an_encrypted_service_with_tokens(
    tiny_artifact: Artifact, prepared: list[Body], tmp_path: Path
) -> None:
    made = make_certificate(tmp_path, "service")
    token = "a-token-of-sixteen-characters-or-more"
    (tmp_path / "tokens").write_text(token)
    server = Server(
        token_file=str(tmp_path / "tokens"),
        tls_certificate=str(made.certificate),
        tls_key=str(made.key),
    )
    shown = Credentials(token, made.certificate)

    async def send(url: URL, credentials: Credentials) -> Sample:
        async with grpc_session(url, 1, 30.0, credentials) as session:
            return await session.send(prepared[0])

    with served_over_tls(tiny_artifact, server) as port:
        url = URL(f"grpcs://127.0.0.1:{port}")
        assert asyncio.run(send(url, shown)).detections == 1
        without = asyncio.run(send(url, Credentials(None, made.certificate)))
        assert (without.status, without.error) == (401, "grpc-unauthenticated")
        unknown = asyncio.run(send(url, Credentials(token)))
        assert (unknown.status, unknown.error) == (0, "connect")


@contextlib.contextmanager
def served_over_tls(artifact: Artifact, server: Server) -> Iterator[int]:
    """The gRPC server alone: gives its port."""
    server = msgspec.structs.replace(server, grpc_port=free_port("127.0.0.1"))
    layout = CoreLayout(1, 1, 1, wide=False)
    deployment = Deployment("tiny", engine="onnxruntime", layout=layout, server=server)
    opened = threading.Event()
    loop, end = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        serving = Serving(open_service(artifact, deployment))
        async with grpc_server(deployment, serving, 10):
            opened.set()
            await end.wait()
        serving.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert opened.wait(60)
        assert server.grpc_port is not None
        yield server.grpc_port
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
        loop.close()


def test_requests_take_the_connections_with_the_fewest(
    serving: Running, url: URL, prepared: list[Body]
) -> None:
    """As many connections as sessions: each is a connection of its own at the service."""

    async def job(session: GrpcSession) -> list[int]:
        before = to_the_service(url)
        sending = [asyncio.create_task(session.send(prepared[0])) for _ in range(2)]
        await asyncio.sleep(0)
        under_way = list(session._under_way)
        await asyncio.gather(*sending)
        return [*under_way, *session._under_way, len(to_the_service(url) - before)]

    assert talk(url, job, connections=2) == [1, 1, 0, 0, 2]


def to_the_service(url: URL) -> set[int]:
    """Ports of this process's connections to a service."""
    connections = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in connections if one.raddr and one.raddr.port == url.port}


class Watcher:
    def opened(self) -> None: ...
    def tick(self) -> None: ...
    def closed(self) -> None: ...


def test_a_load_is_put_on_a_service_over_grpc(url: URL, prepared: list[Body]) -> None:
    load = Load(arrivals=ClosedLoop(2), measure_s=60.0, requests=20, warmup_s=0.0)

    def on_tick(window: Window) -> None:
        pass

    async def job() -> Any:
        return await run_load(url, prepared[:1], load, Watcher(), on_tick)

    recording = asyncio.run(job())
    assert recording.ended == "requests"
    assert [one.error for one in recording.samples] == [""] * 20
    assert all(one.detections == 1 for one in recording.samples)
