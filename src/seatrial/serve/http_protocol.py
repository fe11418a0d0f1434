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
from seatrial.serve.exchange import Exchange
from seatrial.serve.handshake import Handshake
from seatrial.serve.one_by_one import Flow, RequestsInTurn
from seatrial.serve.one_write import OneWrite
from seatrial.serve.open_connections import ANSWER, CONNECTIONS, END, HEAD, IDLE, Connections, Wait
from seatrial.serve.protocols.body import EXCHANGE
from seatrial.serve.protocols.error_answers import refusal_in_bytes
from seatrial.serve.protocols.plain_head import read_plain_head
from seatrial.serve.protocols.request_head import (
    FIELDS,
    RefusedHead,
    check_head,
    lengths_alone,
    too_large,
)
from seatrial.serve.refusing import ENDLESS, Refusing
from seatrial.serve.request_log import is_news
from seatrial.serve.trace_context import Trace, current_trace

TRACE = "trace"  # name in the state of a request
PAUSE_BYTES = 256 * 1024  # of a body that the application has not taken: no more is read

logging.getLogger("uvicorn.error").addFilter(is_news)


class HttpProtocol(HttpToolsProtocol):
    """One connection; a server makes it: ``uvicorn.Config(app, http=HttpProtocol)``.

    The application's life gives it `Connections` in its state.

    Attributes:
        in_head: Whether the next bytes belong to a head, or else to a body.
        head_begun: Whether some of that head was parsed.
        over: Whether nothing is read any more: the last answer is written, or will be.
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
        self._refusing = Refusing(self, self._all, server_state)
        self.in_head = True
        self.head_begun = self.over = False
        self._asked = False  # whether a request came
        self._beyond = False  # whether it was opened when there were too many
        self._offered = False  # the parser stopped at an offer of another protocol
        self._reads_on = False  # the parser is told the lengths of such a request
        self._unread_bytes = 0
        self._skips_body = False  # of a request that was refused before the application saw it
        self._given = False  # to another process
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
        self._refusing.close()
        super().connection_lost(exc)
        self._all.closed(self)

    def _begin(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._requests = RequestsInTurn(self, transport, self.loop)
        self.flow: Flow = self._requests.flow
        transport.set_protocol(Arrivals(self, self._all.room))

    def _open(self, transport: asyncio.Transport) -> None:
        """Count a connection, from its first moment."""
        self.transport = transport
        self.connections.add(self)  # which the server closes at its end
        self._beyond = self._all.opened(self)

    # What the handshake calls.
    def refused(self) -> None:
        self._all.insecure()
        self._all.waits(self, END)

    def insecure(self, *, failed: bool) -> None:
        if failed:
            self._all.insecure()
        self.connections.discard(self)
        self._all.closed(self)

    def data_received(self, data: bytes | memoryview) -> None:
        if self._all.now_s() >= self._all.dated_until_s:
            self._all.date()
        if self.over:
            self._refusing.drop(ENDLESS)
            return
        self._requests.take(self._refusing.pass_over(data))

    def feed(self, data: bytes | memoryview) -> None:
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
        self.note_wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.note_wait()

    # What the parser calls; an error ends `feed_data`.
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head_begun = True

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
            exchange = Exchange(self.cycle, trace, self, self._all, self.server_state)
            self.scope["state"][EXCHANGE] = exchange
            writing = OneWrite(self.transport)
            self.cycle.transport = writing  # type: ignore[assignment]
            self.cycle.default_headers = [*self.cycle.default_headers, *trace.headers()]
            self.cycle.on_response = partial(self._answered, trace, writing)
        self.in_head, self._requests.unbounded_bytes = False, 0
        self._requests.advanced = self._asked = True
        self._offered = stops and self.parser.get_method() != b"CONNECT"
        if stops and not self._offered:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, as uvicorn does with three copies more and a mark of 64 KiB."""
        requests = self._requests
        requests.advanced, requests.unbounded_bytes = True, 0
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
        self._requests.ends.chunks += 1

    def on_message_complete(self) -> None:
        if self._offered:
            return  # its body, if it has one, is yet to come
        if self._skips_body:
            self._all.waits(self, IDLE, anew=True)
        else:
            super().on_message_complete()
        requests = self._requests
        self._skips_body, requests.advanced = False, True
        self.in_head, self.head_begun, requests.unbounded_bytes = True, False, 0

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
        self.note_wait()
        self._requests.answered()

    def shutdown(self) -> None:
        if not self.over:
            super().shutdown()

    # What `Connections` calls.
    def expire(self, wait: Wait) -> None:
        """It has waited too long."""
        if wait is ANSWER and self.unread_bytes < self._unread_bytes:
            self.note_wait()  # slow, and not gone
        elif wait is HEAD and self.head_begun and self.in_head and self.is_idle():
            self.refuse(RefusedHead(408, "the headers did not arrive in time"))
        else:
            self.end()

    def end(self) -> None:
        """Close the connection, whatever the client has read."""
        shakes_hands = self._handshake is not None and self.flow is None
        if shakes_hands or self.over or self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()
            if self._handshake is not None:
                # It would wait for its client's word, open and counted; its own goes out first.
                self.loop.call_soon(self.transport.abort)

    @property
    def unread_bytes(self) -> int:
        """See `Connection.unread_bytes`."""
        return self.transport.get_write_buffer_size()

    def is_idle(self) -> bool:
        """Whether all requests that came are answered."""
        return self.cycle is None or self.cycle.response_complete

    def may_read(self) -> bool:
        """Whether there is room for more of a body."""
        return self.is_idle() or len(self.cycle.body) <= PAUSE_BYTES

    def note_wait(self) -> None:
        """Say what the connection waits for; its time begins where that is another thing."""
        if self.waiting is END:
            return
        unread_bytes = self.unread_bytes
        if self.flow.write_paused or (unread_bytes and self.is_idle()):
            self._all.waits(self, ANSWER)
            self._unread_bytes = unread_bytes
        elif not self.is_idle():
            self._all.works(self)
        elif not self._asked or self.head_begun or not self.in_head:
            self._all.waits(self, HEAD)
        else:
            self._all.waits(self, IDLE)

    def refuse_plain(self, data: bytes | memoryview) -> int:
        """Refuse a plain request round the parser while others are; how many bytes that took.

        Under overload this is the way of nearly every request, and the parser would be most of it.
        """
        if not self._all.refuses:
            return 0
        cycle = self.cycle
        if (
            self.head_begun
            or self._requests.unbounded_bytes
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
            self._refusing.write_last(*refused)
            return len(data)
        self._refusing.write(*refused)
        end = head.head_bytes + head.body_bytes
        comes = end > len(data) and self._refusing.drop(end - len(data))
        self._all.waits(self, HEAD if comes else IDLE, anew=True)
        return min(len(data), end)

    def _refuse_early(self) -> bool:
        """Answer a request that the service has no time for; its body has a declared length.

        It goes round the application, which takes several times as long to refuse it.
        """
        if (
            self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"  # its client waits for the end
            or not self.is_idle()
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
            self._refusing.write_last(*refused)
        else:
            self._refusing.write(*refused)
        return True

    def refuse(self, refusal: RefusedHead) -> None:
        """Answer what is no request, and read nothing more."""
        self.over = True
        if self.in_head and not self.is_idle():
            # The answer to an earlier request comes first. It is the last one.
            self.cycle.keep_alive = False
            self.note_wait()
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
        trace = Trace(self.headers if self.head_begun and self.headers else ())
        self._all.refused(trace, refusal.status, refusal.code, str(refusal))
        self._refusing.write_last(refusal.status, refusal_in_bytes(refusal, trace))
