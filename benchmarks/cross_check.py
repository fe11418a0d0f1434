"""Our loads beside wrk, MLPerf LoadGen and perf_analyzer, on the same server.

python benchmarks/cross_check.py closed | open | v2 | stall [--rounds 5] [--seconds 4]

The service is Seatrial with the null engine: HTTP, decoding and JSON, no model. The tools take
turns in each round, with the same JPEGs; figures are medians of the rounds. ``p50 ratio`` is the
tool's median latency over ours of the same round, with the lowest and the highest round. ``by our
clock``: the queries of LoadGen itself, timed by the client that sends them for it. ``client cores``
are taken from the service, which has the same two; they hold the start of a tool's process.

- ``closed``: wrk (`wrk.lua`), LoadGen single-stream and offline, and ours, at 1 and 8 at a time.
- ``open``: LoadGen server and ours, Poisson, at a third of the capacity.
- ``v2``: perf_analyzer and ours in the Open Inference Protocol over HTTP, at 1 and 8 at a time;
  ``--perf-analyzer "WORDS"`` starts it.
- ``stall``: a lane of 20 ms that stands still for a second of 30: our open loop, closed loops of
  ours and of wrk, and the truth of the schedule.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import csv
import json
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
import uvloop
from percentile_truth import SERVICE_S, by_due, schedule_ns, server, stopped, with_stall

from seatrial.bench.loadgen import run_loadgen
from seatrial.bench.loadgen_options import LoadgenOptions, LoadgenScenario
from seatrial.bench.preflight_inference import probe_inference
from seatrial.client.inference_wire import element
from seatrial.deployment import Deployment, Limits
from seatrial.load.arrivals import Arrivals, ClosedLoop, Poisson
from seatrial.load.images import ImageSet, load_images
from seatrial.load.run import run_load
from seatrial.load.target import Body, Target, bodies, endpoint
from seatrial.load.window import Load, Recording

SIZE_HW = (480, 640)
IMAGES = 32
WARMUP_S = 0.5
SCRIPT = Path(__file__).with_name("wrk.lua")
SHARE = 1 / 3  # of the capacity, in the open loop
STALL_AFTER_S, STALL_WINDOW_S = 15.0, 30.0
Row = dict[str, float]


@dataclass
class Check:
    """The service, what it is sent, and for how long.

    Attributes:
        folder: Folder with the images as files, for tools that read them.
    """

    url: str
    folder: Path
    images: ImageSet
    seconds: float

    @property
    def files(self) -> list[Path]:
        """The images as files."""
        return [self.folder / one.name for one in self.images.images]

    def ours(self, arrivals: Arrivals) -> Row:
        """Our load on ``POST /detect``."""
        target = Target(self.url)
        return self._ours(target, bodies(target, self.images.images), arrivals)

    def ours_v2(self, sessions: int) -> Row:
        """Our closed loop in the Open Inference Protocol over HTTP."""
        return self._ours(*self.asked_v2, ClosedLoop(sessions))

    @cached_property
    def asked_v2(self) -> tuple[Target, list[Body]]:
        """The model that takes encoded images, and a request for each image."""
        target = Target(self.url, protocol="v2")
        asked = probe_inference(target, self.images.images, 30.0, 30.0)
        service, prepared = asyncio.run(asked)
        return service.target, prepared

    def _ours(self, target: Target, prepared: Sequence[Body], arrivals: Arrivals) -> Row:
        plan = Load(arrivals=arrivals, measure_s=self.seconds, warmup_s=WARMUP_S)
        recording = put(target, prepared, plan)
        return row(measure.throughput(recording), [one.latency_ms for one in recording.samples])

    def wrk(self, connections: int) -> Row:
        """The closed loop of wrk, by its own figures."""
        return wrk(f"{self.url}/detect", connections, self.seconds, self.files)

    def loadgen(self, scenario: LoadgenScenario, **options: Any) -> Row:
        """LoadGen, by its own figures."""
        given = LoadgenOptions(
            images=str(self.folder), duration_s=self.seconds, warmup_s=WARMUP_S, **options
        )
        with tempfile.TemporaryDirectory(prefix="seatrial-loadgen-") as folder:
            found = run_loadgen(Target(self.url), scenario, given, Path(folder), images=self.images)
        if not found.valid:
            sys.exit(f"LoadGen {scenario}: {found.reasons}")
        figures = {"per_s": found.loadgen.rate_per_s or 0.0}
        if scenario != "offline":  # whose latencies count from the one query's issue
            ms = found.loadgen.percentiles_ms
            figures |= {"p50_ms": ms["p50"], "p99_ms": ms["p99"]}
            own = found.client.latency.percentiles["p50"].value_ms  # of the same queries
            figures["p50_ms by our clock"] = own or 0.0
        return figures

    def perf_analyzer(self, words: Sequence[str], sessions: int) -> Row:
        """perf_analyzer's closed loop, by its own figures: the mean of up to three windows."""
        model = self.asked_v2[0].path.split("/")[3]  # /v2/models/MODEL/infer
        data = [
            {"image": {"b64": base64.b64encode(element(one.data)).decode()}}
            for one in self.images.images
        ]
        with tempfile.TemporaryDirectory(prefix="seatrial-perf-analyzer-") as folder:
            (Path(folder) / "data.json").write_text(json.dumps({"data": data}))
            done = subprocess.run(
                [
                    *words, "-m", model, "-u", self.url.partition("://")[2], "-i", "http",
                    "--shape", "image:1", "--input-data", "data.json", "-f", "found.csv",
                    "--concurrency-range", str(sessions), "--max-trials", "3",
                    "--stability-percentage", "100",
                    "--measurement-interval", str(round(1e3 * self.seconds)),
                ],
                cwd=folder, capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            if done.returncode:
                sys.exit(done.stdout + done.stderr)
            with (Path(folder) / "found.csv").open() as file:
                (found,) = csv.DictReader(file)
        return {
            "per_s": float(found["Inferences/Second"]),
            "p50_ms": float(found["p50 latency"]) / 1e3,
            "p99_ms": float(found["p99 latency"]) / 1e3,
        }


def put(target: Target, prepared: Sequence[Body], plan: Load) -> Recording:
    """Put a load of ours on a service; ends the benchmark if a request fails."""
    load = run_load(endpoint(target), prepared, plan, measure._Nobody(), lambda _: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        recording = runner.run(load)
    if any(sample.error for sample in recording.samples):
        sys.exit("requests failed")
    return recording


def row(per_s: float, latencies_ms: Sequence[float]) -> Row:
    """Rate and percentiles of a load of ours."""
    p50_ms, p99_ms = np.quantile(latencies_ms, [0.5, 0.99], method="inverted_cdf")
    return {"per_s": per_s, "p50_ms": float(p50_ms), "p99_ms": float(p99_ms)}


def wrk(url: str, connections: int, seconds: float, files: Sequence[Path]) -> Row:
    """Figures of wrk itself, as `wrk.lua` prints them."""
    done = subprocess.run(
        [
            "wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s",
            "-s", str(SCRIPT), url, "--", *map(str, files),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: Row = json.loads(done.stdout.splitlines()[-1])
    if found.pop("errors"):
        sys.exit(f"wrk: requests failed\n{done.stdout}")
    return found


@contextmanager
def checked(seconds: float) -> Iterator[Check]:
    """The service and the images, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="seatrial-cross-check-") as folder:
        for number, data in enumerate(measure.encoded(4 * IMAGES, only_hw=SIZE_HW)[:IMAGES]):
            (Path(folder) / f"{number:03}.jpg").write_bytes(data)
        images = load_images(Path(folder), limit=IMAGES, seed=0)
        # Time enough: that none is refused where a neighbour takes the cores for a moment.
        deployment = Deployment("model", engine="null", limits=Limits(deadline_s=60.0))
        with measure.served(measure.open_artifact(), deployment) as service:
            yield Check(service.url, Path(folder), images, seconds)


def closed(check: Check) -> dict[str, Callable[[], Row]]:
    """Tools of the closed loop; ours is the first of each number of sessions."""
    # LoadGen draws its images beforehand: twice what is needed, as the speed of a machine changes.
    rate_hz = 2 * check.ours(ClosedLoop(8))["per_s"]
    return {
        "1 at a time: ours": lambda: check.ours(ClosedLoop(1)),
        "1 at a time: wrk": lambda: check.wrk(1),
        "1 at a time: LoadGen single-stream": lambda: check.loadgen("single-stream"),
        "8 at a time: ours": lambda: check.ours(ClosedLoop(8)),
        "8 at a time: wrk": lambda: check.wrk(8),
        "8 at a time: LoadGen offline": lambda: check.loadgen("offline", in_flight=8, rate=rate_hz),
    }


def opened(check: Check) -> dict[str, Callable[[], Row]]:
    """Tools of the open loop, at `SHARE` of what a closed loop finds first."""
    rate_hz = round(SHARE * check.ours(ClosedLoop(8))["per_s"])
    name = f"{rate_hz}/s"
    bound = {"rate": float(rate_hz), "latency_limit_ms": 10_000.0}
    return {
        f"{name}: ours": lambda: check.ours(Poisson(rate_hz)),
        f"{name}: LoadGen server": lambda: check.loadgen("server", **bound),
    }


def v2(words: Sequence[str], check: Check) -> dict[str, Callable[[], Row]]:
    """Tools of the Open Inference Protocol."""
    return {
        f"{sessions} at a time: {name}": run
        for sessions in (1, 8)
        for name, run in (
            ("ours", lambda n=sessions: check.ours_v2(n)),
            ("perf_analyzer", lambda n=sessions: check.perf_analyzer(words, n)),
        )
    }


def compared(tools: dict[str, Callable[[], Row]], rounds: int) -> dict[str, Any]:
    """Medians of the rounds, and ratios to ours within each."""
    found: dict[str, list[Row]] = {name: [] for name in tools}
    for number in range(rounds):
        for name in list(tools) if number % 2 == 0 else reversed(list(tools)):
            found[name].append(with_client_cores(tools[name]))
            print(name, found[name][-1], file=sys.stderr, flush=True)
    figures: dict[str, Any] = {}
    for name, rows in found.items():
        own = found[f"{name.partition(':')[0]}: ours"]
        line = {key: statistics.median(one[key] for one in rows) for key in rows[0]}
        for key, label in (("per_s", "rate ratio"), ("p50_ms", "p50 ratio")):
            if key in rows[0] and rows is not own:
                ratios = [one[key] / ours[key] for one, ours in zip(rows, own, strict=True)]
                line[label] = statistics.median(ratios)
                line[f"{label}, lowest"], line[f"{label}, highest"] = min(ratios), max(ratios)
        figures[name] = line
    return figures | {"rounds": found}


def with_client_cores(tool: Callable[[], Row]) -> Row:
    """The figures of a tool, and the cores that its process took from its start to its end."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # the service goes on: not among them

    def cpu_s() -> float:
        return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)

    begun, before_s = time.perf_counter(), cpu_s()
    found = tool()
    return found | {"client cores": (cpu_s() - before_s) / (time.perf_counter() - begun)}


def stall(check: Check) -> dict[str, Any]:
    """The same stall of a second by our open loop and by wrk, on a lane of `SERVICE_S`."""
    law = Poisson(0.5 / SERVICE_S)
    plan = Load(arrivals=law, measure_s=STALL_WINDOW_S, warmup_s=1.0, schedule_seed=20)
    figures: dict[str, Any] = {}
    prepared = bodies(Target(check.url), check.images.images)
    with server() as (url, pid), stopped(pid, STALL_AFTER_S) as stall_ns:
        recording = put(Target(url), prepared, plan)
    due_ns = schedule_ns(plan, recording)
    truth_ms = with_stall(due_ns, *stall_ns)[due_ns >= recording.open_ns]
    figures["truth of the schedule"] = row(len(truth_ms) / STALL_WINDOW_S, truth_ms.tolist())
    samples = by_due(recording)
    ours_ms = [one.latency_ms for one in samples]
    figures["ours, open loop, from the due time"] = row(measure.throughput(recording), ours_ms)
    for connections in (1, 4):
        with server() as (url, pid), stopped(pid, STALL_AFTER_S):
            again = Load(arrivals=ClosedLoop(connections), measure_s=STALL_WINDOW_S, warmup_s=1.0)
            paced = put(Target(url), prepared, again)
        paced_ms = [one.latency_ms for one in paced.samples]
        name = f"ours, closed loop, {connections} at a time"
        figures[name] = row(measure.throughput(paced), paced_ms)
        with server() as (url, pid), stopped(pid, STALL_AFTER_S):
            figures[f"wrk, closed loop, {connections} at a time"] = wrk(
                f"{url}/detect", connections, STALL_WINDOW_S, check.files
            )
    return figures


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("closed", "open", "v2", "stall"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--perf-analyzer", default="perf_analyzer")
    options = parser.parse_args()
    measure.need_shared()
    words = shlex.split(options.perf_analyzer)
    needed = {"v2": words[0], "closed": "wrk", "stall": "wrk"}.get(options.what)
    if needed is not None and shutil.which(needed) is None:
        sys.exit(f"skipped: {needed} is not installed")
    with checked(options.seconds) as check:
        if options.what == "stall":
            figures = stall(check)
        else:
            ways: dict[str, Callable[[Check], dict[str, Callable[[], Row]]]] = {
                "closed": closed, "open": opened, "v2": partial(v2, words),
            }  # fmt: skip
            figures = compared(ways[options.what](check), options.rounds)
    measure.save(f"cross_check_{options.what}", figures, ["uvloop", "mlcommons-loadgen"])


if __name__ == "__main__":
    main()
