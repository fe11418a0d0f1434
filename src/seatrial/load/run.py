"""Puts a load on a service and records every request."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from itertools import islice

from yarl import URL

from seatrial.client.credentials import NONE, Credentials
from seatrial.client.inference_wire import GRPC
from seatrial.load.arrivals import ClosedLoop, OpenLoop
from seatrial.load.due_timer import DueTimer
from seatrial.load.http_client import exchange
from seatrial.load.http_session import OWN_ERRORS, HttpSession, used_up
from seatrial.load.samples import CONNECT, DISCONNECT, Sample, joined
from seatrial.load.schedule import DrawnSchedule, draw_schedule, image_order, to_ns
from seatrial.load.target import Body
from seatrial.load.window import DueWindow, Load, Observer, Recorder, Recording, Window

TICK_S = 0.5
OVERLOADED = 503
# A closed loop against a service that is dead or refuses would spin, and take the cores that answer
# the others; a real caller waits before it tries again.
RETRY_S = 0.05

Send = Callable[[Body, int | None], Awaitable[Sample]]


async def run_load(
    url: URL,
    bodies: Sequence[Body],
    load: Load,
    observer: Observer,
    on_tick: Callable[[Window], object],
    credentials: Credentials = NONE,
) -> Recording:
    """Put a service under load and record every request.

    When it returns, nothing is under way any more: the answers to all requests of an open loop
    have been waited for, however long the service took.

    Args:
        url: Where the bodies are posted.
        bodies: One prepared request per image.
        load: Arrival law, times, seeds.
        observer: Called at the window's begin and end, and at each tick.
        on_tick: Called with the state of the window about twice a second, and at its end.
        credentials: What the service wants to see.
    """
    async with exchanges(url, load.in_flight, load.timeout_s, credentials) as send:
        return await put_load(send, bodies, load, observer, on_tick)


async def put_load(
    send: Send,
    bodies: Sequence[Body],
    load: Load,
    observer: Observer,
    on_tick: Callable[[Window], object],
) -> Recording:
    """Put a load on whatever `send` reaches; see `run_load`."""
    law = load.arrivals
    schedule = None if isinstance(law, ClosedLoop) else plan(law, load, len(bodies))
    window, job = _job(send, bodies, load, observer, schedule)
    try:
        await together(job, ticker(window, observer, on_tick))
    except OSError as error:  # the observer reads files, too
        if error.errno not in OWN_ERRORS:
            raise
        raise used_up(error) from error
    return window.recording()


async def together(*jobs: Coroutine[object, object, None]) -> None:
    """Run jobs until all are done, or one fails, with its error; none outlives this function."""
    tasks = [asyncio.create_task(one) for one in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        # Ctrl-C arrives as a cancellation: no request outlives it.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def plan(law: OpenLoop, load: Load, image_count: int) -> DrawnSchedule:
    """Draw the schedule of an open loop; see `seatrial.load.schedule.draw_schedule`."""
    until_s = load.warmup_s + load.measure_s
    seeds = {"schedule_seed": load.schedule_seed, "image_seed": load.image_seed}
    return draw_schedule(law, until_s, image_count, **seeds)


def _job(
    send: Send,
    bodies: Sequence[Body],
    load: Load,
    observer: Observer,
    schedule: DrawnSchedule | None,
) -> tuple[Window, Coroutine[object, object, None]]:
    """The window of a load, and what sends its requests."""
    if schedule is None:
        window = Window(load, observer)
        return window, send_sessions(send, bodies, load, window)
    due = DueWindow(load, observer, schedule.due_s)
    return due, send_schedule(send, bodies, schedule, due)


@contextlib.asynccontextmanager
async def exchanges(
    url: URL, in_flight: int, timeout_s: float, credentials: Credentials
) -> AsyncIterator[Send]:
    """Connections to a service, as what sends one request and gives the record of it."""
    if url.scheme in GRPC:
        from seatrial.load.grpc_client import grpc_session

        async with grpc_session(url, in_flight, timeout_s, credentials) as session:
            yield session.send
        return
    async with HttpSession(in_flight, timeout_s, credentials) as http:
        yield lambda body, due_ns: exchange(http, url, body, due_ns)


async def send_sessions(
    send: Send,
    bodies: Sequence[Body],
    load: Load,
    window: Recorder,
    numbers: Sequence[int] | None = None,
) -> None:
    """Run the sessions of a closed loop until the window is closed or all images are sent.

    Args:
        send: Sends one request.
        bodies: One prepared request per image.
        load: The load.
        window: Takes the outcomes.
        numbers: Sessions of the load that are run here; None: all.
    """
    law, count = load.arrivals, len(bodies)
    assert isinstance(law, ClosedLoop)  # noqa: S101 - for the type checker
    numbers = range(law.sessions) if numbers is None else numbers

    async def query(images: Sequence[int]) -> Sample:
        sent = [send(bodies[index], None) for index in images]
        sample = await sent[0] if len(sent) == 1 else joined(await asyncio.gather(*sent))
        window.add(sample)
        return sample

    orders = {n: image_order(count, load.image_seed, n) for n in numbers}
    if law.once:
        each = math.ceil(load.warmup_requests / law.sessions)
        warmed = (_session(query, islice(o, each), n, load, window) for n, o in orders.items())
        await asyncio.gather(*warmed)
        window.open()
        every = iter(list(islice(image_order(count, load.image_seed, 0), count)))
        orders = dict.fromkeys(numbers, every)  # each takes the next
    await asyncio.gather(*(_session(query, o, n, load, window) for n, o in orders.items()))
    window.finish()


async def _session(
    query: Callable[[Sequence[int]], Awaitable[Sample]],
    order: Iterator[int],
    number: int,
    load: Load,
    window: Recorder,
) -> None:
    """One session: a query, a pause, the next query, until the images or the window end."""
    law = load.arrivals
    assert isinstance(law, ClosedLoop)  # noqa: S101 - for the type checker
    chance = random.Random(f"{load.think_seed}/{number}")  # noqa: S311 - no secret
    while not window.closed.is_set() and (images := list(islice(order, law.images_per_query))):
        sample = await query(images)
        pause_s = law.think_time_s
        if pause_s and law.thinking == "random":
            pause_s = chance.expovariate(1 / pause_s)
        if sample.error in (CONNECT, DISCONNECT) or sample.status == OVERLOADED:
            pause_s = max(pause_s, RETRY_S)
        if pause_s:
            await asyncio.sleep(pause_s)


async def send_schedule(
    send: Send, bodies: Sequence[Body], schedule: DrawnSchedule, window: Recorder
) -> None:
    """Send each request when it is due, and wait for all answers."""

    async def one(index: int, due_ns: int) -> None:
        window.add(await send(bodies[index], due_ns))

    dues_ns = (window.begin_ns + to_ns(schedule.due_s)).tolist()
    with DueTimer() as timer:
        window.on_closed = timer.stop
        try:
            async with asyncio.TaskGroup() as requests:
                for index, due_ns in zip(schedule.images.tolist(), dues_ns, strict=True):
                    await asyncio.sleep(0)  # a late schedule gives way to the requests under way
                    # By the due time: a schedule that is late is sent to its end all the same.
                    if due_ns >= window.close_ns or not await timer.wait(due_ns):
                        break
                    requests.create_task(one(index, due_ns))
        except ExceptionGroup as group:  # of many requests that fail alike the first one
            raise first_of(group) from group
    window.finish()


def first_of(error: BaseException) -> BaseException:
    """The first error of a group; another error is itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def ticker(window: Window, observer: Observer, on_tick: Callable[[Window], object]) -> None:
    """Call the observer and `on_tick` about twice a second until a window is over."""
    while not window.over.is_set():
        observer.tick()
        on_tick(window)
        try:
            await asyncio.wait_for(window.over.wait(), TICK_S)
        except TimeoutError:
            continue
    on_tick(window)
