"""A server over gRPC that answers too much, packed, or with numbers that cannot be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from yarl import URL

from seatrial.client.inference_messages import ModelInferResponse
from seatrial.load.grpc_client import grpc_session
from seatrial.load.samples import ANSWER_BYTES, Sample
from seatrial.load.target import Body

pytestmark = pytest.mark.usefixtures("time_limit")


def shaped(*shape: int) -> bytes:
    answer = ModelInferResponse(model_name="m")
    answer.outputs.add(name="scores", datatype="FP32", shape=shape)
    made: bytes = answer.SerializeToString()
    return made


def packed(context: Any) -> bytes:
    context.set_compression(grpc.Compression.Gzip)
    return bytes(ANSWER_BYTES + 1)


def timed(text: str) -> Callable[[Any], bytes]:
    def answer(context: Any) -> bytes:
        context.set_trailing_metadata((("server-timing", text),))
        return shaped(2)

    return answer


def send(answer: Callable[[Any], bytes], *, readable: bool = False) -> Sample:
    """The record of one request, by a server in this process."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, call: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(context))

    async def conversation() -> Sample:
        async with grpc_session(URL(f"grpc://127.0.0.1:{port}"), 1, 60.0) as session:
            return await session.send(Body(b"", {}, readable))

    with ThreadPoolExecutor(1) as pool:
        options = [("grpc.max_send_message_length", -1)]
        server = grpc.server(pool, [Handler()], options=options)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            return asyncio.run(conversation())
        finally:
            server.stop(None).wait()


@pytest.mark.parametrize(
    ("answer", "error"),
    [(packed, "encoded"), (lambda context: bytes(ANSWER_BYTES + 1), "too-long")],
    ids=["packed", "long"],
)
def test_an_answer_that_is_not_read_is_a_failure(
    answer: Callable[[Any], bytes], error: str
) -> None:
    sample = send(answer)
    assert (sample.status, sample.error, sample.received_bytes) == (0, error, 0)


@pytest.mark.parametrize(
    "answer",
    [
        lambda context: shaped(-(2**63)),
        lambda context: shaped(2**62),
        timed("infer;dur=nan"),
        timed("infer;dur=1, x;dur=1e999"),
    ],
    ids=["below zero", "many", "nan", "infinite"],
)
def test_numbers_that_cannot_be_are_a_failure(answer: Callable[[Any], bytes]) -> None:
    sample = send(answer)
    assert (sample.status, sample.error) == (200, "impossible-numbers")
    assert (sample.detections, sample.timing_ms) == (None, None)


def test_the_same_server_with_an_answer() -> None:
    sample = send(timed("infer;dur=3"))
    assert (sample.error, sample.detections, sample.timing_ms) == ("", 2, {"infer": 3.0})


@pytest.mark.parametrize(
    "answer", [lambda context: b"\xff no message", lambda context: b""], ids=["garbage", "empty"]
)
def test_an_answer_that_must_be_readable_and_is_not_is_a_failure(
    answer: Callable[[Any], bytes],
) -> None:
    """Where the service's first answers could be read; otherwise its shape is a foreign one."""
    assert send(answer).error == ""
    sample = send(answer, readable=True)
    assert (sample.status, sample.error, sample.detections) == (200, "unreadable", None)
    assert send(timed("infer;dur=3"), readable=True).error == ""


def test_a_connection_that_is_refused_is_tried_again_soon() -> None:
    """gRPC itself waits 1 s, 1.6 s, 2.6 s ...: it would take 16 s for as many tries."""
    tries = 6

    async def conversation() -> float:
        seen = asyncio.Semaphore(0)

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            seen.release()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = URL(f"grpc://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server, grpc_session(url, 1, 60.0) as session:
            begun = time.monotonic()

            async def keep_sending() -> None:
                while True:
                    await session.send(Body(b"", {}))
                    await asyncio.sleep(0.02)

            sending = asyncio.create_task(keep_sending())
            for _ in range(tries):
                await seen.acquire()
            sending.cancel()
            return time.monotonic() - begun

    assert asyncio.run(conversation()) < 8.0
