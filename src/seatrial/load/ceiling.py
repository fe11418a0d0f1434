"""Own limit of the client of loads on a machine: the rate that it sends in time, and how exactly.

It is measured against a null server (`seatrial.load.null_server`). A load that needs a large part
of it measures the client as much as the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from seatrial import __version__
from seatrial.load.arrivals import Arrivals, ClosedLoop, Poisson
from seatrial.load.null_server import NullServer, null_server
from seatrial.load.run import run_load
from seatrial.load.samples import Sample
from seatrial.load.statistics import percentile
from seatrial.load.target import Body, Target, endpoint
from seatrial.load.window import Load, Recording
from seatrial.progress import Progress, silent
from seatrial.system.files import write_atomically
from seatrial.system.hardware import cpu
from seatrial.system.versions import versions

LATE_MS = 2.0  # a request that is sent later than this after it was due is late
LATE_SHARE = 0.01  # of the requests, that may be late: the 99th percentile
WARNED_SHARE = 0.5  # of the ceiling
PROBE_S, TRIAL_S, LONGEST_TRIAL_S, WARMUP_S = 0.3, 0.6, 1.5, 0.15
BUDGET_S = 8.0  # of all trials; the first ones are done whatever they take
# Requests of a trial, where it is not to take longer than the longest: `percentile` wants 662.
ENOUGH = 700
MEASURING = "measuring the client's own limit, once on a machine"
STEP_UP, STEP_DOWN = 1.25, 2.0  # from one rate to the next
TIMING_HZ = 500.0
BODIES, BODIES_BYTES = 16, 64 * 2**20  # different ones, as no cache of a processor holds them
SMALLEST_CLASS_BYTES = 1024
BUSY_SHARE = 0.25  # of the cores, by the load average: of a machine with other work
PACKAGES = ("httptools", "uvloop", "msgspec")


class Lateness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How late requests were sent after they were due, in a trial of the client.

    Attributes:
        rate_hz: Rate of the trial, requests per second.
        requests: Number of requests.
        p50_ms: Median.
        p99_ms: 99th percentile; None where there are too few requests for it.
        max_ms: Largest.
        late: Number of requests that were later than `LATE_MS`.
        failed: Number of requests without an answer.
        cpu_ms: CPU time of the client for a request.
    """

    rate_hz: float
    requests: int
    p50_ms: float
    p99_ms: float | None
    max_ms: float
    late: int
    failed: int
    cpu_ms: float

    @property
    def holds(self) -> bool:
        """Whether the client kept to its schedule: few requests were late, and none failed."""
        return self.requests > 0 and not self.failed and self.late <= LATE_SHARE * self.requests


class Ceiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limit of one client process on this machine.

    Attributes:
        rate_hz: Highest rate of Poisson arrivals at which it kept to its schedule; 0 where it did
            at none.
        timing: Timing error: lateness at a small rate.
        trials: All trials, in their order; each rate that does not hold was tried twice.
        cpu_ms: CPU time of the client for a request at `rate_hz`.
        body_bytes: Size of a request's body.
        cpu: Model of the processor.
        cores: Usable cores.
        pinned: Whether client and server had cores of their own.
        load_1min: Load average before.
        versions: Versions of Seatrial, Python and the client's packages.
    """

    rate_hz: float
    timing: Lateness
    trials: tuple[Lateness, ...]
    cpu_ms: float
    body_bytes: int
    cpu: str
    cores: int
    pinned: bool
    load_1min: float
    versions: dict[str, str]

    @property
    def kept(self) -> bool:
        """Whether it is the client's: it also kept to its schedule at a small rate."""
        return bool(self.rate_hz and self.timing.holds)

    def words(self) -> str:
        """The ceiling in one sentence."""
        late, size = self.timing, size_text(self.body_bytes)
        if not self.rate_hz:
            return f"one client process of this machine sends no rate of {size} bodies in time"
        p99 = "" if late.p99_ms is None else f" and {late.p99_ms:.2f} ms in the 99th percentile"
        return (
            f"one client process of this machine sends up to {self.rate_hz:,.0f} requests/s of "
            f"{size} in time; at {late.rate_hz:,.0f}/s it sends "
            f"{late.p50_ms:.2f} ms late in the median{p99}"
        )


class _Unobserved:
    """Observer of a load that nobody watches."""

    def opened(self) -> None:
        """Nothing to do."""

    tick = closed = opened


def measure_ceiling(body_bytes: int, on_progress: Progress = silent) -> Ceiling:
    """Measure the limit of the client, in 5 to 10 seconds; not within a running event loop.

    The machine should have no other work meanwhile. As that can only lower the limit, a rate that
    does not hold is tried once more.

    Args:
        body_bytes: Size of a request's body.
        on_progress: Called before each trial.

    Raises:
        GeneratorFailed: The null server did not start.
    """
    load_1min, processor = os.getloadavg()[0], cpu()
    bodies = _bodies(body_bytes)
    with null_server() as server, _own_cores(server) as pinned, _quiet_collector():
        begun_s = time.monotonic()

        def trial(rate_hz: float) -> Lateness:
            spent_s = time.monotonic() - begun_s
            on_progress(MEASURING, min(int(spent_s), int(BUDGET_S)), int(BUDGET_S), unit="s")
            wanted_s = ENOUGH / rate_hz
            measure_s = min(max(TRIAL_S, wanted_s), LONGEST_TRIAL_S)
            return _lateness(rate_hz, _recorded(server, bodies, Poisson(rate_hz), measure_s))

        alone = _recorded(server, bodies, ClosedLoop(sessions=1), PROBE_S)[0]
        alone_hz = max(10.0, len(alone.samples) / PROBE_S)
        timing = trial(min(TIMING_HZ, alone_hz / 4))
        until_s = time.monotonic() + BUDGET_S
        trials = highest(trial, alone_hz, lambda: time.monotonic() < until_s)
    best = max((one for one in trials if one.holds), key=lambda one: one.rate_hz, default=None)
    return Ceiling(
        rate_hz=0.0 if best is None else best.rate_hz,
        timing=timing,
        trials=tuple(trials),
        cpu_ms=(timing if best is None else best).cpu_ms,
        body_bytes=body_bytes,
        cpu=processor.model,
        cores=processor.cores,
        pinned=pinned,
        load_1min=load_1min,
        versions={
            "seatrial": __version__,
            "python": platform.python_version(),
            **versions(*PACKAGES),
        },
    )


def highest(
    trial: Callable[[float], Lateness], first_hz: float, has_time: Callable[[], bool]
) -> list[Lateness]:
    """Trials that find the highest rate that holds, to about a tenth.

    Args:
        trial: Measures at a rate.
        first_hz: Rate to begin with.
        has_time: Whether there is time for one more rate.
    """
    trials: list[Lateness] = []

    def holds(rate_hz: float) -> bool:
        for _ in range(2):
            trials.append(trial(rate_hz))
            if trials[-1].holds:
                return True
        return False

    rate_hz, up = first_hz, holds(first_hz)
    held_hz, failed_hz = (rate_hz, math.inf) if up else (0.0, rate_hz)
    while has_time() and not 0 < held_hz < failed_hz < math.inf:
        rate_hz = rate_hz * STEP_UP if up else rate_hz / STEP_DOWN
        held_hz, failed_hz = (rate_hz, failed_hz) if holds(rate_hz) else (held_hz, rate_hz)
    while has_time() and failed_hz / STEP_UP**0.5 > held_hz * 1.01 > 0:
        rate_hz = math.sqrt(held_hz * failed_hz)
        held_hz, failed_hz = (rate_hz, failed_hz) if holds(rate_hz) else (held_hz, rate_hz)
    return trials


def _bodies(body_bytes: int) -> list[Body]:
    count = max(2, min(BODIES, BODIES_BYTES // max(1, body_bytes)))
    return [Body(os.urandom(body_bytes), {"Content-Type": "image/jpeg"}) for _ in range(count)]


def _recorded(
    server: NullServer, bodies: list[Body], arrivals: Arrivals, measure_s: float
) -> tuple[Recording, float]:
    """Requests of a load on the null server, and the client's CPU time for one, ms."""
    import uvloop

    load = Load(arrivals=arrivals, measure_s=measure_s, warmup_s=WARMUP_S)
    url = endpoint(Target(server.url))
    begun_s = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        recording = runner.run(run_load(url, bodies, load, _Unobserved(), lambda _: None))
    count = len(recording.samples) + recording.warmup_requests
    return recording, 1e3 * (time.process_time() - begun_s) / max(1, count)


def _lateness(rate_hz: float, measured: tuple[Recording, float]) -> Lateness:
    recording, cpu_ms = measured
    samples = recording.samples
    late_ms = sorted(map(_late_ms, samples))
    return Lateness(
        rate_hz=rate_hz,
        requests=len(samples),
        p50_ms=percentile(late_ms, 0, 0.5).value_ms or 0.0,
        p99_ms=percentile(late_ms, 0, 0.99).value_ms,
        max_ms=late_ms[-1] if late_ms else 0.0,
        late=sum(ms > LATE_MS for ms in late_ms),
        failed=sum(bool(one.error) for one in samples),
        cpu_ms=cpu_ms,
    )


def _late_ms(sample: Sample) -> float:
    return (sample.start_ns - (sample.due_ns or sample.start_ns)) / 1e6


@contextlib.contextmanager
def _own_cores(server: NullServer) -> Iterator[bool]:
    """Keep the null server to one core and this thread to the others, where there are any."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        yield False
        return
    os.sched_setaffinity(server.pid, cores[-1:])
    os.sched_setaffinity(0, cores[:-1])
    try:
        yield True
    finally:
        os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def _quiet_collector() -> Iterator[None]:
    if gc.get_freeze_count():  # a caller did it
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def ceiling_of(path: Path, body_bytes: int, on_progress: Progress = silent) -> Ceiling:
    """The limit of the client on this machine; it is measured once, and kept in a file.

    It is measured anew for another processor, number of cores, version of Python or Seatrial, for
    bodies of another class of sizes (up to 64 KiB, up to 128 KiB, ...), where the file cannot be
    read, and where the machine had other work then and has less now. A limit that was measured is
    reported in words, once. It is not kept where the client was late at a small rate, too: then
    something else held the machine up.

    Args:
        path: File; its folder is made.
        body_bytes: Size of the requests' bodies. The limit is that of the largest of its class.
        on_progress: Called while it is measured, and with what was found.

    Raises:
        GeneratorFailed: The null server did not start.
    """
    largest = size_class(body_bytes)
    processor = cpu()
    key = "; ".join((
        processor.model, f"{processor.cores} cores", f"Python {platform.python_version()}",
        f"seatrial {__version__}", f"up to {size_text(largest)}",
    ))  # fmt: skip
    kept = _read(path)
    known = kept.get(key)
    if known is not None and not _again(known, os.getloadavg()[0]):
        return known
    found = measure_ceiling(largest, on_progress)
    if known is not None and known.rate_hz > found.rate_hz:
        # Other work can only lower it; it is not measured a third time for that of the first.
        found = msgspec.structs.replace(known, load_1min=found.load_1min)
    on_progress(found.words())
    if not found.kept:
        on_progress("the machine was busy with something else: the limit is measured again")
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(kept | {key: found}))
    except OSError as error:
        on_progress(f"the client's own limit is not kept: {path}: {error.strerror}")
    return found


def _again(known: Ceiling, load_1min: float) -> bool:
    """Whether a limit is measured again: the machine had other work, and has less now."""
    return known.load_1min > BUSY_SHARE * known.cores and load_1min < known.load_1min / 2


def _read(path: Path) -> dict[str, Ceiling]:
    """Limits that a file holds; none where it is no such file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Ceiling])
    except (OSError, msgspec.DecodeError, ValueError):
        return {}


def warning_for(ceiling: Ceiling, rate_hz: float, processes: int = 1) -> str:
    """Warning for a run that needs more than half of what its client can do; empty for others.

    Args:
        ceiling: Limit of one client process.
        rate_hz: Highest rate of the run.
        processes: Client processes of the run.
    """
    if rate_hz <= WARNED_SHARE * ceiling.rate_hz * processes:
        return ""
    if not ceiling.kept:
        return (
            "the machine was busy with something else while the client's own limit was measured: "
            f"whether it sends {rate_hz:,.0f} requests/s in time is not known. The report says how "
            "late they were sent"
        )
    clients = "one client process" if processes == 1 else f"{processes} client processes"
    most_hz = ceiling.rate_hz * processes
    text = (
        f"{rate_hz:,.0f} requests/s are more than half of what {clients} can send in time "
        f"({most_hz:,.0f}/s of {size_text(ceiling.body_bytes)}): latencies hold the client's delays"
    )
    needed = math.ceil(rate_hz / (WARNED_SHARE * ceiling.rate_hz))
    if needed > ceiling.cores:
        return f"{text}; this machine is too small for the client"
    return f"{text}; {needed} client processes have room for it"


def size_class(body_bytes: int) -> int:
    """Largest size of the class of a body: a power of two."""
    return max(SMALLEST_CLASS_BYTES, 1 << (max(1, body_bytes) - 1).bit_length())


def size_text(body_bytes: int) -> str:
    """A size in KiB or MiB."""
    kib = body_bytes / 1024
    return f"{kib:.4g} KiB" if kib < 1024 else f"{kib / 1024:.4g} MiB"
