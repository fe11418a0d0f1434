"""The threads on which requests are decoded and inferred, and the way there from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from starlette.types import Message

from seatrial.detect.decode import lacks_memory, out_of_memory
from seatrial.engines.places import Abandoned
from seatrial.errors import SeatrialError
from seatrial.serve.forecast import took_by
from seatrial.serve.thread_pool import Job, ThreadPool
from seatrial.serve.tickets import Admitted
from seatrial.serve.turns import Turns
from seatrial.serve.watchdog import MOST_STUCK

T = TypeVar("T")


def _ignore(_: object) -> None:
    pass


class RequestThreads:
    """Threads of a service. Each request gets one when it is its turn.

    Two threads for each image that the lanes take: while one infers, the other decodes the next
    image and waits to follow at once. With fewer the lanes stand idle between requests (1.1 ms of
    47 here). As many again for requests of a batch, so that these never hold the threads of live
    ones.

    Args:
        count: Number of threads for requests of each priority.
    """

    def __init__(self, count: int) -> None:
        self.turns = Turns(count)
        self._lock = threading.Lock()  # requests end on threads
        self._working = 0  # threads that are in `run`
        self._pool = ThreadPool(2 * count + MOST_STUCK, "request")

    @property
    def working(self) -> int:
        """Number of threads that work, also for requests that were given up."""
        return self._working

    async def work(
        self,
        ticket: Admitted,
        work: Callable[[], T],
        gone: asyncio.Future[Message],
        done: Callable[[T], object] = _ignore,
    ) -> T:
        """Do some work on a thread of the service when it is the ticket's turn.

        Args:
            ticket: Held; its clock has all that the work did when this returns.
            work: Runs the engine once.
            gone: Done when the client goes away; see `watched`.
            done: Called with the result as soon as the event loop has it; whoever waits goes on
                after that, and before anything else that it leads to.

        Raises:
            DeadlineExceeded: The answer was not there in time.
            Abandoned: The client went away.
        """
        ticket.ready()
        loop = ticket.loop = asyncio.get_running_loop()
        turn = self.turns.take(batch=ticket.batch)
        if turn is not None:
            ticket.awaited = turn
            try:
                await self._first(turn, gone, ticket)
            except BaseException:
                ticket.cancel()
                if turn.done() and not turn.cancelled() and turn.exception() is None:
                    self.turns.give_back(batch=ticket.batch)  # it came too late
                ticket.awaited = None
                raise
        ticket.has_turn = True
        answer: asyncio.Future[T] = loop.create_future()
        ticket.awaited = answer  # before its thread can fail
        told = partial(_on_loop, loop, self._finish, ticket, answer, done)
        job = Job(partial(self.run, ticket, work), told)
        try:
            return await self._first(answer, gone, ticket, partial(self._pool.submit, job))
        finally:
            ticket.awaited = None  # its error would keep the ticket, and that the error
            if not job.ended:
                ticket.cancel()
                job.drop()  # it waits for a thread

    async def _first(
        self,
        wanted: asyncio.Future[T],
        gone: asyncio.Future[Message],
        ticket: Admitted,
        begin: Callable[[], object] = lambda: None,
    ) -> T:
        """The result of ``wanted``, unless the client goes, the engine hangs, or it is too late.

        Whatever comes first ends this one future: to wait for several costs several times as much.

        Args:
            wanted: Is waited for.
            gone: See `work`.
            ticket: See `work`.
            begin: Begins what is wanted, as the last thing before the wait: a thread that it wakes
                needs Python's lock.
        """

        def left(_: object) -> None:
            _end(wanted, Abandoned())

        def too_late() -> None:
            _end(wanted, ticket.too_late())

        late = wanted.get_loop().call_later(ticket.remaining_s(), too_late)
        gone.add_done_callback(left)
        try:
            begin()
            return await wanted
        finally:
            late.cancel()
            gone.remove_done_callback(left)

    def fail(self, ticket: Admitted, error: SeatrialError) -> None:
        """End a request whose thread may never come back; on any thread."""
        if ticket.loop is None:
            return

        def end() -> None:
            if ticket.awaited is not None:  # not what it was before
                _end(ticket.awaited, error)
            self._end_turn(ticket)

        _on_loop(ticket.loop, end)

    def _finish(
        self,
        ticket: Admitted,
        answer: asyncio.Future[T],
        done: Callable[[T], object],
        result: T,
        error: BaseException | None,
    ) -> None:
        """Take what a thread has made of a request, where it still waits for that."""
        self._end_turn(ticket)
        if answer.done():
            return
        if error is None:
            answer.set_result(result)  # whoever waits goes on before all that comes from now on
            done(result)
        else:
            answer.set_exception(error)

    def _end_turn(self, ticket: Admitted) -> None:
        if ticket.has_turn:
            ticket.has_turn = False
            self.turns.give_back(batch=ticket.batch)

    def run(self, ticket: Admitted, work: Callable[[], T]) -> T:
        """Do the work of a request; on the thread that it has."""
        with ticket, self._counted_work(ticket):
            ticket.check()
            ticket.clock.lap("queue")  # the wait for this thread
            try:
                answer = work()
            except Exception as error:
                if lacks_memory(error):
                    raise out_of_memory() from error
                raise
            size = 1 if ticket.share is None else ticket.share.size
            ticket.took = took_by(ticket.clock.stages_ms, size, ticket.bound_s)
            return answer

    @contextlib.contextmanager
    def _counted_work(self, ticket: Admitted) -> Iterator[None]:
        with self._lock:
            self._working += 1
        try:
            yield
        finally:
            ticket.keep(0)  # it may have been given up before it took memory
            with self._lock:
                self._working -= 1

    def close(self, *, wait: bool) -> None:
        """Start no more work.

        Args:
            wait: Whether to wait for what runs; without it, what has not begun is dropped.
        """
        self._pool.close(wait=wait)


def _end(wanted: asyncio.Future[Any], error: Exception) -> None:
    if not wanted.done():
        wanted.set_exception(error)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(call, *args)
