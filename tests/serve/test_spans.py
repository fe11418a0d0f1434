"""Spans of requests: their names, parents and stages, as a collector gets them over HTTP."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest

import local_http
from grpc_calls import calls, failure, images_request, stream
from seatrial.client.inference_messages import INFER, STREAM
from seatrial.detect.clock import REQUEST_STAGES, SEND
from seatrial.errors import InvalidConfig, MissingExtra
from seatrial.serve.process import ServiceProcess
from seatrial.serve.spans import Spans, wanted

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
Start = Callable[..., ServiceProcess]

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="seatrial[otel] is not installed")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        (ON, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**ON, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ON, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**ON, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({**ON, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
    ],
)
def test_the_usual_variables_ask_for_traces(environment: dict[str, str], expected: bool) -> None:
    assert wanted(environment) is expected


@pytest.mark.parametrize(
    "more", [{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, {"OTEL_TRACES_EXPORTER": "zipkin"}]
)
def test_another_way_out_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="http/protobuf"):
        wanted({**ON, **more})


def test_a_way_out_whose_package_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc", None)
    with pytest.raises(MissingExtra) as missing:
        Spans({}, protocol="grpc")
    assert "pip install opentelemetry-exporter-otlp-proto-grpc" in missing.value.hint
    assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf" in missing.value.hint


@pytest.fixture
def memory(run_app: Callable[..., Any]) -> Iterator[tuple[Any, Any]]:
    """A running application, and what exports its spans."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    spans = Spans({"service.name": "seatrial"}, SimpleSpanProcessor(exporter))
    with run_app(engine="null", spans=spans) as running:
        yield running, exporter


def finished(exporter: Any, until: Callable[..., Any]) -> list[Any]:
    """The spans of one request that was recorded: its own is the last of them."""

    def is_there() -> bool:
        return any(span.kind.name == "SERVER" for span in exporter.get_finished_spans())

    until(is_there)
    return list(exporter.get_finished_spans())


def test_a_request_is_a_span_of_its_caller_with_its_stages_inside(
    memory: Any, photo: bytes, until: Callable[..., Any]
) -> None:
    running, exporter = memory
    began_ns, slack_ns = time.time_ns(), 10**9  # somebody may set the clock
    answer = running.client.post(
        "/detect",
        content=photo,
        headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1, b=2"},
    )
    spans = finished(exporter, until)
    server, stages = spans[-1], spans[:-1]
    assert server.name == "POST /detect"
    assert f"{server.context.trace_id:032x}" == TRACE
    assert f"{server.parent.span_id:016x}" == SPAN
    assert dict(server.context.trace_state) == {"a": "1", "b": "2"}
    assert answer.headers["tracestate"] == "a=1,b=2"
    # The answer's header names the span itself.
    assert answer.headers["traceparent"] == f"00-{TRACE}-{server.context.span_id:016x}-01"
    assert {span.name for span in stages} == {*REQUEST_STAGES, SEND}
    assert {span.parent.span_id for span in stages} == {server.context.span_id}
    # One after the other, without gaps, from the first moment of the request to its last.
    assert stages[0].start_time == server.start_time
    for before, after in itertools.pairwise(stages):
        assert before.end_time == after.start_time
    assert stages[-1].end_time == server.end_time
    assert began_ns - slack_ns < server.start_time < server.end_time < time.time_ns() + slack_ns
    assert server.attributes["http.route"] == "/detect"
    assert server.attributes["http.response.status_code"] == 200


def test_a_trace_that_its_caller_does_not_record_is_not_recorded(
    memory: Any, photo: bytes, until: Callable[..., Any]
) -> None:
    running, exporter = memory
    for flags in ("00", "01"):
        running.client.post(
            "/detect", content=photo, headers={"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}
        )
    spans = finished(exporter, until)
    assert [span.name for span in spans if span.kind.name == "SERVER"] == ["POST /detect"]
    # All are of one request: the second.
    assert {span.context.trace_id for span in spans} == {int(TRACE, 16)}
    assert {span.parent.span_id for span in spans[:-1]} == {spans[-1].context.span_id}


def test_a_fault_of_the_service_is_an_error_and_what_a_client_sent_is_none(
    memory: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, exporter = memory
    for path in ("/detect", "/nothing"):
        exporter.clear()
        running.client.post(path, content=b"hello")
        assert finished(exporter, until)[-1].status.status_code.name == "UNSET"
    exporter.clear()
    monkeypatch.setattr("seatrial.serve.app.read_image", lambda *given: 1 // 0)
    running.client.post("/detect", content=b"hello")
    fault = finished(exporter, until)[-1]
    assert fault.status.status_code.name == "ERROR"
    assert fault.attributes["http.response.status_code"] == 500
    assert fault.attributes["error.type"] == "InternalError"


def test_one_that_begins_here_says_that_it_is_recorded(
    memory: Any, until: Callable[..., Any]
) -> None:
    running, exporter = memory
    answer = running.client.post("/detect", content=b"hello")
    _, trace, span, flags = answer.headers["traceparent"].split("-")
    assert flags == "01"
    server = finished(exporter, until)[-1]
    assert (f"{server.context.trace_id:032x}", f"{server.context.span_id:016x}") == (trace, span)
    assert server.parent is None
    assert server.attributes["error.type"] == "UnsupportedImage"


def test_requests_over_grpc_are_spans_as_well(
    run_app: Callable[..., Any], photo: bytes, until: Callable[..., Any]
) -> None:
    """A call, and each request of a stream; one that failed too."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    spans = Spans({"service.name": "seatrial"}, SimpleSpanProcessor(exporter))

    def served() -> list[Any]:
        return [span for span in exporter.get_finished_spans() if span.kind.name == "SERVER"]

    parent = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
    with (
        run_app(engine="null", spans=spans, grpc=True) as running,
        calls(running.grpc_port) as service,
    ):
        service.ModelInfer(images_request(photo), metadata=parent)
        until(lambda: len(served()) == 1)
        assert failure(service.ModelInfer, images_request(b"x"), metadata=parent)
        until(lambda: len(served()) == 2)
        assert len([*stream(service, [images_request(photo)] * 2, metadata=parent)]) == 2
        until(lambda: len(served()) == 4)
    unary, failed, *streamed = served()
    assert (unary.name, failed.name) == (f"POST {INFER}",) * 2
    assert [span.name for span in streamed] == [f"POST {STREAM}"] * 2
    assert failed.attributes["error.type"] == "UnsupportedImage"
    for span in (unary, *streamed):
        assert span.attributes["http.response.status_code"] == 200
        assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
        inside = [
            one for one in exporter.get_finished_spans()
            if one.parent is not None and one.parent.span_id == span.context.span_id
        ]  # fmt: skip
        assert {one.name for one in inside} == {*REQUEST_STAGES, SEND}


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """The address of a collector of OTLP over HTTP, and the requests that it has decoded."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/x-protobuf"
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


@pytest.fixture
def grpc_collector() -> Iterator[tuple[str, list[Any]]]:
    """The same over gRPC."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    received: list[Any] = []
    path = "opentelemetry.proto.collector.trace.v1.TraceService"

    def export(request: Any, context: Any) -> Any:
        received.append((path, request))
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(path, {"Export": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", received
    server.stop(None)


@pytest.mark.slow
@pytest.mark.usefixtures("time_limit")
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_collector_gets_the_spans_of_a_service(
    start_service: Start, photo: bytes, request: pytest.FixtureRequest, protocol: str
) -> None:
    if protocol == "grpc":
        pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")
    name, where = {
        "grpc": ("grpc_collector", "opentelemetry.proto.collector.trace.v1.TraceService"),
        "http/protobuf": ("collector", "/v1/traces"),
    }[protocol]
    address, received = request.getfixturevalue(name)
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SERVICE_NAME": "harbour",
    }
    parent = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1"}
    with start_service(engine="null", runtime="uvicorn", env=env) as service:
        answer = local_http.post(f"{service.url}/detect", content=photo, timeout=20, headers=parent)
        assert answer.status_code == 200
    path, exported = received[-1]  # at the end, if not before
    assert path == where
    (resource,) = exported.resource_spans
    told = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert told["service.name"] == "harbour"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    (server,) = (span for span in spans if span.name == "POST /detect")
    trace, span = answer.headers["traceparent"].split("-")[1:3]
    assert (server.trace_id.hex(), server.span_id.hex()) == (trace, span)
    assert (server.parent_span_id.hex(), server.trace_state) == (SPAN, "a=1")
    stages = {one.name for one in spans if one.parent_span_id == server.span_id}
    assert stages == {*REQUEST_STAGES, SEND}


def test_where_it_is_off_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, seatrial.serve.runtimes.served\n"
        "print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
