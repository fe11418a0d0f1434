"""CPU time and latency of refusals, beside what servers that do nothing else need for the bytes.

python benchmarks/refusals.py [--rate 120] [--seconds 5] [--rounds 5] [--against COMMIT]

Each server answers every POST of a JPEG of 104 KB with 503, on connections that stay open:

- ``service``: Seatrial, which has a request already and room for no other.
- ``before``: the same of another commit, with ``--against``.
- ``uvicorn``: an ASGI application of one fixed answer, on uvicorn with uvloop and httptools.
- ``protocol``: an asyncio protocol on uvloop that looks for the end of the head and counts bytes.
- ``sockets``: system calls into one buffer: what the kernel costs, and a little Python.

They run side by side and take turns under a paced load, one request at a time: the servers on one
core, the client on another, since neighbours of the machine may slow one of them alone. The CPU
time is that of the server's processes, in user and kernel mode, with what they do without a request
(``idle_ms_per_s``); figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure
import numpy as np
import psutil
import uvloop
from against_commit import checkout

from seatrial.deployment import CoreLayout, Deployment, Limits, Server
from seatrial.serve.address import free_port
from seatrial.serve.process import ServiceProcess
from seatrial.serve.service_folder import write_service

BODY_BYTES = 104_000
CONNECTIONS = 4
IDLE_S = 3.0
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\nretry-after: 1\r\n\r\n{}"
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
PIECE_BYTES = 256 * 1024
PLAIN = """model = "model"
engine = "null"
layout = {{workers = 1}}
limits = {{queue = 1, body_s = 3600.0, deadline_s = 3600.0}}
server = {{port = {port}}}
"""


# The servers that do nothing else, each in a process of its own.
async def application(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that refuses everything."""
    if scope["type"] == "http":
        headers = [(b"content-length", b"2"), (b"retry-after", b"1")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


def serve_uvicorn(port: int) -> None:
    """Uvicorn, as fast as it is."""
    import uvicorn

    config = uvicorn.Config(
        application, port=port, loop="uvloop", http="httptools", log_config=None, lifespan="off",
        access_log=False, server_header=False, date_header=False,
    )  # fmt: skip
    uvicorn.Server(config).run()


class Drops(asyncio.BufferedProtocol):
    """Refuses at the end of a head, and drops the body."""

    room = memoryview(bytearray(PIECE_BYTES))

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self._transport = transport

    def get_buffer(self, hint: int) -> memoryview:
        """The buffer of all connections: nothing in it is kept."""
        return self.room

    def buffer_updated(self, count: int) -> None:
        """Bytes of a head, or of a body."""
        if self._left:
            self._left -= count
            return
        self._head += self.room[:count]
        head, end, body = self._head.partition(b"\r\n\r\n")
        if end:
            found = LENGTH.search(head)
            assert found is not None
            self._left, self._head = int(found[1]) - len(body), b""
            self._transport.write(REFUSED)


def serve_protocol(port: int) -> None:
    """An asyncio protocol on uvloop."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Drops, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(serve())


def serve_sockets(port: int) -> None:
    """Blocking reads of one connection at a time, as soon as there is something to read."""
    room, waiting = memoryview(bytearray(PIECE_BYTES)), select.epoll()
    with socket.create_server(("127.0.0.1", port)) as listener:
        connections = {listener.fileno(): listener}
        waiting.register(listener, select.EPOLLIN)
        while True:
            for number, _ in waiting.poll():
                one = connections[number]
                if one is listener:
                    one = listener.accept()[0]
                    connections[one.fileno()] = one
                    waiting.register(one, select.EPOLLIN)
                else:
                    stays = False
                    with contextlib.suppress(ConnectionError):  # the client is gone
                        stays = refuse(one, room)
                    if not stays:
                        connections.pop(number).close()


def refuse(connection: socket.socket, room: memoryview) -> bool:
    """Answer a request and read it; false where the client is gone."""
    count = connection.recv_into(room)
    if not count:
        return False
    head, end, _ = bytes(room[:4096]).partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    assert end
    assert found is not None
    connection.sendall(REFUSED)
    left = len(head) + len(end) + int(found[1]) - count
    while left:
        # The next request may be behind it: its client has the answer.
        count = connection.recv_into(room, min(left, len(room)))
        if not count:
            return False
        left -= count
    return True


BARE = {"uvicorn": serve_uvicorn, "protocol": serve_protocol, "sockets": serve_sockets}


@contextlib.contextmanager
def bare(kind: str) -> Iterator[tuple[int, int]]:
    """Port and process id of one of `BARE`."""
    port = free_port("127.0.0.1")
    process = subprocess.Popen([sys.executable, __file__, "--bare", kind, "--port", str(port)])
    try:
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def full_service(tree: Path) -> Iterator[tuple[int, int]]:
    """Port and process id of a service of a tree, with one request that never arrives in it."""
    limits = Limits(queue=1, body_s=3600.0, deadline_s=3600.0, longest_deadline_s=3600.0)
    server = Server(port=free_port("127.0.0.1"))
    layout = CoreLayout(workers=1)
    deployment = Deployment("model", engine="null", layout=layout, limits=limits, server=server)
    with (
        tempfile.TemporaryDirectory(prefix="seatrial-benchmark-") as scratch,
        socket.socket() as held,
    ):
        artifact = measure.open_artifact()
        folder = write_service(Path(scratch) / "service", artifact, deployment)
        # Another commit may not know all that is written there.
        (folder / "deployment.toml").write_text(PLAIN.format(port=server.port))
        env = {**os.environ, "PYTHONPATH": str(tree / "src")}
        log = Path(scratch) / "service.log"
        with ServiceProcess(folder, deployment, env, log) as service:
            measure.hold(held, server.port)
            time.sleep(0.5)
            yield server.port, service.process.pid


def cpu_ns(pid: int) -> int:
    """CPU time of a process and its descendants, as the scheduler counts it."""
    root = psutil.Process(pid)
    return sum(
        int(task.read_text().split()[0])
        for one in (root, *root.children(recursive=True))
        for task in Path(f"/proc/{one.pid}/task").glob("*/schedstat")
    )


def kernel_s(pid: int) -> float:
    """CPU time of the same in kernel mode, seconds."""
    root = psutil.Process(pid)
    return float(sum(one.cpu_times().system for one in (root, *root.children(recursive=True))))


def keep_to(core: int, pid: int) -> None:
    """Keep all threads of a process and its descendants to one core."""
    root = psutil.Process(pid)
    for one in (root, *root.children(recursive=True)):
        for task in os.listdir(f"/proc/{one.pid}/task"):
            os.sched_setaffinity(int(task), {core})


@dataclass
class Figures:
    """Rounds of one server."""

    cpu_ms: list[float] = field(default_factory=list)
    kernel_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)


def paced(port: int, request: bytes, rate_hz: float, count: int) -> list[float]:
    """Milliseconds of so many refusals, one after the other, from the send to the whole answer."""
    taken = []
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(CONNECTIONS)
        ]
        for one in connections:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.perf_counter()
        for number in range(count):
            due += 1 / rate_hz
            time.sleep(max(0.0, due - time.perf_counter()))
            one = connections[number % CONNECTIONS]
            start = time.perf_counter()
            one.sendall(request)
            answer = one.recv(4096)
            while missing(answer):
                answer += one.recv(4096)
            taken.append(1e3 * (time.perf_counter() - start))
            assert answer.startswith(b"HTTP/1.1 503 "), answer
    return taken


def missing(answer: bytes) -> bool:
    """Whether there is more of an answer to come."""
    head, end, body = answer.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    return not end or found is None or len(body) < int(found[1])


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=120.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against")
    parser.add_argument("--bare", choices=BARE, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        BARE[options.bare](options.port)
        return
    measure.need_shared()
    head = b"POST /detect HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nContent-Type: image/jpeg\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % BODY_BYTES + bytes(BODY_BYTES)
    count = max(1, round(options.rate * options.seconds))
    with contextlib.ExitStack() as stack:
        servers = {"service": stack.enter_context(full_service(measure.ROOT))}
        if options.against:
            folder = measure.ROOT / "run" / "before"
            tree = stack.enter_context(checkout(options.against, folder))
            servers["before"] = stack.enter_context(full_service(tree))
        servers |= {kind: stack.enter_context(bare(kind)) for kind in BARE}
        rows = {name: Figures() for name in servers}
        client, *cores = sorted(os.sched_getaffinity(0))
        for _, pid in servers.values():
            keep_to(cores[0] if cores else client, pid)
        os.sched_setaffinity(0, {client})
        idle = {}
        for name, (_, pid) in servers.items():
            begun_ns = cpu_ns(pid)
            time.sleep(IDLE_S)
            idle[name] = (cpu_ns(pid) - begun_ns) / 1e6 / IDLE_S
        for port, _ in servers.values():
            paced(port, request, options.rate, CONNECTIONS * 4)
        for number in range(options.rounds):
            order = list(servers) if number % 2 == 0 else list(reversed(servers))
            for name in order:
                port, pid = servers[name]
                begun_ns, begun_kernel_s = cpu_ns(pid), kernel_s(pid)
                rows[name].latency_ms += paced(port, request, options.rate, count)
                rows[name].cpu_ms.append((cpu_ns(pid) - begun_ns) / 1e6 / count)
                rows[name].kernel_ms.append(1e3 * (kernel_s(pid) - begun_kernel_s) / count)
    figures: dict[str, Any] = {"rate_hz": options.rate, "body_bytes": BODY_BYTES}
    for name, row in rows.items():
        p50, p99 = np.quantile(row.latency_ms, [0.5, 0.99])
        cpu_ms = statistics.median(row.cpu_ms)
        figures[name] = {
            "cpu_ms": round(cpu_ms, 4),
            "kernel_ms": round(statistics.median(row.kernel_ms), 4),
            "idle_ms_per_s": round(idle[name], 2),
            "core_share": round(cpu_ms * options.rate / 1e3, 4),
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
            "of_service": round(
                statistics.median(
                    one / own for one, own in zip(row.cpu_ms, rows["service"].cpu_ms, strict=True)
                ),
                3,
            ),
        }
    measure.save("refusals", figures)


if __name__ == "__main__":
    main()
