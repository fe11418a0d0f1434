"""Poisson requests whose answers are checked: status, artifact, boxes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import measure
import msgspec
import psutil
from yarl import URL

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits
from seatrial.load.http_session import Broken, HttpSession, NotHttp, Unreachable
from seatrial.load.target import Body

IMAGES = 32
TIMEOUT_S = 300.0
DIGEST, ANSWER_BYTES = "X-Model-Digest", 2**20
Boxes = list[dict[str, Any]]


class OpenLoop:
    """Sends images at a rate, whatever comes back, and counts what came back.

    Args:
        url: Address of the service.
        images: JPEG files.
        rate_hz: Mean rate.

    Attributes:
        counts: Outcome -> requests: ``answered``, ``wrong`` (other boxes than the artifact of its
            digest gives), ``refused`` (503), ``late`` (504), ``failed``.
        digests: Digest -> answers.
        expected: Digest -> the boxes of each image.
    """

    def __init__(self, url: str, images: Sequence[bytes], rate_hz: float) -> None:
        self._url = URL(url) / "detect"
        self._images = images
        self._bodies = [Body(image, {"Content-Type": "image/jpeg"}) for image in images]
        self._rate_hz = rate_hz
        self.counts: Counter[str] = Counter()
        self.digests: Counter[str] = Counter()
        self.expected: dict[str, list[Boxes]] = {}
        self.reasons: Counter[str] = Counter()
        self._over = False

    def at(self, times: float) -> OpenLoop:
        """Another loop with the same images, at so many times the rate."""
        return OpenLoop(str(self._url.origin()), self._images, times * self._rate_hz)

    async def learn(self) -> str:
        """Take the boxes of what is served now as those of its digest, which is returned."""
        async with HttpSession(1, TIMEOUT_S) as session:
            found = [await self._ask(session, index) for index in range(len(self._images))]
        (digest,) = {digest for _, digest, _ in found}
        self.expected[digest] = [boxes for _, _, boxes in found]
        return digest

    async def run(self) -> None:
        """Send until `end`; returns when all have their answers."""
        async with HttpSession(0, TIMEOUT_S) as session:
            asked: set[asyncio.Task[None]] = set()
            due = time.monotonic()
            while not self._over:
                due += random.expovariate(self._rate_hz)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                one = asyncio.create_task(self._count(session))
                asked.add(one)
                one.add_done_callback(asked.discard)
            await asyncio.gather(*asked)

    def end(self) -> None:
        """Send no more."""
        self._over = True

    async def _count(self, session: HttpSession) -> None:
        index = random.randrange(len(self._images))
        try:
            status, digest, boxes = await self._ask(session, index)
        except (Broken, NotHttp, Unreachable, TimeoutError):
            self.counts["failed"] += 1
            return
        if status == 200:
            self.digests[digest] += 1
            right = self.expected.get(digest, {index: None})[index] == boxes
            self.counts["answered" if right else "wrong"] += 1
        else:
            self.counts[{503: "refused", 504: "late"}.get(status, "failed")] += 1
            self.reasons[f"{status} {boxes}"] += 1

    async def _ask(self, session: HttpSession, index: int) -> tuple[int, str, Boxes]:
        found = await session.send("POST", self._url, self._bodies[index], ANSWER_BYTES)
        told, digest = msgspec.json.decode(found.payload), found.headers.get(DIGEST, "")
        if found.status != 200:
            return found.status, digest, told["error"]["message"]
        return found.status, digest, told["detections"]


@contextlib.contextmanager
def at_share(
    artifact: Artifact, options: argparse.Namespace
) -> Iterator[tuple[Any, OpenLoop, dict[str, Any]]]:
    """A service of one process, a loop at ``options.share`` of its capacity, and both rates."""
    images = measure.encoded(IMAGES)
    deployment = Deployment(
        "model",
        engine=options.engine,
        layout=CoreLayout(workers=1),
        limits=Limits(deadline_s=20.0),  # other load on the machine is not what is measured
    )
    with measure.served(artifact, deployment) as service:
        to, requests = measure.jpeg_bodies(service.url, images)
        capacity_hz = measure.throughput(measure.load(to, requests, 4, 8.0))
        rate_hz = options.share * capacity_hz
        rates = {
            "model": Path(options.model).name,
            "capacity_per_s": round(capacity_hz, 1),
            "rate_per_s": round(rate_hz, 1),
        }
        yield service, OpenLoop(service.url, images, rate_hz), rates


def outcomes(loop: OpenLoop) -> dict[str, int]:
    """Requests of a loop that has ended, and what was no right answer."""
    kinds = ("wrong", "refused", "late", "failed")
    return {"requests": sum(loop.counts.values()), **{kind: loop.counts[kind] for kind in kinds}}


def resources(pid: int) -> dict[str, float]:
    """Memory, descriptors and threads of a process and its descendants."""
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    return {
        "rss_mb": round(sum(one.memory_info().rss for one in family) / 1e6, 1),
        "descriptors": sum(one.num_fds() for one in family),
        "threads": sum(one.num_threads() for one in family),
    }
