"""A long run at a share of the capacity: memory, descriptors and threads, and their slopes.

    python benchmarks/soak.py [--minutes 30] [--share 0.8] [--engine openvino] [--every-s 5]

The load is an open loop (Poisson). A slope is that of a line through the samples (least squares),
without the first tenth of the run, as the share of the mean that it gains in an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import measure
import numpy as np
import uvloop
from open_loop import OpenLoop, at_share, outcomes, resources

KINDS = ("rss_mb", "descriptors", "threads")


async def soak(loop: OpenLoop, pid: int, minutes: float, every_s: float) -> list[dict[str, Any]]:
    """A row of resources every few seconds."""
    await loop.learn()
    sending = asyncio.create_task(loop.run())
    begin, rows = time.monotonic(), []
    while (passed_s := time.monotonic() - begin) < 60 * minutes:
        rows.append({"s": round(passed_s, 1), **resources(pid)})
        await asyncio.sleep(every_s)
    loop.end()
    await sending
    return rows


def slope_per_hour(rows: list[dict[str, Any]], kind: str) -> float:
    """Share of the mean that is gained in an hour."""
    seconds = np.array([row["s"] for row in rows])
    values = np.array([row[kind] for row in rows])
    return float(np.polyfit(seconds, values, 1)[0] * 3600 / values.mean())


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--every-s", type=float, default=5.0)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--model", default=str(measure.MODEL))
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact(options.model)
    with at_share(artifact, options) as (service, loop, rates):
        rows = uvloop.run(soak(loop, service.process.pid, options.minutes, options.every_s))
    kept = rows[len(rows) // 10 :]
    measure.save(
        f"soak_{options.engine}",
        {
            **rates,
            "minutes": options.minutes,
            **outcomes(loop),
            "least_and_most": {
                kind: [min(row[kind] for row in kept), max(row[kind] for row in kept)]
                for kind in KINDS
            },
            "slope_per_hour": {kind: round(slope_per_hour(kept, kind), 4) for kind in KINDS},
            "samples": rows[:: max(1, len(rows) // 60)],
        },
    )


if __name__ == "__main__":
    main()
