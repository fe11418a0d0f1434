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
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns
from typing import IO, Any

import msgspec
from yarl import URL

from seatrial.bench.loadgen_options import (
    FEWEST_QUERIES,
    NAMES,
    PERCENTILE,
    USUAL_PERCENTILE,
    LoadgenOptions,
    LoadgenScenario,
)
from seatrial.client.credentials import Credentials
from seatrial.load.run import Send, exchanges
from seatrial.load.samples import CONNECT, DISCONNECT, Sample
from seatrial.load.statistics import Latency, latency, rate_per_s
from seatrial.load.target import Body
from seatrial.load.window import GIVE_UP_S

TICK_S = 0.5
# Between threads of this interpreter: the usual 5 ms would be a delay of a query.
SWITCH_S = 1e-4
WARM_SESSIONS = 2  # of server; the others warm up with as many requests as they send at a time
# LoadGen draws 2 times the queries that it expects, and of offline a tenth more than it expects.
EXPECTED_LATENCY = 0.8  # of the shortest one of the warm-up
EXPECTED_RATE = 1.3  # of that of the warm-up: below the shortest duration, a run is invalid
SHORTEST_NS = 50_000
# A service that fails every request would make a closed loop last for hours.
LONGEST_DURATIONS = 10


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


class ClientFigures(msgspec.Struct, frozen=True, kw_only=True, tag="client"):
    """The same run by the clock of the client.

    Attributes:
        queries: Number of queries.
        images: Number of images sent.
        failed: Number of images without a good answer.
        errors: Kind of failure -> number of images.
        good_per_s: Good answers over the time from the first query to the last answer.
        latency: From LoadGen's call to the last byte of the query's last answer.
        service: From the send to the last byte, of each image.
        hand_over: From LoadGen's call to the send, of each image: the client's own delay, and in
            offline the wait for the images before it.
        gone: Whether the service stopped answering, which ended the run.
    """

    queries: int
    images: int
    failed: int
    errors: dict[str, int]
    good_per_s: float
    latency: Latency
    service: Latency
    hand_over: Latency
    gone: bool


Told = LoadgenTick | ClientFigures


class _Query(msgspec.Struct):
    issued_ns: int
    left: int
    samples: list[Sample] = msgspec.field(default_factory=list)


class ServiceUnderTest:
    """Sends what LoadGen issues to a service, and tells LoadGen when it is answered.

    LoadGen knows no failed query: one that is never completed hangs the run, and one that is
    completed at its failure would count as a fast answer. A failed one is completed `timeout_s`
    after its issue, as late as any answer could have come; the run has failed all the same.

    Args:
        send: Sends one request.
        bodies: One prepared request per image.
        complete: Tells LoadGen that the image with this id is answered.
        places: Most requests under way at a time; 0: no limit.
        timeout_s: Longest time of one request.

    Attributes:
        queries: What was issued, in order.
        gone: Set when the service does not answer any more.
        failure: Error that no client should raise; None where there was none.
    """

    def __init__(
        self,
        send: Send,
        bodies: Sequence[Body],
        complete: Callable[[int], object],
        *,
        places: int,
        timeout_s: float,
    ) -> None:
        self.queries: list[_Query] = []
        self.gone = asyncio.Event()
        self.failure: BaseException | None = None
        self.done = self.failed = 0
        self._send, self._bodies, self._complete = send, bodies, complete
        self._places, self._timeout_s = places, timeout_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[_Query, int, int]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = False

    def issue(self, samples: Iterable[Any]) -> None:
        """Take a query; called by LoadGen's thread, which goes on at once."""
        issued_ns = perf_counter_ns()
        wanted = [(one.id, one.index) for one in samples]
        self._loop.call_soon_threadsafe(self._begin, wanted, issued_ns)

    def _begin(self, wanted: Sequence[tuple[int, int]], issued_ns: int) -> None:
        query = _Query(issued_ns, len(wanted))
        self.queries.append(query)
        self._waiting.extend((query, number, index) for number, index in wanted)
        self._fill()

    def _fill(self) -> None:
        """Send what waits, as far as there are places."""
        while self._waiting and not (self._places and len(self._tasks) >= self._places):
            task = self._loop.create_task(self._one(*self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (failure := task.exception()) is not None:  # LoadGen would wait for this query for ever
            self.failure = failure
            self.gone.set()
        self._fill()

    async def _one(self, query: _Query, number: int, index: int) -> None:
        sample = await self._send(self._bodies[index], None)
        query.samples.append(sample)
        self.done += 1
        if sample.error:
            self.failed += 1
            if sample.error in (CONNECT, DISCONNECT):
                self._ask_again(self._bodies[index])
            left_s = self._timeout_s - (perf_counter_ns() - query.issued_ns) / 1e9
            self._loop.call_later(max(0.0, left_s), self._complete, number)
        else:
            self._complete(number)

    def _ask_again(self, body: Body) -> None:
        """Find out whether a service that broke a connection is gone."""

        async def ask() -> None:
            before = self.done - self.failed
            await asyncio.sleep(GIVE_UP_S)
            sample = await self._send(body, None)
            self._asking = False
            if sample.error in (CONNECT, DISCONNECT) and before == self.done - self.failed:
                self.gone.set()

        if not self._asking:
            self._asking = True
            self._asked = self._loop.create_task(ask())

    def figures(self) -> ClientFigures:
        """Figures of all that was recorded."""
        samples = [one for query in self.queries for one in query.samples]
        whole = [one for one in self.queries if len(one.samples) == one.left]
        good = [one for one in whole if not any(sample.error for sample in one.samples)]
        good_samples = [one for one in samples if not one.error]
        failed = len(samples) - len(good_samples)
        waited = [
            (sample.start_ns - query.issued_ns) / 1e6
            for query in self.queries
            for sample in query.samples
        ]
        begin_ns = min((one.issued_ns for one in self.queries), default=0)
        end_ns = max((one.end_ns for one in samples), default=begin_ns)
        return ClientFigures(
            queries=len(self.queries),
            images=len(samples),
            failed=failed,
            errors=dict(Counter(one.error for one in samples if one.error)),
            good_per_s=rate_per_s(len(good_samples), (end_ns - begin_ns) / 1e9),
            latency=latency(
                [(max(s.end_ns for s in one.samples) - one.issued_ns) / 1e6 for one in good],
                len(self.queries) - len(good),
            ),
            service=latency([one.service_ms for one in good_samples], failed),
            hand_over=latency(waited),
            gone=self.gone.is_set(),
        )


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
    made.min_query_count = options.queries or FEWEST_QUERIES[scenario]
    made.qsl_rng_seed = options.library_seed
    made.sample_index_rng_seed = options.sample_seed
    made.schedule_rng_seed = options.schedule_seed
    fraction = (options.percentile or PERCENTILE.get(scenario, USUAL_PERCENTILE)) / 100
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
            made.server_target_latency_ns = round(1e6 * (options.latency_ms or 0))
            made.server_target_qps = options.rate_hz
        case "offline":
            made.offline_expected_qps = options.rate_hz or EXPECTED_RATE * rate_hz
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
