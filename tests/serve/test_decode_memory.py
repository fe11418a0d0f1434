"""Memory for decoding: handed out in order, waited for, refused, given back."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import Image

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Thresholds
from seatrial.detect.decode_cost import DecodeCost
from seatrial.detect.opening import open_detector
from seatrial.engines.places import Abandoned
from seatrial.errors import InputTooLarge, Overloaded
from seatrial.serve.admission import Dispatcher
from seatrial.serve.asked import Asked
from seatrial.serve.connection_limit import TLS_BYTES
from seatrial.serve.decode_memory import DecodeMemory, decode_memory
from seatrial.serve.tickets import Admitted

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def dispatcher(tiny_artifact: Artifact) -> Iterator[Dispatcher]:
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 1, 1, wide=False))
    opened = Dispatcher(
        open_detector(tiny_artifact, deployment), Limits(deadline_s=3000), DecodeMemory(1000)
    )
    yield opened
    opened.close()


def taking(ticket: Admitted, wanted: int, took: list[str], name: str) -> threading.Thread:
    def take() -> None:
        try:
            ticket.weigh(DecodeCost(0.0, wanted))
            took.append(name)
        except (Overloaded, Abandoned) as error:
            took.append(type(error).__name__)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return thread


def test_what_never_fits_is_refused_at_once(dispatcher: Dispatcher) -> None:
    with dispatcher.admit() as ticket, pytest.raises(InputTooLarge, match="has 0 MiB"):
        ticket.weigh(DecodeCost(0.0, 1001))


def test_requests_wait_in_order_and_a_small_one_does_not_pass(
    dispatcher: Dispatcher, until: Callable[..., Any]
) -> None:
    took: list[str] = []
    memory = dispatcher.memory
    with dispatcher.admit() as first, dispatcher.admit() as large, dispatcher.admit() as small:
        first.weigh(DecodeCost(0.0, 900))
        threads = [taking(large, 800, took, "large")]
        until(lambda: len(memory._waiting) == 1)
        threads += [taking(small, 50, took, "small")]  # there would be room for it
        until(lambda: len(memory._waiting) == 2)
        assert took == []
        first.keep(150)  # decoded: it needs less
        for thread in threads:
            thread.join(20)
        assert took == ["large", "small"]
        assert memory.held_bytes == 1000
    assert memory.held_bytes == 0


def test_no_request_keeps_more_than_it_took(dispatcher: Dispatcher) -> None:
    """Others have the rest already."""
    with dispatcher.admit() as ticket:
        ticket.weigh(DecodeCost(0.0, 600))
        ticket.keep(900)
        assert dispatcher.memory.held_bytes == 600


def test_a_live_request_does_not_wait_behind_one_of_a_batch(
    dispatcher: Dispatcher, until: Callable[..., Any]
) -> None:
    took: list[str] = []
    memory = dispatcher.memory
    with (
        dispatcher.admit() as first,
        dispatcher.admit(Asked(batch=True)) as batch,
        dispatcher.admit() as live,
    ):
        first.weigh(DecodeCost(0.0, 900))
        waiting = taking(batch, 800, took, "batch")
        until(lambda: len(memory._waiting) == 1)
        taking(live, 50, took, "live").join(20)
        assert took == ["live"]
        first.keep(0)
        live.keep(0)
        waiting.join(20)
        assert took == ["live", "batch"]


def test_a_request_that_cannot_wait_longer_is_refused(dispatcher: Dispatcher) -> None:
    with dispatcher.admit() as first, dispatcher.admit(Asked(deadline_s=1.5)) as second:
        first.weigh(DecodeCost(0.0, 900))
        with pytest.raises(Overloaded, match="that are decoded take") as refused:
            second.weigh(DecodeCost(0.0, 200))
        assert refused.value.reason == "pixels"
        assert second.remaining_s() > 0  # 503, before it would be 504
        first.keep(0)
        second.weigh(DecodeCost(0.0, 200))


def test_a_client_that_leaves_ends_the_wait(
    dispatcher: Dispatcher, until: Callable[..., Any]
) -> None:
    took: list[str] = []
    with dispatcher.admit() as first, dispatcher.admit() as second:
        first.weigh(DecodeCost(0.0, 900))
        thread = taking(second, 200, took, "second")
        until(lambda: len(dispatcher.memory._waiting) == 1)
        second.cancel()
        thread.join(20)
    assert took == ["Abandoned"]


@pytest.mark.parametrize("damaged", [False, True])
def test_all_is_given_back_when_a_request_ends(dispatcher: Dispatcher, damaged: bool) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    data = buffer.getvalue()[: -30 if damaged else None]
    held: list[int] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def request() -> None:
        with dispatcher.admit() as ticket:
            await dispatcher.run(
                ticket, data, Thresholds(), lambda _: held.append(dispatcher.memory.held_bytes),
                never,
            )  # fmt: skip

    if damaged:
        with pytest.raises(Exception, match="damaged"):
            asyncio.run(request())
    else:
        asyncio.run(request())
        assert held == [8 * 8 * 3]
    assert dispatcher.memory.held_bytes == 0


def test_what_is_taken_after_the_request_was_given_up_is_given_back(
    dispatcher: Dispatcher,
) -> None:
    ticket = dispatcher.admit()

    def work() -> None:
        ticket.leave()  # its deadline passes while its thread works
        dispatcher.memory.take(ticket, 100, ticket.promise)
        assert dispatcher.memory.held_bytes == 100

    dispatcher.threads.run(ticket, work)
    assert dispatcher.memory.held_bytes == 0


def test_the_service_answers_503_and_counts_it(
    run_app: Callable[..., Any], photo: bytes, metric: Callable[..., float]
) -> None:
    before = metric("seatrial_refusals_total", reason="pixels")
    patient = {"X-Request-Timeout-Ms": "60000"}
    with run_app(Limits(deadline_s=1.5)) as running:
        dispatcher = running.app.state.serving.live.dispatcher
        assert running.client.get("/model").json()["decode_memory_bytes"] == (
            dispatcher.memory.limit_bytes
        )
        answer = running.client.post("/detect", content=photo, headers=patient)
        assert answer.status_code == 200
        with dispatcher.admit() as other:
            other.weigh(DecodeCost(0.0, dispatcher.memory.limit_bytes))
            refused = running.client.post("/detect", content=photo)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "images that are decoded" in refused.json()["error"]["message"]
        answer = running.client.post("/detect", content=photo, headers=patient)
        assert answer.status_code == 200
    assert metric("seatrial_refusals_total", reason="pixels") == before + 1


@pytest.mark.parametrize(
    ("left", "limit"), [(0, 0), (2**31, int(0.7 * (2**31 - 2**28))), (2**28, int(0.7 * 2**27))]
)
def test_bodies_have_their_share(left: int, limit: int) -> None:
    assert decode_memory(left, Limits()).limit_bytes == limit


def test_connections_with_tls_have_their_share() -> None:
    without = decode_memory(2**30, Limits(connections=500))
    with_it = decode_memory(2**30, Limits(connections=500), tls=True)
    assert (without.tls_bytes, with_it.tls_bytes) == (0, 500 * TLS_BYTES)
    assert with_it.limit_bytes < without.limit_bytes
