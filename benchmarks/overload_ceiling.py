"""The share of the peak that a storm of ten times the capacity leaves, whoever refuses it.

python benchmarks/overload_ceiling.py [--rounds 6] [--seconds 20] [--load 10]

Client and service share the cores, so what the client sends, and what somebody must read and
refuse, is taken from the engine. Each round, in turns:

- ``peak``: eight sessions that wait for their answers.
- ``beside``: the same, while all that a storm has above the capacity goes to a server of system
  calls that reads a request, answers 503 and does nothing else (``sockets`` of `refusals`). The
  same client sends both.
- ``storm``: all of it goes to the service, which admits what it can answer within its deadline.

``ceiling`` is beside / peak: what is left of the peak at the least cost of a refusal, with a
service that need not choose. ``of_peak`` is storm / peak, and ``of_ceiling`` storm / beside. Ratios
are taken within a round; figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from typing import Any

import httpx
import measure
import numpy as np
import uvloop
from overload import PEAK_SESSIONS as SESSIONS
from overload import Cores, Storm, figures, storm
from refusals import bare

from seatrial.deployment import CoreLayout, Deployment
from seatrial.load.arrivals import ClosedLoop
from seatrial.load.run import Load, Recording, run_load
from seatrial.load.target import Body, Target, endpoint


def beside(
    to: Target, bare_url: str, requests: list[Body], rate_hz: float, seconds: float
) -> tuple[Recording, Recording]:
    """Sessions at the service, and an open loop at a server that refuses; both of one client."""
    patient = [measure.within(one, measure.CLOSED_LOOP_MS) for one in requests]

    async def both() -> tuple[Recording, Recording]:
        closed = Load(
            arrivals=ClosedLoop(SESSIONS), measure_s=seconds, warmup_s=1.0, warmup_requests=1
        )
        opened = Load(
            arrivals=Storm(rate_hz, seconds + 2.0, rate_hz),
            measure_s=seconds,
            warmup_s=1.0,
            warmup_requests=1,
        )
        nobody = measure._Nobody()
        refuser = endpoint(Target(bare_url))
        found = await asyncio.gather(
            run_load(endpoint(to), patient, closed, nobody, lambda _: None),
            run_load(refuser, requests, opened, nobody, lambda _: None),
        )
        return found[0], found[1]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(both())


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--load", type=float, default=10.0)
    options = parser.parse_args()
    measure.need_shared()
    artifact, pictures = measure.open_artifact(), measure.encoded(64)
    deployment = Deployment("model", layout=CoreLayout(workers=1))
    rows: dict[str, list[float]] = {
        name: []
        for name in (
            "peak_per_s", "beside_per_s", "storm_per_s", "ceiling", "of_peak", "of_ceiling",
            "refused_by_sockets_per_s", "refused_by_service_per_s", "late_or_failed",
            "sockets_cores",
            *(
                f"{when}_{who}_cores"
                for who in ("client", "service", "other", "stolen")
                for when in ("peak", "beside", "storm")
            ),
        )
    }  # fmt: skip
    with measure.served(artifact, deployment) as service, bare("sockets") as (port, refuser):
        to, requests = measure.jpeg_bodies(service.url, pictures)
        deadline_ms = 1e3 * httpx.get(f"{service.url}/model").json()["limits"]["deadline_s"]
        pid = service.process.pid
        measure.load(to, requests, SESSIONS, 5, may_fail=True)
        for number in range(options.rounds):
            cores = Cores(pid)
            at_rest = measure.load(to, requests, SESSIONS, options.seconds, may_fail=True)
            peak_hz = measure.throughput(at_rest)
            at_peak = cores.taken()
            rate_hz = options.load * peak_hz

            def beside_it(rate_hz: float = rate_hz, peak_hz: float = peak_hz) -> None:
                cores, sockets = Cores(pid), Cores(refuser)
                left, refused = beside(
                    to, f"http://127.0.0.1:{port}", requests, rate_hz - peak_hz, options.seconds
                )
                taken = cores.taken()
                rows["sockets_cores"].append(sockets.taken()["service_cores"])
                rows["beside_per_s"].append(measure.throughput(left))
                rows["refused_by_sockets_per_s"].append(len(refused.samples) / options.seconds)
                for name, share in taken.items():
                    rows[f"beside_{name}"].append(share)

            def at_once(rate_hz: float = rate_hz, peak_hz: float = peak_hz) -> None:
                cores = Cores(pid)
                row = figures(*storm(to, requests, rate_hz, options.seconds), deadline_ms, peak_hz)
                taken = cores.taken()
                rows["storm_per_s"].append(row["goodput_per_s"])
                rows["refused_by_service_per_s"].append(row["refused_per_s"])
                rows["late_or_failed"].append(row["late_or_failed"])
                for name, share in taken.items():
                    rows[f"storm_{name}"].append(share)

            turns = [beside_it, at_once]
            for turn in turns if number % 2 == 0 else reversed(turns):
                turn()
            rows["peak_per_s"].append(peak_hz)
            for name, share in at_peak.items():
                rows[f"peak_{name}"].append(share)
            found = {name: values[-1] for name, values in rows.items() if values}
            rows["ceiling"].append(found["beside_per_s"] / peak_hz)
            rows["of_peak"].append(found["storm_per_s"] / peak_hz)
            rows["of_ceiling"].append(found["storm_per_s"] / found["beside_per_s"])
            print(number, {name: round(values[-1], 3) for name, values in rows.items()}, flush=True)
    results: dict[str, Any] = {"load": options.load, "rounds": options.rounds}
    for name, values in rows.items():
        results[name] = round(statistics.median(values), 3)
    low, high = np.quantile(rows["of_ceiling"], [0.0, 1.0])
    results["of_ceiling_lowest"], results["of_ceiling_highest"] = round(low, 3), round(high, 3)
    measure.save("overload_ceiling", results)


if __name__ == "__main__":
    main()
