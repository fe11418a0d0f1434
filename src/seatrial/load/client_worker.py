"""Program of a client process: it sends one part of a load, and says what came back.

It talks with the process that started it (`seatrial.load.client_processes`) over its standard input
and output, in messages of msgpack with their length before them:

    input   bodies, `LoadPart`; then, when all processes are ready, `Begin`; an empty one: stop
    output  `Outcomes`: one without samples when it is ready, then several a second, then the last

Its input ends with that process, however that ends; then it ends, too.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable

import msgspec
import numpy as np
from yarl import URL

from seatrial.client.credentials import Credentials
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.run import exchanges, first_of, send_schedule, send_sessions, together
from seatrial.load.samples import Sample
from seatrial.load.schedule import DrawnSchedule
from seatrial.load.target import Body
from seatrial.load.window import Load

LENGTH_BYTES = 8
START = "from seatrial.load.client_worker import main; main()"
# Samples are told so often: seldom enough to cost nothing, and a few at a time.
TOLD_S = 0.05


class LoadPart(msgspec.Struct, frozen=True):
    """One part of a load.

    Attributes:
        url: Where the bodies are posted.
        token: See `seatrial.client.credentials.Credentials`.
        ca_file: See there.
        timeout_s: Time after which a request has failed.
        due_s: float64: due times of the requests of an open loop, seconds after the begin.
        images: int32: their images.
        law: Closed loop; None: an open one.
        sessions: Sessions of the closed loop that are run here.
        image_seed: See `seatrial.load.window.Load`.
        think_seed: See there.
    """

    url: str
    token: str | None
    ca_file: str | None
    timeout_s: float
    due_s: bytes = b""
    images: bytes = b""
    law: ClosedLoop | None = None
    sessions: tuple[int, ...] = ()
    image_seed: int = 0
    think_seed: int = 0


class Begin(msgspec.Struct, frozen=True):
    """The word to begin.

    Attributes:
        begin_ns: Begin of the load, `perf_counter_ns`, which all processes of a machine share.
        close_ns: Time from which on no request of an open loop is due.
    """

    begin_ns: int
    close_ns: int


class Outcomes(msgspec.Struct, frozen=True):
    """Requests that have ended.

    Attributes:
        samples: The requests, in order of their end.
        last: Whether nothing more will come.
        failure: Error that ended the process; empty where there is none.
    """

    samples: list[Sample] = []
    last: bool = False
    failure: str = ""


def framed(message: bytes) -> bytes:
    """A message with its length before it."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


async def receive(reader: asyncio.StreamReader) -> bytes:
    """The next message.

    Raises:
        EOFError: The other side has ended.
    """
    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
    return await reader.readexactly(length)


def main() -> None:
    """Send what standard input says."""
    import uvloop

    # What a library prints is no message.
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(incoming, outgoing))


async def _serve(incoming: int, outgoing: int) -> None:
    loop, reader, drained = asyncio.get_running_loop(), asyncio.StreamReader(), asyncio.Event()
    source, sink = os.fdopen(incoming, "rb", 0), os.fdopen(outgoing, "wb", 0)
    listening, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), source
    )
    writing, _ = await loop.connect_write_pipe(lambda: _Drained(drained), sink)
    outbox = Outbox(writing.write)
    try:
        await _send(reader, outbox)
    except Exception as error:  # noqa: BLE001 - the other process raises it
        outbox.tell(last=True, failure=_words(error))
    listening.close()
    writing.close()
    await drained.wait()


class _Drained(asyncio.BaseProtocol):
    """Notes when all is written."""

    def __init__(self, drained: asyncio.Event) -> None:
        self._drained = drained

    def connection_lost(self, exc: Exception | None) -> None:
        self._drained.set()


class Outbox:
    """Recorder of a load (`seatrial.load.window.Recorder`) that tells another process.

    Args:
        write: Takes what is to be written; does not block.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.closed = asyncio.Event()
        self.on_closed: Callable[[], object] = lambda: None
        self.begin_ns = self.close_ns = 0
        self._samples: list[Sample] = []
        self._write = write

    def add(self, sample: Sample) -> None:
        """Note a request that has just finished."""
        self._samples.append(sample)

    def open(self) -> None:
        """Nothing to do: the other process has the window."""

    def finish(self) -> None:
        """Say that every request has its outcome."""
        self.tell(last=True)

    def stop(self) -> None:
        """Send no more requests."""
        self.closed.set()
        self.on_closed()

    def tell(self, *, last: bool = False, failure: str = "") -> None:
        """Write what has been noted."""
        samples, self._samples = self._samples, []
        self._write(framed(msgspec.msgpack.encode(Outcomes(samples, last, failure))))

    async def tell_often(self) -> None:
        """Write several times a second; does not end."""
        while True:
            await asyncio.sleep(TOLD_S)
            if self._samples:
                self.tell()


async def _send(reader: asyncio.StreamReader, outbox: Outbox) -> None:
    """Take a part, and send it."""
    bodies = msgspec.msgpack.decode(await receive(reader), type=list[Body])
    part = msgspec.msgpack.decode(await receive(reader), type=LoadPart)
    in_flight = 0 if part.law is None else len(part.sessions) * part.law.images_per_query
    credentials = Credentials(part.token, part.ca_file)
    # A full collection visits everything that was imported, and would show as lateness.
    gc.collect()
    gc.freeze()
    async with exchanges(URL(part.url), in_flight, part.timeout_s, credentials) as send:
        outbox.tell()
        begin = msgspec.msgpack.decode(await receive(reader), type=Begin)
        outbox.begin_ns, outbox.close_ns = begin.begin_ns, begin.close_ns
        if part.law is None:
            due_s = np.frombuffer(part.due_s, np.float64)
            schedule = DrawnSchedule(due_s, np.frombuffer(part.images, np.int32))
            job = send_schedule(send, bodies, schedule, outbox)
        else:
            load = Load(
                arrivals=part.law,
                measure_s=0.0,
                image_seed=part.image_seed,
                think_seed=part.think_seed,
            )
            job = send_sessions(send, bodies, load, outbox, part.sessions)
        helpers = [asyncio.create_task(one) for one in (outbox.tell_often(), _heed(reader, outbox))]
        await together(job)
        for one in helpers:
            one.cancel()


async def _heed(reader: asyncio.StreamReader, outbox: Outbox) -> None:
    """Stop when the other process says so, and end with it."""
    try:
        while True:
            await receive(reader)
            outbox.stop()
    except EOFError:
        os._exit(1)  # nobody is left to be told


def _words(error: BaseException) -> str:
    error = first_of(error)
    return f"{type(error).__name__}: {error}"
