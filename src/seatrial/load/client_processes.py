"""Puts one load on a service from several client processes, where one is too slow to send it.

The load is the one that a single process would send: the schedule is drawn once, and dealt out by
turns. All samples come back, so every percentile is one of all requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from time import perf_counter_ns
from typing import Protocol

import msgspec
import numpy as np
from yarl import URL

from seatrial.client.credentials import NONE, Credentials
from seatrial.errors import GeneratorFailed, InvalidConfig
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.client_worker import START, Begin, LoadPart, Outcomes, framed, receive
from seatrial.load.run import plan, run_load, ticker, together
from seatrial.load.samples import Sample
from seatrial.load.schedule import DrawnSchedule
from seatrial.load.target import Body
from seatrial.load.window import DueWindow, Load, Observer, Recording, Window
from seatrial.system.children import same_code

# Between the word to begin and the begin: it has to reach every process before.
BEGIN_S = 0.1


class ClientsObserver(Observer, Protocol):
    """Observer of a load that other processes send."""

    def clients(self, pids: Sequence[int]) -> None:
        """Called with the ids of the client processes before the load begins."""


async def run_load_in_processes(
    count: int,
    url: URL,
    bodies: Sequence[Body],
    load: Load,
    observer: ClientsObserver,
    on_tick: Callable[[Window], object],
    credentials: Credentials = NONE,
) -> Recording:
    """Put a service under load from client processes, and record every request.

    See `seatrial.load.run.run_load`, which it calls for one process. A window that a number of
    requests ends has a few more of them in a closed loop: the processes tell of them several times
    a second.

    Args:
        count: Number of client processes; a closed loop has no more of them than sessions.
        url: See `run_load`.
        bodies: See there.
        load: See there.
        observer: See there; it also learns the ids of the processes.
        on_tick: See there.
        credentials: See there.

    Raises:
        InvalidConfig: There cannot be so many processes.
        GeneratorFailed: A client process failed, or ended before its load did.
    """
    if count < 1:
        raise InvalidConfig(f"{count} client processes cannot send a load", hint="give 1 or more")
    law = load.arrivals
    if isinstance(law, ClosedLoop):
        count = min(count, law.sessions)
        if law.once and count > 1:
            message = "several client processes cannot send each image once"
            raise InvalidConfig(message, hint="an offline load has one client process")
    if count == 1:
        return await run_load(url, bodies, load, observer, on_tick, credentials)
    schedule = None if isinstance(law, ClosedLoop) else plan(law, load, len(bodies))
    parts = [_part(n, count, url, load, schedule, credentials) for n in range(count)]
    prepared = framed(msgspec.msgpack.encode(bodies))
    async with _started(count) as clients:
        pairs = zip(clients, parts, strict=True)
        await together(*(client.prepare(prepared, part) for client, part in pairs))
        observer.clients([client.pid for client in clients])
        window = _window(load, observer, schedule)
        for client in clients:
            client.begin(Begin(window.begin_ns, window.close_ns))

        def stop() -> None:
            for client in clients:
                client.stop()

        window.on_closed = stop
        await together(_collected(clients, window), ticker(window, observer, on_tick))
    return window.recording()


def _part(
    number: int,
    count: int,
    url: URL,
    load: Load,
    schedule: DrawnSchedule | None,
    credentials: Credentials,
) -> LoadPart:
    """The part of one of several processes: every count-th request, or session."""
    law, ca_file = load.arrivals, credentials.ca_file
    part = LoadPart(
        url=str(url),
        token=credentials.token,
        ca_file=None if ca_file is None else os.fspath(ca_file),
        timeout_s=load.timeout_s,
        image_seed=load.image_seed,
        think_seed=load.think_seed,
    )
    if schedule is None:
        assert isinstance(law, ClosedLoop)  # noqa: S101 - for the type checker
        sessions = tuple(range(number, law.sessions, count))
        return msgspec.structs.replace(part, law=law, sessions=sessions)
    due_s = np.asarray(schedule.due_s[number::count], np.float64)
    images = np.asarray(schedule.images[number::count], np.int32)
    return msgspec.structs.replace(part, due_s=due_s.tobytes(), images=images.tobytes())


def _window(load: Load, observer: Observer, schedule: DrawnSchedule | None) -> Window:
    begin_ns = perf_counter_ns() + round(BEGIN_S * 1e9)
    if schedule is None:
        return MergedWindow(load, observer, begin_ns)
    return MergedDueWindow(load, observer, schedule.due_s, begin_ns)


class MergedWindow(Window):
    """The window of a closed loop whose samples come from other processes, some time later."""

    def add(self, sample: Sample) -> None:
        """Account for a request by the times at which it was sent and finished."""
        self._watch(sample)
        if not self.open_ns or sample.end_ns < self.open_ns:
            self._warm(sample)
        elif not self.closed.is_set() or sample.end_ns <= self.close_ns:
            self.samples.append(sample)
            self.failed += bool(sample.error)
            if self._load.requests is not None and len(self.samples) >= self._load.requests:
                self.close("requests")
        elif sample.start_ns <= self.close_ns:  # or else its process had not yet heard of the end
            self.stragglers.append(sample)


class MergedDueWindow(DueWindow):
    """The window of an open loop whose samples come from other processes."""

    def add(self, sample: Sample) -> None:
        """Account for a request, unless it was due after a window that closed early."""
        if sample.due_ns is None or sample.due_ns < self.close_ns:
            super().add(sample)


class ClientProcess:
    """A client process that runs.

    Args:
        process: The process.
        number: Its number among the others.
    """

    def __init__(self, process: asyncio.subprocess.Process, number: int) -> None:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101
        self.pid = process.pid
        self._process, self._number = process, number
        self._input, self._output = process.stdin, process.stdout

    async def prepare(self, bodies: bytes, part: LoadPart) -> None:
        """Give it its part, and wait until it is ready."""
        self._input.write(bodies)
        self._input.write(framed(msgspec.msgpack.encode(part)))
        with contextlib.suppress(ConnectionError):  # it has ended: the next line says how
            await self._input.drain()
        await self.outcomes()

    def begin(self, begin: Begin) -> None:
        """Say when the load begins."""
        self._input.write(framed(msgspec.msgpack.encode(begin)))

    def stop(self) -> None:
        """Say that no more requests are to be sent."""
        self._input.write(framed(b""))

    async def outcomes(self) -> Outcomes:
        """The next requests that have ended.

        Raises:
            GeneratorFailed: It failed, or ended.
        """
        try:
            found = msgspec.msgpack.decode(await receive(self._output), type=Outcomes)
        except EOFError:
            code = await self._process.wait()
            raise GeneratorFailed(
                f"client process {self._number} of the load ended with exit code {code}",
                hint="without it the load is smaller than the one that was asked for",
            ) from None
        if found.failure:
            message = f"client process {self._number} of the load failed: {found.failure}"
            raise GeneratorFailed(message, hint="the other client processes were ended")
        return found

    async def end(self) -> None:
        """End it, and wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._input.close()
        await self._process.wait()


@contextlib.asynccontextmanager
async def _started(count: int) -> AsyncIterator[list[ClientProcess]]:
    """Client processes; none outlives the block, whatever ends it."""
    clients: list[ClientProcess] = []
    pipe = asyncio.subprocess.PIPE
    try:
        for number in range(1, count + 1):
            process = await asyncio.create_subprocess_exec(
                *same_code(START), stdin=pipe, stdout=pipe, start_new_session=True
            )
            clients.append(ClientProcess(process, number))
        yield clients
    finally:
        await asyncio.gather(*(client.end() for client in clients))


async def _collected(clients: Sequence[ClientProcess], window: Window) -> None:
    """Take all samples of all processes into the window."""
    await together(*(_taken(client, window) for client in clients))
    window.finish()


async def _taken(client: ClientProcess, window: Window) -> None:
    last = False
    while not last:
        found = await client.outcomes()
        for sample in found.samples:
            window.add(sample)
        last = found.last
