"""Swaps of the model under load: requests that failed or got the wrong boxes, memory after each.

    python benchmarks/swap.py [--swaps 20] [--share 0.8] [--every-s 10] [--engine openvino]

Two artifacts of one network, the second with a higher default confidence: an answer shows which of
them gave it, and is compared with the boxes of the digest that it names. The load is an open loop
(Poisson) at a share of the capacity, which a closed loop measures first. Memory is that of the
server process alone, half a second after the old model has left: with what the requests of that
moment take, and ``at_rest``, after swaps without requests before all others and behind them. A
storm of three times the capacity comes first: the objects of a full queue take memory for good,
with and without swaps.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import measure
import msgspec
import uvloop
from open_loop import OpenLoop, at_share, outcomes, resources

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Server
from seatrial.serve.control import ask, find_socket

CONFIDENCE = 0.5  # of the second artifact
SETTLED = 3  # swaps after which the heaps have held a full queue beside two models
STORM_S, STORM = 8.0, 3  # time in which a queue is full, and times the rate


def second(artifact: Artifact) -> Artifact:
    """The same network with another default confidence."""
    store = Store(measure.ROOT / "run" / "benchmarks" / "artifacts")
    name = f"{artifact.manifest.name}-surer"
    with store.staging() as staged:
        for entry in artifact.manifest.files:
            (staged / entry.path).write_bytes((artifact.path / entry.path).read_bytes())
        manifest = msgspec.structs.replace(artifact.manifest, name=name, confidence=CONFIDENCE)
        return store.commit(staged, manifest, replace=True)


async def swaps(url: str, loop: OpenLoop, options: Any, pair: list[Artifact]) -> Any:
    """Swap to and fro under load; a row for each swap, and the memory at rest before and after."""
    server = Server(port=int(url.rpartition(":")[2]))
    socket = find_socket(server)
    assert socket is not None

    async def command(text: str, **body: Any) -> Any:
        status, told = await asyncio.to_thread(ask, socket, text, body)
        assert status == 200, told
        return told

    async def left() -> Any:
        while True:
            told = await command("GET /admin/status")
            if not any(one["leaving"] for one in told["processes"]):
                return told
            await asyncio.sleep(0.1)

    async def at_rest(served: int) -> tuple[int, float]:
        """Process and memory, MB; on the way, the boxes of both models become known.

        The last swaps have no requests behind them: what these used and left would be counted.
        """
        for asks in (True, False):
            for artifact in (pair[1 - served], pair[served]):
                await command("POST /admin/reload", model=str(artifact.path))
                assert not asks or await loop.learn() == artifact.digest
        worker = (await left())["processes"][0]["pid"]
        await asyncio.sleep(0.5)
        return worker, resources(worker)["rss_mb"]

    storm = loop.at(STORM / options.share)
    flood = asyncio.create_task(storm.run())
    await asyncio.sleep(STORM_S)
    storm.end()
    await flood
    worker, rest_before_mb = await at_rest(0)
    sending = asyncio.create_task(loop.run())
    await asyncio.sleep(options.every_s)
    rows = [{"swap": 0, **resources(worker)}]
    for number in range(1, options.swaps + 1):
        begin = time.monotonic()
        artifact = pair[number % 2]
        await command("POST /admin/reload", model=str(artifact.path))
        took_s = round(time.monotonic() - begin, 1)
        await left()
        await asyncio.sleep(0.5)
        rows.append({"swap": number, "took_s": took_s, **resources(worker), **dict(loop.counts)})
        print(rows[-1], dict(loop.reasons), flush=True)
        await asyncio.sleep(max(0.0, options.every_s - took_s))
    loop.end()
    await sending
    same, rest_after_mb = await at_rest(options.swaps % 2)
    assert same == worker
    return rows, (rest_before_mb, rest_after_mb)


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--every-s", type=float, default=10.0)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--model", default=str(measure.MODEL))
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact(options.model)
    pair = [artifact, second(artifact)]
    with at_share(artifact, options) as (service, loop, rates):
        rows, rest_mb = uvloop.run(swaps(service.url, loop, options, pair))
    first, last = rows[0]["rss_mb"], rows[-1]["rss_mb"]
    settled = rows[min(SETTLED, len(rows) - 1)]["rss_mb"]
    measure.save(
        f"swap_{options.engine}",
        {
            **rates,
            "swaps": options.swaps,
            **outcomes(loop),
            "answers_by_digest": {key[:12]: count for key, count in loop.digests.items()},
            "rss_at_rest_before_mb": rest_mb[0],
            "rss_at_rest_after_mb": rest_mb[1],
            "rss_growth_at_rest": round(rest_mb[1] / rest_mb[0] - 1, 4),
            "rss_at_start_mb": first,
            "rss_at_end_mb": last,
            "rss_growth": round(last / first - 1, 4),
            "rss_growth_since_swap_3": round(last / settled - 1, 4),
            "each": rows,
        },
    )


if __name__ == "__main__":
    main()
