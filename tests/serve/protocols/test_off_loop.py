"""Large bodies are read on a thread: the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from grpc_calls import calls, images_request, stream
from open_inference import INFER
from seatrial.deployment import Limits
from seatrial.serve.protocols import (
    image_body,
    inference,
    inference_grpc,
    inference_stream,
    inference_v2,
)
from seatrial.serve.protocols.off_loop import (
    MOST_BINARY_BYTES,
    MOST_TEXT_BYTES,
    read_off_loop,
)
from served_application import Running

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def serving(run_app: Callable[..., Any]) -> Iterator[Running]:
    with run_app(Limits(body_bytes=4 * MOST_BINARY_BYTES), grpc=True) as served:
        yield served


@pytest.mark.parametrize("length", [MOST_TEXT_BYTES, MOST_TEXT_BYTES + 1])
def test_only_what_is_long_goes_to_a_thread(length: int) -> None:
    async def read() -> bool:
        return await read_off_loop(length, threading.current_thread) is threading.current_thread()

    assert asyncio.run(read()) == (length == MOST_TEXT_BYTES)


def test_long_bodies_are_read_one_after_the_other_and_not_where_the_request_has_gone() -> None:
    reading = threading.Semaphore(1)
    begun, go_on = threading.Event(), threading.Event()
    names: list[str] = []

    def read(name: str, waits: bool = False) -> str:
        assert reading.acquire(blocking=False)
        names.append(name)
        if waits:
            begun.set()
            assert go_on.wait(60)
        reading.release()
        return name

    async def ask() -> list[Any]:
        def long(name: str, waits: bool = False) -> asyncio.Task[str]:
            return asyncio.create_task(
                read_off_loop(MOST_TEXT_BYTES + 1, lambda: read(name, waits))
            )

        first = long("first", waits=True)
        await asyncio.to_thread(begun.wait, 60)
        others = [long(name) for name in ("gone", "second", "third")]
        await asyncio.sleep(0)  # they are asked for
        others[0].cancel()
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(first, *others[1:])

    assert asyncio.run(ask()) == ["first", "second", "third"]
    assert names == ["first", "second", "third"]


@pytest.fixture
def on_loop(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[bool]]:
    """Whether each call of a function of a module was made on an event loop."""

    def follow(module: Any, name: str) -> list[bool]:
        found: list[bool] = []
        follows = getattr(module, name)

        def followed(*words: Any) -> Any:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                found.append(False)
            else:
                found.append(True)
            return follows(*words)

        monkeypatch.setattr(module, name, followed)
        return found

    return follow


def test_json_and_base64(serving: Running, on_loop: Callable[[Any, str], list[bool]]) -> None:
    parsed, decoded = on_loop(inference_v2, "read_call"), on_loop(inference, "_images")
    for length in (3, MOST_TEXT_BYTES):
        data = [base64.b64encode(bytes(length)).decode()]
        one = {"name": "image", "datatype": "BYTES", "shape": [1], "data": data}
        body = json.dumps({"inputs": [one]})
        assert serving.client.post(INFER, content=body).status_code == 415
    assert parsed == decoded == [True, False]


def test_forms(serving: Running, on_loop: Callable[[Any, str], list[bool]]) -> None:
    found = on_loop(image_body, "_field")
    for length in (3, MOST_BINARY_BYTES):
        form = {"image": ("a.jpg", bytes(length))}
        assert serving.client.post("/detect", files=form).status_code == 415
    assert found == [True, False]


def test_messages(serving: Running, on_loop: Callable[[Any, str], list[bool]]) -> None:
    unary, streamed = (
        on_loop(inference_grpc, "read_request"),
        on_loop(inference_stream, "read_request"),
    )
    requests = [images_request(bytes(length)) for length in (3, MOST_BINARY_BYTES)]
    with calls(serving.grpc_port) as service:
        for one in requests:
            with pytest.raises(Exception, match="not in a known image format"):
                service.ModelInfer(one)
        assert len(list(stream(service, requests))) == 2
    assert unary == streamed == [True, False]
