"""Around every method of the gRPC server: names of calls, tokens, and errors as statuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

import grpc
from starlette.types import Scope

from seatrial.errors import Overloaded, SeatrialError, ServiceFailed, shortened
from seatrial.serve.grpc_connections import GrpcConnections
from seatrial.serve.outcome import CLIENT_CLOSED_REQUEST, error_headers
from seatrial.serve.protocols.error_answers import OTHER_ROUTE
from seatrial.serve.request_log import FAULT_CODE, log_fault, log_refusal
from seatrial.serve.serving import Serving
from seatrial.serve.trace_context import Trace, current_trace, traced

# Characters of a message of an error: clients take 8 KiB of metadata, and escape what is not ASCII.
MOST_DETAILS = 1000
FAULT = "the server failed; see the server's log"  # what clients are told of a fault of ours
Messages = AsyncIterator[bytes]
Context = Any  # grpc.aio.ServicerContext
Method = Callable[[Messages, Context], Awaitable[Any]]


def call_headers(context: Context) -> list[tuple[bytes, bytes]]:
    """The metadata of a call as headers over HTTP are."""
    return [
        (name.encode(), text.encode() if isinstance(text, str) else text)
        for name, text in context.invocation_metadata()
    ]


def metadata_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Headers over HTTP as metadata of a call."""
    return tuple((name.decode(), text.decode()) for name, text in headers)


def guarded(serving: Serving, path: str, method: Method) -> Method:
    """A method that only callers with a token reach, where the service has tokens.

    Args:
        serving: Holds the tokens.
        path: Path of the method.
        method: Answers.
    """

    async def checked(messages: Messages, context: Context) -> Any:
        if serving.tokens.required:
            try:
                serving.tokens.check(path, call_headers(context))
            except SeatrialError as error:
                serving.metrics.count(OTHER_ROUTE, error.http_status)
                trace = current_trace.get() or Trace()
                log_refusal(trace, error.http_status, error.code, error.message, OTHER_ROUTE)
                raise
        return await method(messages, context)

    return checked


async def answered(
    connections: GrpcConnections, path: str, method: Method, messages: Messages, context: Context
) -> Any:
    """The answer of a method; an error becomes the status of its kind.

    Args:
        connections: Watches over the call, and over its client's taking the answer.
        path: Path of the method.
        method: Answers.
        messages: The messages of the call, not parsed.
        context: The call.
    """
    trace = Trace(call_headers(context))
    connections.begin(context)
    try:
        with traced(trace):
            answer = await method(messages, context)
        connections.gives(context, answer)
        return answer
    except SeatrialError as error:
        failed = (grpc.StatusCode[error.grpc_status], error_text(error))
        metadata = error_metadata(error)
    except grpc.aio.BaseError:  # a method of a library ended the call
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the client has to be told
        with traced(trace):
            log_fault({"method": "POST", "path": path}, error)
        failed = (grpc.StatusCode.INTERNAL, FAULT)
        metadata = ()
    connections.gives(context)
    try:
        await context.abort(*failed, trailing_metadata=(*metadata, *metadata_of(trace.headers())))
    except grpc.aio.InternalError:  # gRPC has ended the call: its message was too long
        raise asyncio.CancelledError from None


async def until_the_end(ending: asyncio.Event, streaming: Coroutine[Any, Any, None]) -> None:
    """Answer a call that its client ends, or the end of the process.

    Raises:
        ServiceFailed: The process ends.
    """
    tasks = asyncio.ensure_future(streaming), asyncio.ensure_future(ending.wait())
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0] not in done:
            raise ServiceFailed("the process ends", hint="try again: another one takes its place")
        await tasks[0]
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def report_call(
    serving: Serving, scope: Scope, trace: Trace | None, outcome: int | BaseException, size: int = 0
) -> None:
    """Report a request that has its answer, to the log and to a tracer as requests over HTTP are.

    Args:
        serving: Knows who is told.
        scope: Its client, method and path.
        trace: The request; None is not reported.
        outcome: Its status as over HTTP, or what was raised.
        size: Bytes of its answer.
    """
    if trace is None or not serving.reports:
        return
    if isinstance(outcome, SeatrialError):
        status = outcome.http_status
    elif isinstance(outcome, BaseException):
        left = isinstance(outcome, asyncio.CancelledError)
        status = CLIENT_CLOSED_REQUEST if left else 500
        if not left:
            trace.code = trace.code or FAULT_CODE
    else:
        status = outcome
    for report in serving.reports:
        report(scope, trace, status, size)


def error_text(error: SeatrialError) -> str:
    """The words for a client: what was wrong, and what to do."""
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    return shortened(text, MOST_DETAILS)


def error_metadata(error: SeatrialError) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of an error: its name, and when to try again, for clients that do so."""
    found = {"x-error-code": error.code}
    if isinstance(error, Overloaded):
        headers = {name.lower(): value for name, value in error_headers(error).items()}
        # The key that retries of gRPC's own obey (gRFC A6).
        pushback = {"grpc-retry-pushback-ms": f"{headers['retry-after']}000"}
        found |= {"x-refused-for": error.reason, **headers, **pushback}
    return tuple(found.items())
