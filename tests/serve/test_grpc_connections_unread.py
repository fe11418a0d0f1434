"""Answers of the gRPC server that nobody takes: of calls, of streams, of those who watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

import raw_http2
from grpc_calls import (
    LIVE,
    LIVE_REQUEST,
    NOT_SERVING,
    SERVING,
    WATCH,
    WATCH_REQUEST,
    Service,
    calls,
    images_request,
    stream,
    tensors,
)  # fmt: skip
from seatrial.client.inference_messages import (
    INFER,
    SERVICE,
    STREAM,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from seatrial.deployment import Limits
from seatrial.serve import grpc_connections
from seatrial.serve.grpc_server import REFLECTION, REFLECTIONS, WATCHERS
from served_application import Running

STREAMS = 2
LONG = 2**22  # bytes of a long answer
REFLECT = f"/{REFLECTION[0]}/ServerReflectionInfo"
LISTING = reflection_pb2.ServerReflectionRequest(list_services="all").SerializeToString()

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def impatient(run_app: Callable[..., Any]) -> Iterator[Running]:
    """One whose clients have a second to take an answer."""
    limits = Limits(
        header_s=50.0, idle_s=1.0, deadline_s=50.0, longest_deadline_s=50.0,
        body_bytes=2**18, bytes_in_flight=2 * STREAMS * 2**18,
    )  # fmt: skip
    with run_app(limits, grpc=True) as served:
        yield served


def details(ask: Callable[[], Any]) -> str:
    """Details of the error of a call; empty where it is answered."""
    try:
        ask()
    except grpc.RpcError as error:
        return str(error.details())
    return ""


@pytest.mark.parametrize(
    ("path", "message", "count", "last"),
    [
        (LIVE, LIVE_REQUEST, 1, True), (INFER, None, 1, True), (STREAM, None, STREAMS, True),
        (STREAM, None, STREAMS, False), (WATCH, WATCH_REQUEST, WATCHERS, True),
        (REFLECT, LISTING, REFLECTIONS // len(REFLECTION), False),
    ],
)  # fmt: skip
def test_a_client_that_takes_no_answer_is_ended_and_its_places_are_free(
    impatient: Running, path: str, message: bytes | None, count: int, last: bool,
    photo: bytes, ended_for: Callable[[str], float], until: Callable[..., Any],
) -> None:  # fmt: skip
    """It is there, answers pings, and lets HTTP/2 send no byte of an answer."""
    before = ended_for("answer")
    message = message or images_request(photo).SerializeToString()
    streams = range(1, 2 * count, 2)
    with raw_http2.begin(impatient.grpc_port, window=0) as client:
        raw_http2.call(client, path, streams, message, last=last)
        for kind, _, _, payload in raw_http2.frames(client):
            assert kind != raw_http2.DATA or not payload
    until(lambda: ended_for("answer") == before + 1)

    def answered() -> bool:
        with calls(impatient.grpc_port) as service:
            sent = service.channel.stream_stream(path)(iter([message]), timeout=20)
            try:
                return bool(next(sent))
            except grpc.RpcError:
                return False
            finally:
                sent.cancel()

    until(answered)


def test_a_client_that_reads_late_gets_its_answer(
    run_app: Callable[..., Any], until: Callable[..., Any]
) -> None:
    with (
        run_app(Limits(header_s=50.0), grpc=True) as serving,
        raw_http2.begin(serving.grpc_port, window=0) as client,
    ):
        raw_http2.call(client, WATCH, [1], WATCH_REQUEST)
        raw_http2.await_begin(client)
        for _ in range(2):  # they are looked at meanwhile
            with raw_http2.silent(serving.grpc_port, 1):
                until(lambda: serving.grpc_connections == 2)
            until(lambda: serving.grpc_connections == 1)
        client.sendall(raw_http2.settings(window=2**15))
        assert any(kind == raw_http2.DATA for kind, *_ in raw_http2.frames(client))


def test_who_reads_is_left_alone_however_long_a_call_takes(
    impatient: Running, photo: bytes
) -> None:
    health = impatient.service.health
    with calls(impatient.grpc_port) as service:
        stub = health_pb2_grpc.HealthStub(service.channel)
        told = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(told).status == SERVING
        with impatient.lanes_held():
            running = service.ModelInfer.future(images_request(photo), timeout=50)
            # As long as it takes until one that came later is ended.
            with raw_http2.begin(impatient.grpc_port, window=0) as client:
                raw_http2.call(client, LIVE, [1], LIVE_REQUEST)
                assert list(raw_http2.frames(client))
            assert not running.done()
        assert tensors(running.result())["counts"].tolist() == [1]
        usable, health.usable_lanes = health.usable_lanes, lambda: 0
        try:
            assert next(told).status == NOT_SERVING
        finally:
            health.usable_lanes = usable
        assert next(told).status == SERVING
        told.cancel()


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_answers_that_nobody_reads_do_not_fill_the_memory(
    run_app: Callable[..., Any], path: str, photo: bytes, monkeypatch: pytest.MonkeyPatch,
    ended_for: Callable[[str], float], until: Callable[..., Any], metric: Callable[..., float],
) -> None:  # fmt: skip
    """Whoever has not read for longest goes for a call of another, long before its time is over."""
    request = images_request(photo)
    make_answers_long(monkeypatch)
    # More than one answer: the end of a call may be noted after its client has read it.
    limits = Limits(body_bytes=2**20, bytes_in_flight=LONG + LONG // 2)

    def made() -> float:
        return metric("seatrial_requests_total", route=path, code="200")

    with (
        run_app(limits, grpc=True) as served,
        calls(served.grpc_port) as service,
        raw_http2.begin(served.grpc_port, window=0) as watching,
        raw_http2.begin(served.grpc_port, window=0) as client,
    ):
        before, answers = ended_for("answer"), made()
        # One without bytes has waited for longer, and its end would not help.
        raw_http2.call(watching, WATCH, [1], WATCH_REQUEST)
        raw_http2.await_begin(watching)
        raw_http2.call(client, path, [1, 3], request.SerializeToString())
        until(lambda: made() == answers + 2)

        def ended() -> bool:
            refusal = details(lambda: service.ModelInfer(request))
            assert not refusal or "do not read" in refusal
            return raw_http2.is_closed(client)

        until(ended)
        for _ in range(3):  # answers that are read leave nothing behind
            until(lambda: details(lambda: service.ModelInfer(request)) == "")
        assert ended_for("answer") == before + 1
        assert not raw_http2.is_closed(watching)


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_answers_that_wait_in_a_stream_count_from_the_moment_they_are_made(
    run_app: Callable[..., Any], path: str, photo: bytes, monkeypatch: pytest.MonkeyPatch,
    ended_for: Callable[[str], float], until: Callable[..., Any], metric: Callable[..., float],
) -> None:  # fmt: skip
    """One is being written and does not fill the memory; the one behind it does."""
    request = images_request(photo)
    make_answers_long(monkeypatch)

    def made() -> float:
        return metric("seatrial_requests_total", route=STREAM, code="200")

    def refusal(service: Service) -> str:
        if path == INFER:
            return details(lambda: service.ModelInfer(request))
        (answer,) = stream(service, [request])
        return str(answer.error_message)

    with (
        run_app(Limits(body_bytes=2**20, bytes_in_flight=2 * LONG), grpc=True) as served,
        calls(served.grpc_port) as service,
        raw_http2.begin(served.grpc_port, window=0) as client,
    ):
        ended, answers = ended_for("answer"), made()
        raw_http2.call(client, STREAM, [1], request.SerializeToString(), last=False)
        raw_http2.send(client, 1, request.SerializeToString())
        until(lambda: made() == answers + 2)

        def answered() -> bool:
            refused = refusal(service)
            assert not refused or "do not read" in refused
            return not refused

        until(answered)  # not before the client that takes nothing is gone
        assert ended_for("answer") == ended + 1
        until(lambda: raw_http2.is_closed(client))
        assert refusal(service) == ""


def test_with_a_connection_go_the_answers_that_its_other_streams_keep(
    run_app: Callable[..., Any], photo: bytes, monkeypatch: pytest.MonkeyPatch,
    ended_for: Callable[[str], float], until: Callable[..., Any], metric: Callable[..., float],
) -> None:  # fmt: skip
    """At once: or the client that has waited next longest would be ended for them as well."""
    request = images_request(photo)
    sent, failures = request.SerializeToString(), list[bytes]()
    make_answers_long(monkeypatch)

    def write_error(*_: Any) -> bytes:
        failures.append(bytes(2 * LONG))
        return failures[-1]

    monkeypatch.setattr("seatrial.serve.protocols.inference_stream.write_stream_error", write_error)
    monkeypatch.setattr(grpc_connections, "GIVES_WAY_S", 0.0)

    def made() -> float:
        return metric("seatrial_requests_total", route=INFER, code="200")

    limits = Limits(body_bytes=2**20, bytes_in_flight=2 * LONG + LONG // 2)
    with (
        run_app(limits, grpc=True) as served,
        calls(served.grpc_port) as service,
        raw_http2.begin(served.grpc_port, window=0) as first,
        raw_http2.begin(served.grpc_port, window=0) as second,
    ):
        before, answers = ended_for("answer"), made()
        for number, client in enumerate((first, second), 1):
            raw_http2.call(client, INFER, [1], sent)
            until(lambda number=number: made() == answers + number)
        with served.lanes_held():
            raw_http2.call(first, STREAM, [3], sent, last=False)
            raw_http2.send(first, 3, b"no message")  # its answer waits for that of the one before
            until(lambda: failures)
            third = service.ModelInfer.future(request, timeout=50)
            until(lambda: ended_for("answer") > before)
        assert third.result().raw_output_contents
        until(lambda: raw_http2.is_closed(first))
        assert not raw_http2.is_closed(second)
        assert ended_for("answer") == before + 1


def make_answers_long(monkeypatch: pytest.MonkeyPatch) -> None:
    long = ModelInferResponse(raw_output_contents=[bytes(LONG)])
    in_stream = ModelStreamInferResponse(infer_response=long)
    for name, told in (("grpc.write_answer", long), ("stream.write_stream_answer", in_stream)):
        data = told.SerializeToString()
        monkeypatch.setattr(
            f"seatrial.serve.protocols.inference_{name}", lambda *_, data=data: data
        )
