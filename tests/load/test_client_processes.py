"""One load from several client processes: the same requests, all samples, and no process left."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvloop
from yarl import URL

from child_processes import gone, running
from seatrial.client.credentials import Credentials
from seatrial.errors import GeneratorFailed, InvalidConfig
from seatrial.load.arrivals import Arrivals, ClosedLoop, ConstantRate, Poisson
from seatrial.load.client_processes import (
    MergedDueWindow,
    MergedWindow,
    run_load_in_processes,
)
from seatrial.load.run import plan
from seatrial.load.samples import Sample
from seatrial.load.schedule import image_order
from seatrial.load.target import Body
from seatrial.load.window import Load, Recording, Window

pytestmark = [pytest.mark.usefixtures("time_limit"), pytest.mark.slow]
IMAGES = 5
BODIES = [Body(b"%d" % n * (n + 1), {"Content-Type": "image/jpeg"}) for n in range(IMAGES)]


class Counting(ThreadingHTTPServer):
    """Answers with as many detections as the number of the image, and notes who asked.

    Attributes:
        asked: Port of the client and number of the image, in order.
        tokens: Headers with tokens.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.tokens: set[str | None] = set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = URL(f"http://127.0.0.1:{self.server_address[1]}/detect")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Counting

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        number = len(body) - 1
        self.server.asked.append((self.client_address[1], number))
        self.server.tokens.add(self.headers["Authorization"])
        said = b'{"detections": [%b]}' % b",".join([b"0"] * number)
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Counting]:
    with Counting() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Watcher:
    """Observer that writes down what it is told."""

    def __init__(self) -> None:
        self.pids: Sequence[int] = ()
        self.calls: list[str] = []

    def clients(self, pids: Sequence[int]) -> None:
        self.pids = pids

    def opened(self) -> None:
        self.calls.append("opened")

    def tick(self) -> None:
        self.calls.append("tick")

    def closed(self) -> None:
        self.calls.append("closed")


def send(
    count: int,
    url: URL,
    arrivals: Arrivals,
    on_tick: Callable[[Window], object] = lambda _: None,
    watcher: Watcher | None = None,
    credentials: Credentials | None = None,
    bodies: Sequence[Body] = BODIES,
    **options: Any,
) -> Recording:
    load = Load(arrivals=arrivals, **{"measure_s": 1.0, "warmup_s": 0.2} | options)
    job = run_load_in_processes(
        count, url, bodies, load, watcher or Watcher(), on_tick, credentials or Credentials()
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(job)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_send_the_requests_of_one(service: Counting, count: int) -> None:
    load = Load(arrivals=Poisson(100.0), measure_s=1.0, warmup_s=0.2, schedule_seed=7, image_seed=3)
    watcher = Watcher()
    found = send(
        count, service.url, load.arrivals, watcher=watcher, schedule_seed=7, image_seed=3,
        credentials=Credentials(token="t0k"),
    )  # fmt: skip
    drawn = plan(load.arrivals, load, IMAGES)  # type: ignore[arg-type]
    pairs = list(zip(drawn.due_s.tolist(), drawn.images.tolist(), strict=True))
    begin_ns = found.open_ns - round(0.2e9)
    # Each at its time, with its image: the service answers with the number of it.
    sent = sorted(((one.due_ns or 0) - begin_ns, one.detections) for one in found.samples)
    wanted = [(due_s * 1e9, image) for due_s, image in pairs if due_s >= 0.2]
    assert [image for _, image in sent] == [image for _, image in wanted]
    assert [ns for ns, _ in sent] == pytest.approx([ns for ns, _ in wanted], abs=10)
    assert found.warmup_requests == len(pairs) - len(wanted)
    assert len(service.asked) == len(pairs)
    assert all(one.start_ns >= (one.due_ns or 0) for one in found.samples)
    assert (found.ended, found.stragglers) == ("time", ())
    assert service.tokens == {"Bearer t0k"}
    assert len(watcher.pids) == (count if count > 1 else 0)
    assert watcher.calls.count("opened") == watcher.calls.count("closed") == 1
    assert [one.end_ns for one in found.samples] == sorted(one.end_ns for one in found.samples)


def test_a_number_of_requests_ends_an_open_loop(service: Counting) -> None:
    found = send(2, service.url, ConstantRate(100.0), requests=30, measure_s=60.0)
    assert (len(found.samples), found.ended) == (30, "requests")


@pytest.mark.parametrize(("count", "processes"), [(2, 2), (9, 3)])
def test_sessions_are_dealt_out(service: Counting, count: int, processes: int) -> None:
    watcher = Watcher()
    found = send(
        count, service.url, ClosedLoop(sessions=3), watcher=watcher, requests=60, measure_s=60.0
    )
    assert len(watcher.pids) == processes
    assert found.ended == "requests"
    assert len(found.samples) >= 60
    assert all(found.open_ns <= one.end_ns <= found.close_ns for one in found.samples)
    assert all(one.start_ns <= found.close_ns < one.end_ns for one in found.stragglers)
    assert len(found.stragglers) <= 3
    # Sessions have as many connections, and each its own order of images; those of one process
    # take each other's connections.
    ports = {port for port, _ in service.asked}
    assert len(ports) == 3
    sent = [[number for one, number in service.asked if one == port][:10] for port in ports]
    orders = [image_order(IMAGES, 0, session) for session in range(3)]
    if processes == 3:
        assert sorted(sent) == sorted([next(order) for _ in range(10)] for order in orders)


def test_time_ends_a_closed_loop(service: Counting) -> None:
    found = send(2, service.url, ClosedLoop(sessions=2), measure_s=0.3)
    assert found.ended == "time"
    assert found.close_ns - found.open_ns >= 0.299e9
    assert found.warmup_requests >= 1


def test_a_process_that_dies_is_an_error(service: Counting) -> None:
    watcher = Watcher()

    def kill(window: Window) -> None:
        if window.samples:
            os.kill(watcher.pids[1], signal.SIGKILL)

    with pytest.raises(GeneratorFailed, match=r"client process 2 .* exit code -9"):
        send(3, service.url, ConstantRate(100.0), kill, watcher, measure_s=60.0)
    assert len(watcher.pids) == 3
    assert all(gone(pid) for pid in watcher.pids)


def test_an_error_within_a_process_is_told(tmp_path: Any) -> None:
    watcher, file = Watcher(), tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(GeneratorFailed, match=r"client process \d .*InvalidConfig.*ca\.pem"):
        send(
            2, URL("https://127.0.0.1:1/"), ConstantRate(100.0), watcher=watcher, measure_s=60.0,
            credentials=Credentials(ca_file=file),
        )  # fmt: skip
    assert all(gone(pid) for pid in watcher.pids)


def test_an_error_of_the_observer_ends_all(service: Counting) -> None:
    class Failing(Watcher):
        def opened(self) -> None:
            raise KeyError("observer")

        def tick(self) -> None:
            raise KeyError("observer")

    watcher = Failing()
    with pytest.raises(KeyError, match="observer"):
        send(2, service.url, ConstantRate(100.0), watcher=watcher, measure_s=60.0)
    assert watcher.pids
    assert all(gone(pid) for pid in watcher.pids)


def test_a_service_that_is_gone_ends_the_load() -> None:
    found = send(2, URL("http://127.0.0.1:1/"), ConstantRate(200.0), measure_s=60.0)
    assert found.ended == "unreachable"
    assert {one.error for one in found.samples} == {"connect"}
    assert all((one.due_ns or 0) < found.close_ns for one in found.samples)


LOAD = """
import asyncio, sys
from yarl import URL
from seatrial.load.arrivals import ConstantRate
from seatrial.load.client_processes import run_load_in_processes
from seatrial.load.target import Body
from seatrial.load.window import Load

class Watcher:
    def clients(self, pids):
        print(*pids, flush=True)
    def opened(self): pass
    tick = closed = opened

load = Load(arrivals=ConstantRate(50.0), measure_s=600.0)
job = run_load_in_processes(2, URL(sys.argv[1]), [Body(b"0", {})], load, Watcher(), lambda _: None)
asyncio.run(job)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_no_process_outlives_the_one_that_started_it(
    service: Counting, number: signal.Signals
) -> None:
    with running(LOAD, str(service.url)) as (process, pids):
        assert len(pids) == 2
        os.kill(process.pid, number)
        process.wait()
        assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize(
    ("count", "arrivals"),
    [(0, ConstantRate(1.0)), (2, ClosedLoop(sessions=2, once=True))],
    ids=["none", "once"],
)
def test_a_number_that_cannot_be_is_an_error(count: int, arrivals: Arrivals) -> None:
    with pytest.raises(InvalidConfig):
        send(count, URL("http://127.0.0.1:1/"), arrivals)


def sample(start_ns: int, end_ns: int, due_ns: int | None = None) -> Sample:
    return Sample(start_ns=start_ns, end_ns=end_ns, status=200, due_ns=due_ns)


def test_late_news_count_by_their_times() -> None:
    async def told() -> Recording:
        load = Load(arrivals=ClosedLoop(sessions=2), measure_s=60.0, warmup_s=0.0, requests=3)
        window = MergedWindow(load, Watcher(), 0)
        window.add(sample(1, 2))  # the warm-up ends with its first request
        begin_ns = window.open_ns
        assert begin_ns
        window.add(sample(3, 4))  # ended before, told after
        late = sample(begin_ns, begin_ns + 9)
        for one in (late, sample(begin_ns, begin_ns + 5), sample(begin_ns, begin_ns + 7)):
            window.add(one)
        assert window.closed.is_set()
        end_ns = window.close_ns
        window.add(sample(begin_ns, end_ns))  # in time, and one more than was asked for
        window.add(sample(end_ns, end_ns + 1))
        window.add(sample(end_ns + 1, end_ns + 2))  # sent after the end
        return window.recording()

    found = asyncio.run(told())
    begin_ns, end_ns = found.open_ns, found.close_ns
    ends = [one.end_ns for one in found.samples]
    assert ends == [begin_ns + 5, begin_ns + 7, begin_ns + 9, end_ns]
    assert [one.end_ns for one in found.stragglers] == [end_ns + 1]
    assert (found.warmup_requests, found.ended) == (2, "requests")


def test_what_was_due_after_an_early_end_does_not_count() -> None:
    async def told() -> Recording:
        import numpy as np

        load = Load(arrivals=ConstantRate(1.0), measure_s=60.0, warmup_s=0.0)
        window = MergedDueWindow(load, Watcher(), np.arange(60.0))
        window.close("unreachable")
        window.add(sample(0, 1, window.close_ns - 1))
        window.add(sample(0, 2, window.close_ns))
        window.add(sample(0, 3, window.begin_ns - 1))
        return window.recording()

    found = asyncio.run(told())
    assert [one.end_ns for one in found.samples] == [1]
    assert (found.warmup_requests, found.ended) == (1, "unreachable")
