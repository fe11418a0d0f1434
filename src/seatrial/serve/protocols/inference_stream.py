"""``ModelStreamInfer``: the requests of a client in one call, answered in their order.

Each message is a request of its own: with a ticket, a deadline, an outcome and a name. It is
admitted when its message is here, since nothing of it is known before.

Source: Triton's pages on its gRPC protocol.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from seatrial.client.inference_messages import STREAM
from seatrial.deployment import Limits
from seatrial.detect.clock import Clock
from seatrial.engines.places import Abandoned
from seatrial.errors import InputTooSlow, Overloaded, SeatrialError
from seatrial.serve.grpc_connections import GrpcConnections
from seatrial.serve.outcome import Counted, admitted
from seatrial.serve.protocols.asked import read_call_asked
from seatrial.serve.protocols.call_seats import Seats
from seatrial.serve.protocols.grpc_messages import Reception
from seatrial.serve.protocols.grpc_methods import (
    FAULT,
    Context,
    Messages,
    call_headers,
    error_metadata,
    error_text,
    report_call,
)
from seatrial.serve.protocols.grpc_request import infer_request, open_request
from seatrial.serve.protocols.inference_protobuf import (
    Named,
    read_request,
    write_stream_answer,
    write_stream_error,
)
from seatrial.serve.protocols.off_loop import MOST_BINARY_BYTES, read_off_loop
from seatrial.serve.request_log import log_fault
from seatrial.serve.service import Service
from seatrial.serve.serving import Serving
from seatrial.serve.statistics import DETECTOR
from seatrial.serve.trace_context import Trace, traced

# Metadata with which a client asks for the status of gRPC in place of messages about errors: the
# first error ends its stream.
STRICT = (b"triton_grpc_error", b"true")


# Where streams take all places, the one that has had no answer for longest gives its own up: after
# so many seconds, or fewer where it never had one. One with a request under way does not.
IDLE_S, UNUSED_S = 1.0, 0.25


class StreamAnswer(NamedTuple):
    """A message for the client, its request, and what became of that.

    Attributes:
        message: The message.
        trace: The request.
        outcome: Status of the request as over HTTP, or what it failed of.
        clock: Clock of the request; None where it failed.
    """

    message: bytes
    trace: Trace
    outcome: int | Exception = 200
    clock: Clock | None = None


class _Arrived:
    """A message, until it is parsed; then what its request is called.

    Attributes:
        data: The message; empty once it is parsed.
        named: Names of its request; None where it could not be parsed.
    """

    __slots__ = ("data", "named")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.named: Named | None = None

    def read(self) -> Any:
        """Parse the message; see `read_request`."""
        data, self.data = self.data, b""
        message = read_request(data)
        self.named = Named.of(message)
        return message


class InferenceStreams:
    """The streams of one process.

    Args:
        serving: Holds the service, of which each request takes its own.
        limits: Limits of the deployment.
        bodies: Reads the messages; a stream keeps one of its places.
        most: Largest number of streams.
        ending: Set when the process ends.
        connections: Watches over what their clients do not take.

    Attributes:
        most: The same.
    """

    def __init__(
        self,
        serving: Serving,
        limits: Limits,
        bodies: Reception,
        most: int,
        ending: asyncio.Event,
        connections: GrpcConnections,
    ) -> None:
        self._connections = connections
        self._serving = serving
        self._limits = limits
        self._bodies = bodies
        self.most = most
        self._ending = ending
        self._seats = Seats(
            most,
            "streams",
            "send more requests through fewer streams, or call ModelInfer",
            idle_s=lambda: IDLE_S,
            unused_s=lambda: UNUSED_S,
        )

    async def serve(self, messages: Messages, context: Context) -> None:
        """Answer the requests of one stream.

        Args:
            messages: Its messages, not parsed.
            context: The call.

        Raises:
            Overloaded: There are `most` streams, this one did nothing while others waited for it,
                or the process ends.
            InputTooSlow: No request came for `Limits.idle_s`.
            SeatrialError: A request failed, where the client asks for the status of gRPC.
        """
        async with (
            self._seats.take(context.peer()) as seat,
            self._bodies.place(self._limits.body_s),
        ):
            detector = self._serving.live.dispatcher.detector
            # As many as the service has threads for.
            width = min(2 * detector.at_a_time, self._limits.queue)
            stream = _Stream(
                self._serving, self._limits, self._bodies, self._ending, width, context,
                self._connections, lambda: self._seats.use(seat),
            )  # fmt: skip
            seat.busy = lambda: stream.under_way
            await stream.run(messages)


class _Stream:
    """One stream: reads on while earlier requests are answered, up to a number of them."""

    def __init__(
        self,
        serving: Serving,
        limits: Limits,
        bodies: Reception,
        ending: asyncio.Event,
        width: int,
        context: Context,
        connections: GrpcConnections,
        on_answer: Callable[[], object],
    ) -> None:
        self._connections = connections
        self._on_answer = on_answer
        self._serving = serving
        self._idle_s = limits.idle_s
        self._bodies = bodies
        self._ending = ending
        self._context = context
        self._headers = call_headers(context)
        self._strict = STRICT in [(name, value.lower()) for name, value in self._headers]
        self._scope = {"client": (context.peer(),), "method": "POST", "path": STREAM}
        self._places = asyncio.Semaphore(width)  # of requests whose answers are not sent
        self._answers: asyncio.Queue[asyncio.Task[StreamAnswer] | None] = asyncio.Queue()
        self._under_way: set[asyncio.Task[StreamAnswer]] = set()

    @property
    def under_way(self) -> bool:
        """Whether there is a request of which the client has not taken the answer."""
        return bool(self._under_way)

    async def run(self, messages: Messages) -> None:
        """Answer until the client has sent its last request and has all answers."""
        reading = asyncio.ensure_future(self._read(messages))
        writing = asyncio.ensure_future(self._write())
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_EXCEPTION)
            for one in (reading, writing):
                if one.done():
                    one.result()
        finally:
            tasks: list[asyncio.Task[Any]] = [reading, writing, *self._under_way]
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if reading.result():
            raise Overloaded(
                "the service ends; what was read is answered",
                hint="open a stream to another server, or again in a few seconds",
                reason="drain",
            )

    async def _read(self, messages: Messages) -> bool:
        """Begin each request when its message is here.

        Returns:
            Whether the end of the process was the reason to stop.
        """
        while True:
            await self._places.acquire()
            if self._ending.is_set() or (message := await self._message(messages)) is None:
                self._answers.put_nowait(None)
                return self._ending.is_set()
            if self._serving.tokens.required:  # a stream may live longer than a token
                self._serving.tokens.check(STREAM, self._headers)
            request = asyncio.ensure_future(self._kept(_Arrived(message)))
            del message
            self._under_way.add(request)
            self._answers.put_nowait(request)

    async def _message(self, messages: Messages) -> bytes | None:
        """The next message; None after the last one, or when the process ends."""
        reading = asyncio.ensure_future(self._bodies.next(messages))
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            while True:
                done, _ = await asyncio.wait(
                    (reading, ending), timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED
                )
                if reading in done:
                    return reading.result()
                if done:
                    return None
                if not self._under_way:
                    raise InputTooSlow(
                        f"no request came for {self._idle_s:g} s",
                        hint="open a stream when there is something to send",
                    )
        finally:
            for one in (reading, ending):
                one.cancel()
            await asyncio.gather(reading, ending, return_exceptions=True)

    async def _write(self) -> None:
        """Send each answer when those before it are sent."""
        metrics = self._serving.metrics
        while (request := await self._answers.get()) is not None:
            answer = await request
            self._connections.release(self._context, len(answer.message))
            # Until the client has taken it the stream is not idle: its connection would outlive it.
            await self._connections.write(self._context, answer.message)
            self._under_way.discard(request)
            if answer.clock is not None:
                self._on_answer()
                metrics.sent(time.perf_counter() - answer.clock.end)
            size = len(answer.message)
            report_call(self._serving, self._scope, answer.trace, answer.outcome, size)
            self._places.release()

    async def _kept(self, arrived: _Arrived) -> StreamAnswer:
        """The answer of one request, which takes memory until its turn comes."""
        answer = await self._answered(arrived)
        self._connections.keep(self._context, len(answer.message))
        return answer

    async def _answered(self, arrived: _Arrived) -> StreamAnswer:
        """The answer of one request; why it failed is one, too, but for strict clients."""
        told: Iterable[tuple[str, str]] = ()
        failed: Exception
        with traced(Trace(self._headers)) as trace:
            try:
                message, clock = await self._counted(arrived)
                return StreamAnswer(message, trace, clock=clock)
            except asyncio.CancelledError as error:
                report_call(self._serving, self._scope, trace, error)
                raise
            except SeatrialError as error:
                failed, text, told = error, error_text(error), error_metadata(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client has to be told
                failed, text = error, FAULT
                if not self._strict:  # whoever ends the stream says it otherwise
                    log_fault(self._scope, error)
            if self._strict:
                report_call(self._serving, self._scope, trace, failed)
                raise failed
        return StreamAnswer(write_stream_error(text, arrived.named, told), trace, failed)

    async def _counted(self, arrived: _Arrived) -> tuple[bytes, Clock]:
        service = self._serving.take()
        counted = Counted(service.metrics, self._scope, STREAM, DETECTOR, service.variant)
        try:
            with counted as outcome:
                try:
                    return await self._infer(service, outcome, arrived)
                except asyncio.CancelledError as error:  # the client left
                    raise Abandoned from error
        except Abandoned:
            raise asyncio.CancelledError from None

    async def _infer(
        self, service: Service, outcome: Counted, arrived: _Arrived
    ) -> tuple[bytes, Clock]:
        """The way of one request: admission, inference, answer."""
        self._connections.make_room()
        limits, body_bytes = service.dispatcher.limits, len(arrived.data)
        asked = read_call_asked(
            self._context.invocation_metadata(),
            self._context.time_remaining(),
            limits.longest_deadline_s,
            body_bytes,
        )
        with service.dispatcher.admit(asked) as ticket:
            clock = admitted(ticket.clock)
            message = await read_off_loop(body_bytes, arrived.read, MOST_BINARY_BYTES)
            request = open_request(service, outcome, message, body_bytes)
            del message  # its raw contents are in the request
            clock.lap("receive")
            answer, _ = await infer_request(
                self._serving, service, outcome, ticket, request, write_stream_answer
            )
            return answer, clock
