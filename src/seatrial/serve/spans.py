"""Requests as OpenTelemetry spans, with their stages as spans inside; the extra ``otel``.

Spans are made when a request has its answer, from the times that its clock has anyway: while it
runs, tracing costs nothing. They carry the names that the request was given at its arrival.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from seatrial.detect.clock import SEND
from seatrial.errors import InvalidConfig, MissingExtra
from seatrial.serve.trace_context import SAMPLED, Trace, roots
from seatrial.system.extras import install_command

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

# OpenTelemetry's own settings, of which any asks for traces.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER, DISABLED = "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP, GRPC = "http/protobuf", "grpc"  # ways to a collector; the second needs a package of its own
GRPC_PACKAGE = "opentelemetry-exporter-otlp-proto-grpc"
FLUSH_MS = 2000


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces.

    Raises:
        InvalidConfig: It asks for a way to export them that is not offered.
    """
    if environment.get(DISABLED, "").lower() == "true":
        return False
    exporter = environment.get(EXPORTER, "")
    if exporter == "none" or not (exporter or any(environment.get(name) for name in ENDPOINTS)):
        return False
    protocol = protocol_of(environment)
    if exporter not in ("", "otlp") or protocol not in (HTTP, GRPC):
        raise InvalidConfig(
            f"traces are exported by otlp over {HTTP} or {GRPC}, not by {exporter or 'otlp'} over "
            f"{protocol}",
            hint=f"set {EXPORTER}=otlp and {PROTOCOLS[0]}={HTTP}, or {DISABLED}=true",
        )
    return True


def protocol_of(environment: Mapping[str, str]) -> str:
    """The way to the collector that the environment names; `HTTP` where it names none."""
    return next((environment[name] for name in PROTOCOLS if environment.get(name)), HTTP)


class Spans:
    """Makes spans of requests, and exports them from a thread of its own.

    Args:
        attributes: Names of OpenTelemetry's conventions -> values, for the service itself. The
            variables ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` override them.
        processor: Takes the spans; None exports them as the environment says.
        protocol: The way to the collector, where there is no `processor`: see `protocol_of`.

    Raises:
        MissingExtra: The packages are not installed.
    """

    def __init__(
        self,
        attributes: Mapping[str, str],
        processor: SpanProcessor | None = None,
        protocol: str = HTTP,
    ) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        except ModuleNotFoundError as error:
            raise _missing(error, install_command("otel")) from error
        processor = processor or _exporting(protocol)

        class Given(RandomIdGenerator):
            """Gives the ids of the request that is being reported."""

            trace_id = span_id = 0

            def generate_trace_id(self) -> int:
                return self.trace_id

            def generate_span_id(self) -> int:
                given, self.span_id = self.span_id, 0
                return given or super().generate_span_id()

        self._ids = Given()
        self._api: Any = trace
        resource = Resource(dict(attributes)).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("seatrial")
        sampler = self._provider.sampler

        def sampled(trace_id: str) -> bool:
            decision: Any = sampler.should_sample(None, int(trace_id, 16), "").decision
            return bool(decision.is_sampled())

        roots.decide = sampled

    def __call__(self, scope: Scope, trace: Trace, status: int, size: int) -> None:
        """Report a request that has its answer; on the event loop."""
        end = time.perf_counter()
        since_1970_ns = time.time_ns() - int(end * 1e9)

        def moment(at: float) -> int:
            return since_1970_ns + int(at * 1e9)

        api = self._api
        self._ids.trace_id, self._ids.span_id = int(trace.trace_id, 16), int(trace.span_id, 16)
        span = self._tracer.start_span(
            f"{scope['method']} {trace.route}".rstrip(),
            context=self._parent(trace),
            kind=api.SpanKind.SERVER,
            start_time=moment(trace.began),
            attributes={
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "http.response.status_code": status,
                "http.response.body.size": size,
                "seatrial.request_id": trace.request_id,
                **({"http.route": trace.route} if trace.route else {}),
                **({"error.type": trace.code} if trace.code else {}),
            },
        )
        if span.is_recording():
            if status >= 500:
                span.set_status(api.StatusCode.ERROR, trace.message)
            inside, clock = api.set_span_in_context(span), trace.clock
            if clock is not None:
                began = clock.start
                for stage, until in (*clock.laps, (SEND, end)):
                    child = self._tracer.start_span(stage, inside, start_time=moment(began))
                    child.end(moment(until))
                    began = until
        span.end(moment(end))

    def _parent(self, trace: Trace) -> Any:
        """The context of the caller's span; an empty one where there is none."""
        from opentelemetry.context import Context

        if not trace.parent_id:
            return Context()
        api = self._api
        caller = api.SpanContext(
            int(trace.trace_id, 16),
            int(trace.parent_id, 16),
            is_remote=True,
            trace_flags=api.TraceFlags(trace.flags & SAMPLED),
            trace_state=api.TraceState.from_header([trace.state] if trace.state else []),
        )
        return api.set_span_in_context(api.NonRecordingSpan(caller), Context())

    def close(self) -> None:
        """Export what is left, for `FLUSH_MS` at most."""
        roots.decide = None
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


def _exporting(protocol: str) -> SpanProcessor:
    exporter: Any
    try:
        if protocol == GRPC:
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as exporter
        else:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as exporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        own = f"pip install {GRPC_PACKAGE}, or set {PROTOCOLS[0]}={HTTP}"
        raise _missing(error, own if protocol == GRPC else install_command("otel")) from error
    return BatchSpanProcessor(exporter.OTLPSpanExporter())


def _missing(error: ModuleNotFoundError, install: str) -> MissingExtra:
    return MissingExtra(
        f"{error.name} is not installed; it is needed for traces",
        hint=f"{install}, or set {DISABLED}=true",
    )
