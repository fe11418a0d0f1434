"""One request at a time, in several ways that take turns within each iteration.

What a call costs depends on what happened just before it: caches, sleeping cores, where the kernel
puts a thread. Phases of seconds, one after the other, compare such states and not the ways. Here
each way has a few calls in a row, in an order drawn anew in each iteration, of which the first are
not counted; differences are taken within the iteration.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import re
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seatrial.api.client import Client
from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Thresholds
from seatrial.detect.answer import answer
from seatrial.detect.clock import Clock
from seatrial.detect.detector import Detected, Detector
from seatrial.detect.opening import open_detector

BURST, SETTLES = 6, 2  # calls in a row, and how many of them are not counted
DRAWS = 2000  # of the bootstrap
ENGINE = ("infer", "decode", "postprocess")  # all else is overhead
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"

# Takes an encoded image; gives the times of the call by stage, ms: ``latency`` is all of it.
Way = Callable[[bytes], dict[str, float]]
# Calls of a way, iteration by iteration.
Calls = list[list[dict[str, float]]]


def by_turns(
    ways: Mapping[str, Way],
    pictures: Sequence[bytes],
    seconds: float,
    used_ms: Callable[[], dict[str, float]] = dict,
) -> tuple[dict[str, Calls], dict[str, dict[str, float]]]:
    """Call all ways in each iteration, on the same pictures, until the time is over.

    Args:
        ways: What takes turns.
        pictures: Encoded images, of which each iteration draws some.
        seconds: How long.
        used_ms: CPU time that each of some processes has used, ms.

    Returns:
        The calls of each way; and CPU time of each process for a call of each way, ms: whether one
        that has nothing to do takes the cores of the others.
    """
    order = random.Random(0)
    found: dict[str, Calls] = {name: [] for name in ways}
    used: dict[str, dict[str, float]] = {name: dict.fromkeys(used_ms(), 0.0) for name in ways}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        names = order.sample(list(ways), len(ways))
        images = order.choices(pictures, k=BURST)
        for name in names:
            before = used_ms()
            found[name].append([ways[name](image) for image in images][SETTLES:])
            for process, now in used_ms().items():
                used[name][process] += now - before[process]
    calls = {name: BURST * len(bursts) for name, bursts in found.items()}
    each = {way: {key: ms / calls[way] for key, ms in row.items()} for way, row in used.items()}
    return found, each


def cpu_ms(pids: Sequence[int]) -> float:
    """CPU time of the threads that some processes have now, ms, to the nanosecond."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def medians_ms(calls: Calls) -> dict[str, float]:
    """Median of each stage over all calls."""
    rows = [row for burst in calls for row in burst]
    return {stage: statistics.median(row[stage] for row in rows) for stage in rows[0]}


def difference_ms(
    calls: Calls, base: Calls, stage: str = "latency", base_stage: str = ""
) -> dict[str, float]:
    """Median over the iterations of the paired difference, and its 95 % interval (bootstrap)."""
    base_stage = base_stage or stage
    pairs = np.array(
        [
            statistics.median(a[stage] - b[base_stage] for a, b in zip(one, other, strict=True))
            for one, other in zip(calls, base, strict=True)
        ]
    )
    drawn = np.random.default_rng(0).choice(pairs, (DRAWS, len(pairs)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return {"median": float(np.median(pairs)), "low": float(low), "high": float(high)}


def in_process(detector: Detector, gap_s: Callable[[], float] = lambda: 0.0) -> Way:
    """The detector called in this process, after it was idle for some time."""

    def way(image: bytes) -> dict[str, float]:
        if gap := gap_s():
            time.sleep(gap)
        begin = time.perf_counter()
        found = detector.detect(image, Thresholds())
        return {"latency": 1e3 * (time.perf_counter() - begin), **found.stages_ms}

    return way


def over_http(url: str) -> tuple[Way, Callable[[], None]]:
    """A client of a few lines: one connection, one write, no parser; and how to close it."""
    host, port = url.removeprefix("http://").split(":")
    line = socket.create_connection((host, int(port)))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    decoder = msgspec.json.Decoder()

    def way(image: bytes) -> dict[str, float]:
        begin = time.perf_counter()
        line.sendall(
            b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: %d\r\n\r\n" % len(image) + image
        )
        head, body = _message(line)
        latency_ms = 1e3 * (time.perf_counter() - begin)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {(head + body)[:300]!r}")
        return with_overhead(latency_ms, decoder.decode(body)["timing_ms"])

    return way, line.close


def by_client(url: str) -> tuple[Way, Callable[[], None]]:
    """`seatrial.Client`, and how to close it; its stages are not known to its caller."""
    client = Client(url)

    def way(image: bytes) -> dict[str, float]:
        begin = time.perf_counter()
        client.detect(image)
        return {"latency": 1e3 * (time.perf_counter() - begin)}

    return way, client.close


def with_overhead(latency_ms: float, timing_ms: Mapping[str, float]) -> dict[str, float]:
    """The times of a request as its client and its service saw it.

    ``outside`` is what the service's clock does not see: the kernel's part, the client's, what the
    event loop does before the head is read and after the answer is made. ``overhead`` is all but
    decoding, the engine and postprocessing.
    """
    stages = {stage: value for stage, value in timing_ms.items() if stage != "total"}
    outside = latency_ms - timing_ms["total"]
    overhead = latency_ms - sum(stages[stage] for stage in ENGINE)
    return {"latency": latency_ms, **stages, "outside": outside, "overhead": overhead}


def _message(line: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one HTTP message; the head is empty where the line was closed."""
    data = b""
    while (end := data.find(_END)) < 0:
        if not (piece := line.recv(2**18)):
            return b"", b""
        data += piece
    head, body = data[: end + len(_END)], bytearray(data[end + len(_END) :])
    found = _LENGTH.search(head)
    left = int(found[1]) - len(body) if found else 0
    while left > 0:
        piece = line.recv(left)
        if not piece:
            return b"", b""
        body += piece
        left -= len(piece)
    return head, bytes(body)


@contextlib.contextmanager
def plain_server(artifact: Artifact, deployment: Deployment) -> Iterator[tuple[str, int]]:
    """Address and process of the least server that there can be, in a process of its own.

    One thread, blocking reads, the same detector, the same body of the answer: no event loop, no
    admission, no other thread. What it takes beside the detector, the machine takes.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_plainly, args=(artifact, deployment, theirs))
    process.start()
    try:
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        process.kill()
        process.join()


def _serve_plainly(artifact: Artifact, deployment: Deployment, ready: Connection) -> None:
    detector = open_detector(artifact, deployment)
    labels = artifact.manifest.labels
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ready.send(f"http://127.0.0.1:{listening.getsockname()[1]}")
        line, _ = listening.accept()
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            head, image = _message(line)
            if not head:
                return
            clock = Clock()
            found: Detected = detector.detect(image, Thresholds())
            for stage, value in found.stages_ms.items():
                clock.stages_ms[stage] = value
            clock.lap("encode")
            timing: dict[str, Any] = {**found.stages_ms}
            timing["total"] = 1e3 * (clock.end - clock.start)
            body = msgspec.json.encode(answer(found, labels, timing))
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
