"""Requests that fail leave nothing for the collector of garbage: it comes too late for bodies."""

from __future__ import annotations

import gc
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_inference import INFER, images_body
from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.errors import EngineFailed

Running = Any
LARGE = 20_000  # bytes

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def served(run_app: Callable[..., Any]) -> Iterator[Running]:
    with run_app(Limits(body_bytes=2**20, image_pixels=1_000_000)) as running:
        yield running


def large_garbage() -> list[str]:
    """Kinds of the large objects that only a collection of garbage frees."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kept = [other for one in gc.garbage for other in (one, *gc.get_referents(one))]
        found = [
            one for one in kept if isinstance(one, bytes | bytearray | memoryview | np.ndarray)
        ]
        large = [one for one in found if memoryview(one).nbytes > LARGE]
        return [
            f"{type(one).__name__} of {type(holder)}"
            for one in large
            for holder in gc.get_referrers(one)
            if isinstance(holder, dict)
            or type(holder).__name__ in ("frame", "cell", "tuple")
            or "seatrial" in type(holder).__module__
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/detect", {}, 422),
        ("/detect.jpg", {}, 422),
        ("/detect", {"Content-Type": "text/html"}, 400),
        ("/detect?confidence=2", {}, 400),
        ("/v2/models/tiny/infer", {"Content-Type": "application/json"}, 400),
        ("one image", {}, 422),
        ("several images", {}, 422),
        ("/v2/models/tiny.graph/infer", {"Content-Encoding": "gzip"}, 400),
        ("engine", {}, 500),
        ("fault", {}, 500),
    ],
)
def test_a_request_that_fails_leaves_no_large_garbage(
    served: Running,
    noise: bytes,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    fields: dict[str, str],
    status: int,
) -> None:
    body = noise
    if status == 422:
        body = noise[:-LARGE]
    if "image" in path:
        body, fields = images_body(*[body] * (1 if path == "one image" else 3))
        path = INFER
    if "Content-Encoding" in fields:
        body = gzip.compress(noise)
    if status == 500:
        error = EngineFailed("no") if path == "engine" else LookupError("no")

        def fails(*_: object, **__: object) -> None:
            raise error.with_traceback(None)

        monkeypatch.setattr("seatrial.detect.detector.Detector._read", fails)
        path = "/detect"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    sent = head.encode() + body
    gc.collect()
    gc.disable()
    try:
        with served.connect() as connection:  # client libraries leave garbage of their own
            for _ in range(1 if status == 500 else 3):
                connection.sendall(sent)
                assert read_response(connection)[0] == status
        assert large_garbage() == []
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def noise(encode: Callable[..., bytes]) -> bytes:
    """A JPEG of more than 100 KB."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    data = encode(Image.fromarray(pixels), "JPEG")
    assert len(data) > 5 * LARGE
    return data
