"""HTTP/1.1 on one connection: uvicorn's protocol, with limits of time and size.

uvicorn bounds neither the time nor the size of a request's head, keeps silent connections for ever,
parses any number of requests before it answers one, and answers what is no HTTP as plain text.
"""
# ruff: noqa: D102  what asyncio and httptools call is documented there

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seatrial.serve.arrivals import Arrivals
from seatrial.serve.connections import SKIPPED_BYTES, declared_bytes
from seatrial.serve.dropped_body import DroppedBody
from seatrial.serve.exchange import Exchange
from seatrial.serve.handshake import Handshake
from seatrial.serve.one_by_one import CHUNKS_OF_A_PART, PARTS, Ends, Flow
from seatrial.serve.one_write import OneWrite
from seatrial.serve.open_connections import ANSWER, CONNECTIONS, END, HEAD, IDLE, Connections, Wait
from seatrial.serve.protocols.body import EXCHANGE
from seatrial.serve.protocols.error_answers import refusal_in_bytes
from seatrial.serve.protocols.plain_head import read_plain_head
from seatrial.serve.protocols.request_head import (
    BEGIN_BYTES,
    FIELDS,
    HEAD_BYTES,
    RefusedHead,
    check_head,
    lengths_alone,
    refusal_of,
    too_large,
)
from seatrial.serve.request_log import is_news
from seatrial.serve.trace_context import Trace, current_trace

TRACE = "trace"  # name in the state of a request
ENDLESS = 2**62  # bytes of a body
PAUSE_BYTES = 256 * 1024  # of a body that the application has not taken: no more is read

logging.getLogger("uvicorn.error").addFilter(is_news)


class HttpProtocol(HttpToolsProtocol):
    """One connection; a server makes it: ``uvicorn.Config(app, http=HttpProtocol)``.

    The application's life gives it `Connections` in its state.

    Attributes:
        in_head: Whether the next bytes belong to a head, or else to a body.
        active: See `seatrial.serve.open_connections.Connection`.
        stays: Whether it may not be given to another process.
    """

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.ws_protocol_class = None  # no route of ours is one
        self._all: Connections = app_state[CONNECTIONS]
        self.waiting: Wait | None = None
        self._handshake: Handshake | None = None
        self.in_head = True
        self._head_begun = False
        self._unbounded_bytes = 0  # of a head, or of a body's framing, that the parser collects
        self._advanced = False  # a head ended in what came, or a part of a body or its end came
        self._asked = False  # whether a request came
        self._beyond = False  # whether it was opened when there were too many
        self._offered = False  # the parser stopped at an offer of another protocol
        self._reads_on = False  # the parser is told the lengths of such a request
        self._over = False  # nothing is read any more: the last answer is written, or will be
        self._unread_bytes = 0
        self._skips_body = False  # of a request that was refused before the application saw it
        self._dropped: DroppedBody | None = None  # drops such bodies past the parser
        self._given = False  # to another process
        self._ends = Ends()
        self.active = self.stays = False

    # What the event loop calls.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if self._handshake is not None:  # the same connection, encrypted
            self._begin(transport)
            return
        if not self.stays and self._all.give(transport):
            self._given = True
            transport.abort()  # our end of it alone
            return
        self._open(transport)
        if self._all.handshakes is None:
            self._begin(transport)
        elif not transport.is_closing():  # or else it was one too many
            self._handshake = self._all.handshakes.meet(transport, self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._given:
            return
        if self._dropped is not None:
            self._dropped.close()
        super().connection_lost(exc)
        self._all.closed(self)

    def _begin(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.flow: Flow = Flow(transport)
        transport.set_protocol(Arrivals(self, self._all.room))

    def _open(self, transport: asyncio.Transport) -> None:
        """Count a connection, from its first moment."""
        self.transport = transport
        self.connections.add(self)  # which the server closes at its end
        self._all.opened(self)
        self._beyond = self._all.full

    # What the handshake calls.
    def refused(self) -> None:
        self._all.waits(self, END)

    def insecure(self) -> None:
        self._all.insecure()
        self.connections.discard(self)
        self._all.closed(self)

    def data_received(self, data: bytes | memoryview) -> None:
        if self._all.now_s() >= self._all.dated_until_s:
            self._all.date()
        if self._over:
            self._drop_rest(ENDLESS)
            return
        dropped = self._dropped
        if dropped is not None and dropped.left_bytes:
            taken = dropped.take(len(data))
            if not dropped.left_bytes:
                self._all.waits(self, IDLE)
            data = data[taken:]
        if self.flow.rest:  # the transport had read it before it was told to pause
            self.flow.hold(bytes(self.flow.rest) + bytes(data))
        else:
            self._take(data)

    def _take(self, data: bytes | memoryview) -> None:
        """Parse what came, request by request; the rest is kept until it is its turn."""
        ends, left, parsed = self._ends, PARTS, False
        while data:
            if left <= 0 or (self.in_head and not self._is_idle()):
                self.flow.hold(data)
                if left <= 0:
                    self.loop.call_soon(self._go_on)
                break
            left -= 1
            if self._all.refuses and (taken := self._refuse_plain(data)):
                data, parsed = data[taken:], False  # what it waits for is noted
                continue
            size, chunks = ends.part(data, self.in_head), ends.chunks
            if size < len(data):
                part, data = data[:size], data[size:]
            else:
                part, data = data, b""
            parsed = self._parse(part)
            if not parsed:
                return
            left -= (ends.chunks - chunks) // CHUNKS_OF_A_PART
        if parsed:
            self._note_wait()

    def _go_on(self) -> None:
        """Parse what was kept, since it may be its turn."""
        rest = self.flow.take()
        if self._over or self.transport.is_closing():
            return
        self._take(rest)
        if self._is_idle() or len(self.cycle.body) <= PAUSE_BYTES:
            self.flow.resume_reading()

    def _parse(self, data: bytes | memoryview) -> bool:
        """Parse a part of what came; whether it could be."""
        self._advanced = False
        was_in_head, begins = self.in_head, self.in_head and not self._head_begun
        try:
            self._feed(data)
            if not self.in_head:
                if was_in_head:
                    self._ends.head(self.headers)
                else:
                    self._ends.body(len(data))
        except httptools.HttpParserError as error:
            self._refuse(refusal_of(error, bytes(data[:BEGIN_BYTES]) if begins else b""))
        except RefusedHead as refused:
            self._refuse(refused)
        else:
            if self._advanced:
                return True
            self._unbounded_bytes += len(data)
            if self._unbounded_bytes <= HEAD_BYTES:
                return True
            self._refuse(too_large())
        return False

    def _feed(self, data: bytes | memoryview) -> None:
        """Have data parsed; an offer of another protocol is passed over (RFC 9110, 7.8).

        The parser stops at such an offer, before the body of its request. Clients such as Java's
        send one with every POST.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                data = data[stopped.args[0] :]
            if not self._offered:
                return  # CONNECT, the last request on this connection
            self._offered, self._reads_on = False, True
            head = self.headers, self.url, self.scope
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self.parser.feed_data(lengths_alone(self.headers, self.cycle.keep_alive))
            self._reads_on = False
            self.headers, self.url, self.scope = head

    def pause_writing(self) -> None:
        super().pause_writing()
        self._note_wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._note_wait()

    # What the parser calls; an error ends `feed_data`.
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer, which no part of the service reads
        if len(self.headers) == FIELDS:
            raise too_large()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._reads_on:
            return
        version = self.parser.get_http_version()
        check_head(version, self.url, self.headers)
        if version == "1.0":
            self.expect_100_continue = False  # it knows no interim answers (RFC 9110, 10.1.1)
        stops = self.parser.should_upgrade()
        if self._beyond:
            self._all.check_probe(self.url, self.headers)
        self._skips_body = not stops and self._refuse_early()
        if not self._skips_body:
            trace = self.scope["state"][TRACE] = Trace(self.headers)
            super().on_headers_complete()
            exchange = Exchange(self.cycle, trace, self.transport, self._all, self.server_state)
            self.scope["state"][EXCHANGE] = exchange
            writing = OneWrite(self.transport)
            self.cycle.transport = writing  # type: ignore[assignment]
            self.cycle.default_headers = [*self.cycle.default_headers, *trace.headers()]
            self.cycle.on_response = partial(self._answered, trace, writing)
        self.in_head, self._unbounded_bytes = False, 0
        self._advanced = self._asked = True
        self._offered = stops and self.parser.get_method() != b"CONNECT"
        if stops and not self._offered:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, as uvicorn does with three copies more and a mark of 64 KiB."""
        self._advanced, self._unbounded_bytes = True, 0
        cycle = self.cycle
        if self._skips_body or cycle.response_complete:
            return
        if not cycle.body:  # often this is all of it
            cycle.body = body  # type: ignore[assignment]
        else:
            if isinstance(cycle.body, bytes):
                cycle.body = bytearray(cycle.body)
            cycle.body += body
        if len(cycle.body) > PAUSE_BYTES:  # nobody asks for it
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_chunk_complete(self) -> None:
        self._ends.chunks += 1

    def on_message_complete(self) -> None:
        if self._offered:
            return  # its body, if it has one, is yet to come
        if self._skips_body:
            self._all.waits(self, IDLE, anew=True)
        else:
            super().on_message_complete()
        self._skips_body, self._advanced = False, True
        self.in_head, self._head_begun, self._unbounded_bytes = True, False, 0

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        token = current_trace.set(cycle.scope["state"][TRACE])
        super()._start_asgi_task(cycle, app)  # the task keeps the context of this moment
        current_trace.reset(token)

    # What the answer calls when it is complete.
    def _answered(self, trace: Trace, writing: OneWrite) -> None:
        writing.flush()  # refusals are written past it
        self._all.answered(trace)
        self.on_response_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # it is one of the waits here
        self._note_wait()
        if self.flow.rest:
            self.loop.call_soon(self._go_on)

    def shutdown(self) -> None:
        if not self._over:
            super().shutdown()

    # What `Connections` calls.
    def expire(self, wait: Wait) -> None:
        """It has waited too long."""
        if wait is ANSWER and self.unread_bytes < self._unread_bytes:
            self._note_wait()  # slow, and not gone
        elif wait is HEAD and self._head_begun and self.in_head and self._is_idle():
            self._refuse(RefusedHead(408, "the headers did not arrive in time"))
        else:
            self.end()

    def end(self) -> None:
        """Close the connection, whatever the client has read."""
        shakes_hands = self._handshake is not None and self.flow is None
        if shakes_hands or self._over or self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def unread_bytes(self) -> int:
        """See `Connection.unread_bytes`."""
        return self.transport.get_write_buffer_size()

    def _is_idle(self) -> bool:
        """Whether all requests that came are answered."""
        return self.cycle is None or self.cycle.response_complete

    def _note_wait(self) -> None:
        """Say what the connection waits for; its time begins where that is another thing."""
        if self.waiting is END:
            return
        unread_bytes = self.unread_bytes
        if self.flow.write_paused or (unread_bytes and self._is_idle()):
            self._all.waits(self, ANSWER)
            self._unread_bytes = unread_bytes
        elif not self._is_idle():
            self._all.works(self)
        elif not self._asked or self._head_begun or not self.in_head:
            self._all.waits(self, HEAD)
        else:
            self._all.waits(self, IDLE)

    def _refuse_plain(self, data: bytes | memoryview) -> int:
        """Refuse a plain request round the parser; how many bytes that took.

        Under overload this is the way of nearly every request, and the parser would be most of it.
        """
        cycle = self.cycle
        if (
            self._head_begun
            or self._unbounded_bytes
            or not self.in_head
            or not (cycle is None or cycle.response_complete)
            or self.flow.write_paused  # the application waits until the client reads
            or self.transport.is_closing()
        ):
            return 0
        head = read_plain_head(data)
        if head is None:
            return 0
        refused = self._all.refuse_again(head)
        if refused is None:
            refused = self._all.refuse(head.path, head.all_fields())
        if refused is None:
            return 0
        if head.body_bytes > SKIPPED_BYTES:
            self._write_last(*refused)
            return len(data)
        self._write(*refused)
        end = head.head_bytes + head.body_bytes
        comes = end > len(data) and self._drop_rest(end - len(data))
        self._all.waits(self, HEAD if comes else IDLE, anew=True)
        return min(len(data), end)

    def _drop_rest(self, left_bytes: int) -> int:
        """Drop the rest of a body; how much of it is still to come."""
        if self.transport.is_closing():  # its descriptor may be another connection's by now
            return left_bytes
        if self._dropped is None:
            self._dropped = DroppedBody(self.transport, self._all.room.whole)
        self._dropped.begin(left_bytes)
        return self._dropped.left_bytes

    def _refuse_early(self) -> bool:
        """Answer a request that the service has no time for; its body has a declared length.

        It goes round the application, which takes several times as long to refuse it.
        """
        if (
            self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"  # its client waits for the end
            or not self._is_idle()
            or self.flow.write_paused
            or not self.parser.should_keep_alive()
            or self.expect_100_continue
            or (body_bytes := declared_bytes(self.headers)) is None
        ):
            return False
        refused = self._all.refuse(self.url.partition(b"?")[0], self.headers)
        if refused is None:
            return False
        if body_bytes > SKIPPED_BYTES:
            self._write_last(*refused)
        else:
            self._write(*refused)
        return True

    def _refuse(self, refusal: RefusedHead) -> None:
        """Answer what is no request, and read nothing more."""
        self._over = True
        if self.in_head and not self._is_idle():
            # The answer to an earlier request comes first. It is the last one.
            self.cycle.keep_alive = False
            self._note_wait()
            return
        answered = False
        if not self.in_head:  # in the body of the present request
            answered = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if answered:
            self.transport.close()
            self._all.waits(self, END)
        else:
            self._answer(refusal)

    def _answer(self, refusal: RefusedHead) -> None:
        # The headers were not all read, perhaps; or they are those of an earlier request.
        trace = Trace(self.headers if self._head_begun and self.headers else ())
        self._all.refused(trace, refusal.status, refusal.code, str(refusal))
        self._write_last(refusal.status, refusal_in_bytes(refusal, trace))

    def _write_last(self, status: int, rest: bytes) -> None:
        """Write the last answer of the connection, and read nothing more.

        What still arrives is dropped for a while: a connection that is closed with unread data is
        reset, and its client loses the answer.
        """
        self._over = True
        self._write(status, b"connection: close\r\n" + rest)
        self._all.waits(self, END)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._drop_rest(ENDLESS)

    def _write(self, status: int, rest: bytes) -> None:
        """Write an answer; ``rest`` is its own fields, an empty line and its body."""
        begin = self._all.begin_of_answer(status, self.server_state.default_headers)
        self.transport.write(begin + rest)
