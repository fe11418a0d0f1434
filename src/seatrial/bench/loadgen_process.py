"""The process in which LoadGen puts its load on a service through our clients.

LoadGen's threads call back into Python, so it has a process of its own: one that hangs or is
interrupted can be ended, and its threads share no interpreter with a display of progress.

The main thread runs the event loop with the connections. LoadGen's thread hands each query to it
and returns at once. Standard input has the task and ends with the parent; standard output has what
became of it, a JSON object a line.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import IO, Any

import msgspec
from yarl import URL

from seatrial.bench.loadgen_options import (
    LONGEST_DURATIONS,
    NAMES,
    LoadgenOptions,
    LoadgenScenario,
)
from seatrial.bench.loadgen_system import ClientFigures, ServiceUnderTest
from seatrial.client.credentials import Credentials
from seatrial.load.run import Send, exchanges
from seatrial.load.samples import Sample
from seatrial.load.target import Body

TICK_S = 0.5
# Between threads of this interpreter: the usual 5 ms would be a delay of a query.
SWITCH_S = 1e-4
WARM_SESSIONS = 2  # of server; the others warm up with as many requests as they send at a time
# LoadGen draws 2 times the queries that it expects, and of offline a tenth more than it expects.
EXPECTED_LATENCY = 0.8  # of the shortest one of the warm-up
EXPECTED_RATE = 1.3  # of that of the warm-up: below the shortest duration, a run is invalid
SHORTEST_NS = 50_000


class LoadgenTask(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as it is handed to the process.

    Attributes:
        url: Address that the bodies are posted to.
        bodies: One prepared request per image.
        token: Token that the service wants; None: none.
        ca_file: Authorities of its certificate; None: the machine's.
        folder: Folder for LoadGen's logs.
    """

    scenario: LoadgenScenario
    options: LoadgenOptions
    url: str
    bodies: tuple[Body, ...]
    token: str | None
    ca_file: str | None
    folder: str


class LoadgenTick(msgspec.Struct, frozen=True, tag="tick"):
    """How far the run is: images answered, and failed ones among them."""

    done: int
    failed: int


Told = LoadgenTick | ClientFigures


async def warm_up(
    send: Send, bodies: Sequence[Body], sessions: int, for_s: float
) -> tuple[float, float]:
    """Send requests in a closed loop before the run; each session sends at least one.

    Returns:
        The shortest time of a request, milliseconds, and the requests per second.
    """
    begin_ns = perf_counter_ns()
    until_ns = begin_ns + round(for_s * 1e9)
    samples: list[Sample] = []

    async def session(number: int) -> None:
        index = number
        while True:
            samples.append(await send(bodies[index % len(bodies)], None))
            index += sessions
            if perf_counter_ns() >= until_ns:
                return

    await asyncio.gather(*(session(number) for number in range(sessions)))
    took_s = (perf_counter_ns() - begin_ns) / 1e9
    return min(one.service_ms for one in samples), len(samples) / took_s


def settings(loadgen: Any, task: LoadgenTask, shortest_ms: float, rate_hz: float) -> Any:
    """LoadGen's settings of a run.

    Args:
        loadgen: The module.
        task: The run.
        shortest_ms: Shortest time of a request, by which the queries are drawn beforehand.
        rate_hz: Requests per second of the warm-up.
    """
    options, scenario = task.options, task.scenario
    made = loadgen.TestSettings()
    made.scenario = getattr(loadgen.TestScenario, NAMES[scenario])
    made.mode = loadgen.TestMode.PerformanceOnly
    made.min_duration_ms = round(1e3 * options.duration_s)
    made.max_duration_ms = round(1e3 * (LONGEST_DURATIONS * options.duration_s + options.timeout_s))
    made.min_query_count = options.fewest_queries(scenario)
    made.qsl_rng_seed = options.library_seed
    made.sample_index_rng_seed = options.sample_seed
    made.schedule_rng_seed = options.schedule_seed
    fraction = options.fraction(scenario)
    expected_ns = max(SHORTEST_NS, round(1e6 * EXPECTED_LATENCY * shortest_ms))
    match scenario:
        case "single-stream":
            made.single_stream_target_latency_percentile = fraction
            made.single_stream_expected_latency_ns = expected_ns
        case "multi-stream":
            made.multi_stream_target_latency_percentile = fraction
            made.multi_stream_expected_latency_ns = expected_ns
            made.multi_stream_samples_per_query = options.images_per_query
        case "server":
            made.server_target_latency_percentile = fraction
            made.server_target_latency_ns = round(1e6 * (options.latency_limit_ms or 0))
            made.server_target_qps = options.rate
        case "offline":
            made.offline_expected_qps = options.rate or EXPECTED_RATE * rate_hz
    return made


def places(task: LoadgenTask) -> int:
    """Most requests that a run has under way at a time; 0: no limit."""
    of = {"single-stream": 1, "multi-stream": task.options.images_per_query, "server": 0}
    return of.get(task.scenario, task.options.in_flight)


def run_test(loadgen: Any, task: LoadgenTask, system: ServiceUnderTest, chosen: Any) -> None:
    """Run LoadGen until its end, in the thread that calls."""
    logs = loadgen.LogSettings()
    logs.enable_trace = False
    logs.log_output.outdir = task.folder
    logs.log_output.copy_summary_to_stdout = False
    count = len(task.bodies)

    def nothing(*_: object) -> None:
        """All images are in memory already, and no query is held back."""

    sut = loadgen.ConstructSUT(system.issue, nothing)
    library = loadgen.ConstructQSL(count, count, nothing, nothing)
    try:
        # By its path: one in the working folder would change the run unseen.
        audit = os.path.join(task.folder, "audit.config")
        loadgen.StartTestWithLogSettings(sut, library, chosen, logs, audit)
    finally:
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(sut)


async def drive(loadgen: Any, task: LoadgenTask, tell: Callable[[Told], object]) -> None:
    """Put the load on the service; `tell` gets the state twice a second, and the figures.

    Args:
        loadgen: The module.
        task: The run.
        tell: Called on the event loop.
    """
    limit, options, loop = places(task), task.options, asyncio.get_running_loop()
    credentials = Credentials(task.token, task.ca_file)
    over: asyncio.Future[BaseException | None] = loop.create_future()

    def complete(number: int) -> None:
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(number, 0, 0)])

    async with exchanges(URL(task.url), limit, options.timeout_s, credentials) as send:
        warmed = await warm_up(send, task.bodies, limit or WARM_SESSIONS, options.warmup_s)
        system = ServiceUnderTest(
            send, task.bodies, complete, places=limit, timeout_s=options.timeout_s
        )

        def run() -> None:
            failure: BaseException | None = None
            try:
                run_test(loadgen, task, system, settings(loadgen, task, *warmed))
            except Exception as error:  # noqa: BLE001 - it is raised again by the event loop
                failure = error
            loop.call_soon_threadsafe(over.set_result, failure)

        threading.Thread(target=run, name="loadgen", daemon=True).start()
        gone = loop.create_task(system.gone.wait())
        while not over.done() and not gone.done():
            tell(LoadgenTick(system.done, system.failed))
            await asyncio.wait((over, gone), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        tell(system.figures())
    failure = over.result() if over.done() else system.failure
    if failure is not None:
        raise failure


def read_task(stream: IO[bytes]) -> LoadgenTask:
    """The task, which comes as its length (8 bytes, big-endian) and msgpack."""
    length = int.from_bytes(stream.read(8), "big")
    return msgspec.msgpack.decode(stream.read(length), type=LoadgenTask)


def write_task(stream: IO[bytes], task: LoadgenTask) -> None:
    """Write a task as `read_task` reads it."""
    data = msgspec.msgpack.encode(task)
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def main() -> None:
    """Run the task of standard input."""
    import mlperf_loadgen
    import uvloop

    # Ctrl-C reaches the whole group; the parent decides, and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(SWITCH_S)
    task = read_task(sys.stdin.buffer)
    told = os.dup(1)
    os.dup2(2, 1)  # LoadGen's own words are no data

    def tell(what: Told) -> None:
        os.write(told, msgspec.json.encode(what) + b"\n")

    async def until_over() -> None:
        # Nothing more comes: what can be read is the end, and with it that of the parent.
        asyncio.get_running_loop().add_reader(0, os._exit, 1)
        await drive(mlperf_loadgen, task, tell)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_over())
    sys.stderr.flush()
    os._exit(0)  # LoadGen's thread may wait for ever for a service that is gone


if __name__ == "__main__":
    main()
