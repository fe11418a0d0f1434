"""Clients with many images, threads, event loops and a service that is restarted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seatrial
from scripted_service import OK, scripted
from seatrial.artifact import Artifact
from seatrial.errors import (
    InvalidConfig,
    InvalidInput,
    UnsupportedImage,
)
from seatrial.serve.address import free_port
from served_application import Running, serve_application
from service_clients import PROBES, describes_itself, listening, url_of


def test_many_images_come_in_order(connect: Any, served: Running, array: Any) -> None:
    images = [np.zeros((64, width, 3), np.uint8) for width in range(60, 80)]
    with connect(url_of(served), timeout_s=60, retries=20) as client:
        for concurrency in (1, 3, None):
            found = list(client.detect_many(iter(images), concurrency=concurrency, deadline_s=30))
            assert [one.size_hw[1] for one in found] == list(range(60, 80))
        assert list(client.detect_many([])) == []
    with connect(url_of(served)) as client, pytest.raises(InvalidConfig, match="concurrency 0"):
        client.detect_many([], concurrency=0)


def test_few_of_many_images_are_held() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x"

    with scripted(OK) as service, seatrial.Client(service.url) as client:
        found = client.detect_many(endless(), concurrency=4)
        for number in range(1, 20):
            next(found)
            assert taken <= number + 4
        found.close()
        sent = len(service.posted)
        assert sent <= taken

    async def some() -> int:
        nonlocal taken
        taken = 0
        with scripted(OK) as service:
            async with seatrial.AsyncClient(service.url) as client:
                found = client.detect_many(endless(), concurrency=4)
                for number in range(1, 20):
                    await anext(found)
                    assert taken <= number + 4
                await found.aclose()
        return len(asyncio.all_tasks())

    assert asyncio.run(some()) == 1  # no task is left


def test_the_first_error_ends_many_images(connect: Any, served: Running, array: Any) -> None:
    images = [array, array, b"GIF89a....", *[array] * 50]
    with (
        connect(url_of(served), retries=20) as client,
        pytest.raises(UnsupportedImage, match=r"^image\[2\]: "),
    ):
        list(client.detect_many(images, concurrency=2))


def test_an_error_among_many_images_cancels_the_others() -> None:
    async def run(url: str) -> None:
        async with seatrial.AsyncClient(url, timeout_s=300) as client:
            with pytest.raises(InvalidInput, match="empty"):
                async for _ in client.detect_many([b"", b"x", b"x"], concurrency=3):
                    pass

    began = time.monotonic()
    with listening(describes_itself) as url:
        asyncio.run(run(url))
    assert time.monotonic() - began < 100


def test_images_of_an_asynchronous_iterator(served: Running, array: Any) -> None:
    async def frames() -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
            yield array

    async def run() -> list[list[str]]:
        async with seatrial.AsyncClient(url_of(served)) as client:
            return [found.labels async for found in client.detect_many(frames())]

    assert asyncio.run(run()) == 3 * [["red"]]


def test_threads_share_a_client(served: Running) -> None:
    """Each gets the answer to its own image; connections are no more than they may be."""
    images = [np.zeros((40, width, 3), np.uint8) for width in range(40, 72)]
    with (
        seatrial.Client(url_of(served), retries=50, timeout_s=120, connections=4) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        found = list(pool.map(lambda image: client.detect(image, deadline_s=60), images * 3))
        assert [one.size_hw[1] for one in found] == 3 * list(range(40, 72))
        assert len(client._connections._pool.connections) <= 4


def test_a_cancelled_call_ends_its_request(served: Running, array: Any) -> None:
    async def run() -> None:
        lanes = served.detector.lanes
        async with seatrial.AsyncClient(url_of(served)) as client:
            await client.detect(array)
            with served.lanes_held():
                held = lanes.present
                call = asyncio.create_task(client.detect(array, deadline_s=50))
                while lanes.present == held:
                    await asyncio.sleep(0.005)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                give_up = time.monotonic() + 60
                while lanes.present > held:
                    assert time.monotonic() < give_up
                    await asyncio.sleep(0.005)
            assert (await client.detect(array)).labels == ["red"]

    asyncio.run(run())


def test_a_restart_in_the_middle(connect: Any, tiny_artifact: Artifact, array: Any) -> None:
    """A call that begins while the service is away is answered by its successor."""
    port = free_port("127.0.0.1")
    with connect(f"http://127.0.0.1:{port}", retries=50, timeout_s=60) as client:
        with serve_application(tiny_artifact, port=port, probes=PROBES):
            assert client.detect(array).labels == ["red"]
        away, back = threading.Event(), threading.Event()

        def restart() -> None:
            away.wait(60)
            with serve_application(tiny_artifact, port=port, probes=PROBES):
                back.wait(60)

        thread = threading.Thread(target=restart)
        thread.start()
        assert not client.is_ready()
        threading.Timer(0.3, away.set).start()
        try:
            assert client.detect(array).labels == ["red"]
            client.wait_until_ready(10)
        finally:
            away.set()
            back.set()
            thread.join(60)


def test_a_closed_client(connect: Any) -> None:
    with scripted(OK) as service, connect(service.url) as client:
        client.detect(b"x")
        client.close()
        with pytest.raises(InvalidInput, match="the client is closed"):
            client.detect(b"x")


LOOPS = """
import asyncio, sys
import seatrial

client = seatrial.AsyncClient(sys.argv[1])
for _ in range(2):
    asyncio.run(client.detect(b"x"))
"""
FORKED = """
import os, sys
import seatrial

client = seatrial.Client(sys.argv[1])
client.detect(b"x")
child = os.fork()
if not child:
    client.detect(b"x")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.detect(b"x")
"""


@pytest.mark.parametrize(("code", "images"), [(LOOPS, 2), (FORKED, 3)], ids=["loops", "fork"])
def test_connections_are_of_one_event_loop_and_one_process(code: str, images: int) -> None:
    with scripted(OK) as service:
        done = subprocess.run(
            [sys.executable, "-c", code, service.url],
            env=os.environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(service.posted) == images
        assert len(service.peers) == 2


@pytest.mark.parametrize("kind", [seatrial.Client, seatrial.AsyncClient])
@pytest.mark.parametrize("image", ["photo.jpg", Path("photo.jpg"), b"data"])
def test_one_image_is_not_taken_for_many(kind: Any, image: Any) -> None:
    client = kind("http://127.0.0.1:9")
    with pytest.raises(InvalidInput, match="takes several images, and this is one") as caught:
        client.detect_many(image)
    assert "[image]" in caught.value.hint
