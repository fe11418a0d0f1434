"""Spans of requests: their names, parents and stages, as a collector gets them over HTTP."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import local_http
from seatrial.detect.clock import REQUEST_STAGES, SEND
from seatrial.errors import InvalidConfig
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
    ],
)
def test_the_usual_variables_ask_for_traces(environment: dict[str, str], expected: bool) -> None:
    assert wanted(environment) is expected


@pytest.mark.parametrize(
    "more", [{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"OTEL_TRACES_EXPORTER": "zipkin"}]
)
def test_another_way_out_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(InvalidConfig, match="http/protobuf"):
        wanted({**ON, **more})


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
        "/detect", content=photo, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}
    )
    spans = finished(exporter, until)
    server, stages = spans[-1], spans[:-1]
    assert server.name == "POST /detect"
    assert f"{server.context.trace_id:032x}" == TRACE
    assert f"{server.parent.span_id:016x}" == SPAN
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


@pytest.mark.slow
@pytest.mark.usefixtures("time_limit")
def test_a_collector_gets_the_spans_of_a_service(
    start_service: Start, photo: bytes, collector: tuple[str, list[Any]]
) -> None:
    address, received = collector
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_SERVICE_NAME": "harbour"}
    with start_service(engine="null", runtime="uvicorn", env=env) as service:
        answer = local_http.post(f"{service.url}/detect", content=photo, timeout=20)
        assert answer.status_code == 200
    path, request = received[-1]  # at the end, if not before
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    told = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert told["service.name"] == "harbour"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    (server,) = (span for span in spans if span.name == "POST /detect")
    trace, span = answer.headers["traceparent"].split("-")[1:3]
    assert (server.trace_id.hex(), server.span_id.hex()) == (trace, span)
    stages = {one.name for one in spans if one.parent_span_id == server.span_id}
    assert stages == {*REQUEST_STAGES, SEND}


def test_where_it_is_off_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, seatrial.serve.runtimes.served\n"
        "print(*[name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
