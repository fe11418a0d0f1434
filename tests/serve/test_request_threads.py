"""Requests on their threads: what is given up, what goes on, how it closes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment, Limits, Thresholds
from seatrial.detect.detector import Detected
from seatrial.detect.opening import open_detector
from seatrial.engines.places import Abandoned, Place
from seatrial.errors import DeadlineExceeded, EngineFailed, InvalidImage, Overloaded
from seatrial.serve.admission import Dispatcher
from seatrial.serve.asked import Asked

Running = Any

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def dispatcher(open_dispatcher: Callable[..., Dispatcher]) -> Dispatcher:
    return open_dispatcher(queue=2, deadline_s=3000)


async def never() -> Any:
    await asyncio.Event().wait()


async def gone() -> Any:
    return {"type": "http.disconnect"}


async def request(
    dispatcher: Dispatcher,
    data: bytes,
    finish: Callable[[Detected], Any] = lambda result: None,
    receive: Any = never,
    *,
    batch: bool = False,
) -> Any:
    with dispatcher.admit(Asked(batch=batch)) as ticket:
        return await dispatcher.run(ticket, data, Thresholds(), finish, receive)


@contextlib.contextmanager
def lane_held(dispatcher: Dispatcher) -> Iterator[None]:
    lanes = dispatcher.detector.lanes
    with Place(lanes) as place:
        lane = lanes.acquire(place)
        yield
        lanes.release(lane)


def present(dispatcher: Dispatcher) -> int:
    return dispatcher.detector.lanes.present


def test_the_answer_is_made_off_the_loop(dispatcher: Dispatcher, photo: bytes) -> None:
    name = asyncio.run(request(dispatcher, photo, lambda result: threading.current_thread().name))
    assert name.startswith("request")
    assert present(dispatcher) == 0


def test_no_task_goes_on_waiting_for_the_client(dispatcher: Dispatcher, photo: bytes) -> None:
    async def tasks_after_a_request() -> int:
        await request(dispatcher, photo)
        await asyncio.sleep(0)  # what was cancelled ends
        return len(asyncio.all_tasks())

    assert asyncio.run(tasks_after_a_request()) == 1


def test_waiting_for_a_thread_is_waiting_in_the_queue(dispatcher: Dispatcher, photo: bytes) -> None:
    async def stages() -> dict[str, float]:
        with dispatcher.admit() as ticket:
            ticket.clock.lap("receive")
            await dispatcher.run(ticket, photo, Thresholds(), lambda result: None, never)
            return ticket.clock.stages_ms

    found = asyncio.run(stages())
    assert list(found)[:3] == ["receive", "queue", "decode"]  # before decoding, too


def test_work_of_a_request_that_the_server_gives_up_never_starts(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    dispatcher = open_dispatcher()
    lanes = dispatcher.detector.lanes
    ended: list[str] = []

    async def work() -> None:
        with lane_held(dispatcher):
            running = [
                asyncio.ensure_future(request(dispatcher, photo, lambda r, n=n: ended.append(n)))
                for n in ("first", "second")
            ]
            while lanes.waiting < 2:  # both threads of the pool
                await asyncio.sleep(0)
            queued = asyncio.ensure_future(
                request(dispatcher, photo, lambda result: ended.append("queued"))
            )
            while lanes.present < 4:
                await asyncio.sleep(0)
            queued.cancel()
            await asyncio.wait([queued])
            assert lanes.present == 3
        await asyncio.gather(*running)

    asyncio.run(work())
    assert sorted(ended) == ["first", "second"]
    assert lanes.present == 0


def test_errors_of_the_work_come_through(dispatcher: Dispatcher) -> None:
    with pytest.raises(InvalidImage):
        asyncio.run(request(dispatcher, b"\xff\xd8\xff"))
    assert present(dispatcher) == 0


def test_errors_of_the_answer_come_through(dispatcher: Dispatcher, photo: bytes) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(request(dispatcher, photo, lambda result: 1 // 0))
    assert present(dispatcher) == 0


@pytest.mark.parametrize("batch", [False, True], ids=["live", "batch"])
@pytest.mark.parametrize(
    ("limits", "receive", "error"),
    [
        ({"deadline_s": 0.05}, never, DeadlineExceeded),
        ({"deadline_s": 3000}, gone, Abandoned),  # not the deadline wakes it
    ],
)
def test_without_an_answer_the_request_is_counted_no_more_and_never_infers(
    open_dispatcher: Callable[..., Dispatcher],
    photo: bytes,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, float],
    receive: Any,
    error: type[Exception],
    batch: bool,
) -> None:
    dispatcher = open_dispatcher(**limits)
    inferred: list[object] = []
    monkeypatch.setattr(dispatcher.detector.engine.narrow[0], "infer", inferred.append)
    with lane_held(dispatcher):
        with pytest.raises(error):
            asyncio.run(request(dispatcher, photo, receive=receive, batch=batch))
        until(lambda: present(dispatcher) == 1)  # the holder of the lane, which is not free yet
    assert inferred == []
    assert present(dispatcher) == 0


def test_the_error_of_work_that_was_given_up_is_not_reported(
    dispatcher: Dispatcher, photo: bytes
) -> None:
    """The client has its answer; the loop would log an exception that nobody took."""
    reported: list[Any] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        with lane_held(dispatcher):
            with pytest.raises(Abandoned):
                await request(dispatcher, photo, receive=gone)
            while present(dispatcher) > 1:
                await asyncio.sleep(0)
        await asyncio.to_thread(dispatcher.close)  # by then the work has ended
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(work())
    assert reported == []


def test_a_request_that_infers_already_is_counted_until_it_has(
    open_dispatcher: Callable[..., Dispatcher],
    photo: bytes,
    until: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its client has left: the lane is busy with it all the same."""
    dispatcher = open_dispatcher(queue=1)
    lane = dispatcher.detector.engine.narrow[0]
    real = lane.infer
    inferring, go_on = threading.Event(), threading.Event()

    def infer(feeds: Any) -> Any:
        inferring.set()
        go_on.wait()
        return real(feeds)

    monkeypatch.setattr(lane, "infer", infer)

    async def gone_while_inferring() -> Any:
        while not inferring.is_set():
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    with pytest.raises(Abandoned):
        asyncio.run(request(dispatcher, photo, receive=gone_while_inferring))
    assert present(dispatcher) == 1
    with pytest.raises(Overloaded):
        dispatcher.admit()
    go_on.set()
    until(lambda: present(dispatcher) == 0)


def test_live_requests_go_before_those_of_a_batch(
    photo: bytes, open_dispatcher: Callable[..., Dispatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = open_dispatcher(deadline_s=3000)
    lanes, order, name_of = dispatcher.detector.lanes, [], {}
    choose = lanes._choose

    def noted(places: list[Place]) -> Any:
        order.extend(name_of[place] for place in places if place in name_of)
        return choose(places)

    monkeypatch.setattr(lanes, "_choose", noted)
    names = [f"{kind} {n}" for n in range(4) for kind in ("batch", "live")]

    async def one(name: str) -> None:
        with dispatcher.admit(Asked(batch=name.startswith("batch"))) as ticket:
            name_of[ticket] = name
            await dispatcher.run(ticket, photo, Thresholds(), lambda result: None, never)

    async def work() -> None:
        with lane_held(dispatcher):
            # Two of each kind come as far as a thread, the others wait for one.
            running = [asyncio.ensure_future(one(name)) for name in names]
            while lanes.waiting < 4:
                await asyncio.sleep(0)
        await asyncio.gather(*running)

    asyncio.run(work())
    # A lane that is free while the next live image is decoded goes to the batch.
    assert {*order[:2]} == {"live 0", "live 1"}
    assert {*order} == {*names}
    assert present(dispatcher) == 0


def test_what_is_too_late_is_not_even_decoded(dispatcher: Dispatcher) -> None:
    with dispatcher.admit() as ticket:
        ticket._deadline = 0.0  # it waited for a thread for too long
        with pytest.raises(DeadlineExceeded):
            dispatcher.threads.run(ticket, lambda: None)
    assert ticket.clock.stages_ms == {}


def test_what_was_decoded_too_late_goes_no_further(
    dispatcher: Dispatcher, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dispatcher.admit() as ticket:

        def decode(data: Any, **options: Any) -> Any:
            ticket._deadline = 0.0
            return np.empty(1)  # nothing that could be fitted

        monkeypatch.setattr("seatrial.detect.detector.decode", decode)
        with pytest.raises(DeadlineExceeded):
            dispatcher.threads.run(ticket, lambda: dispatcher.detect(ticket, photo, Thresholds()))


def test_two_threads_for_each_lane(tiny_artifact: Artifact, photo: bytes) -> None:
    """While the lanes infer, the next images are decoded: six requests come as far as a thread."""
    deployment = Deployment("tiny", engine="null", layout=CoreLayout(1, 3, 1, wide=False))
    dispatcher = Dispatcher(open_detector(tiny_artifact, deployment), Limits())
    lanes = dispatcher.detector.lanes

    async def work() -> int:
        with contextlib.ExitStack() as held:
            for _ in range(3):
                place = held.enter_context(Place(lanes))
                held.callback(lanes.release, lanes.acquire(place))
            running = [asyncio.ensure_future(request(dispatcher, photo)) for _ in range(7)]
            while lanes.waiting < 6:
                await asyncio.sleep(0)
            waiting = lanes.waiting
        await asyncio.gather(*running)
        return waiting

    assert asyncio.run(work()) == 6
    dispatcher.close()


def test_closing_waits_for_what_runs(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    dispatcher = open_dispatcher()
    closed: list[int] = []
    dispatcher.detector.engine.close = lambda: closed.append(present(dispatcher))  # type: ignore

    async def work() -> Any:
        answer = asyncio.ensure_future(request(dispatcher, photo, lambda result: "answered"))
        await asyncio.sleep(0)  # let it be submitted
        await asyncio.to_thread(dispatcher.close, 60)
        assert dispatcher.detector.lanes.present == 0
        return await answer

    assert asyncio.run(work()) == "answered"
    assert closed == [0]  # once nothing runs any more


def test_closing_leaves_behind_what_does_not_end(
    open_dispatcher: Callable[..., Dispatcher], photo: bytes
) -> None:
    dispatcher = open_dispatcher()
    closed: list[bool] = []
    real = dispatcher.detector.engine.close
    dispatcher.detector.engine.close = lambda: closed.append(True)  # type: ignore[method-assign]
    with lane_held(dispatcher):
        dispatcher.close(wait_s=0)
        assert not closed  # an engine that computes must not be released
    dispatcher.close()
    assert closed
    real()


def test_a_turn_that_comes_when_its_request_is_given_up_goes_to_the_next(
    dispatcher: Dispatcher,
) -> None:
    """Clients of gRPC leave at any moment: each turn that was lost would be so for ever."""

    async def main() -> None:
        turns = dispatcher.threads.turns
        others = 0
        while turns._free[False]:
            assert turns.take(batch=False) is None
            others += 1
        with dispatcher.admit() as ticket:
            gone = asyncio.get_running_loop().create_future()
            working = asyncio.ensure_future(dispatcher.work(ticket, lambda: None, gone))
            while not turns.waiting:
                await asyncio.sleep(0)
            turns.give_back(batch=False)
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
        assert turns._free[False] == 1
        for _ in range(others - 1):
            turns.give_back(batch=False)

    asyncio.run(main())


def test_memory_that_is_taken_after_the_request_is_gone_is_given_back(
    dispatcher: Dispatcher,
) -> None:
    with dispatcher.admit() as ticket:

        def work() -> None:
            ticket.leave()  # as when a lane hangs: who counts it gives back what it has by now
            assert dispatcher.memory.held_bytes == 0
            dispatcher.memory.take(ticket, 1000, ticket.promise)
            assert dispatcher.memory.held_bytes == 1000

        dispatcher.threads.run(ticket, work)
        assert dispatcher.memory.held_bytes == 0


def test_the_error_of_a_lane_is_told_though_its_thread_ends_as_abandoned(
    dispatcher: Dispatcher,
) -> None:
    async def main() -> None:
        with dispatcher.admit() as ticket:
            loop = asyncio.get_running_loop()
            gone, go_on = loop.create_future(), threading.Event()

            def work() -> None:
                loop.call_soon_threadsafe(go_on.wait, 20)  # the loop learns of both at once
                ticket.fail(EngineFailed("the engine did not end"))
                threading.Timer(0.2, go_on.set).start()
                raise Abandoned

            with pytest.raises(EngineFailed, match="did not end"):
                await dispatcher.work(ticket, work, gone)

    asyncio.run(main())
