"""Work on threads: its end is told once, whatever becomes of it; threads start when needed."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from seatrial.serve.thread_pool import Job, ThreadPool

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture
def ends() -> queue.SimpleQueue[tuple[Any, BaseException | None]]:
    return queue.SimpleQueue()


@pytest.fixture
def tell(ends: queue.SimpleQueue[Any]) -> Callable[[Any, BaseException | None], None]:
    return lambda result, error: ends.put((result, error))


def fails() -> None:
    raise SystemExit("as engines do")


def test_what_work_gives_or_raises_is_told_and_the_thread_goes_on(
    ends: queue.SimpleQueue[Any], tell: Any
) -> None:
    pool = ThreadPool(1, "one")
    job = Job(fails, tell)
    pool.submit(job)
    result, error = ends.get(timeout=60)
    assert (result, type(error), job.ended) == (None, SystemExit, True)
    pool.submit(Job(lambda: threading.current_thread().name, tell))
    assert ends.get(timeout=60) == ("one_0", None)
    pool.close(wait=True)


def test_a_thread_that_is_idle_is_taken_before_another_one_starts(
    ends: queue.SimpleQueue[Any], tell: Any
) -> None:
    pool, go = ThreadPool(3, "three"), threading.Event()
    for _ in range(5):
        pool.submit(Job(go.wait, tell))
    assert len(pool._threads) == 3  # the others wait for them
    go.set()
    assert [ends.get(timeout=60) for _ in range(5)] == [(True, None)] * 5
    single = ThreadPool(3, "single")
    for _ in range(20):
        single.submit(Job(int, tell))
        ends.get(timeout=60)
    assert len(single._threads) == 1
    for each in (pool, single):
        each.close(wait=True)
        assert not any(thread.is_alive() for thread in each._threads)


def busy_pool(tell: Any) -> tuple[ThreadPool, Job[str], threading.Event]:
    """A pool of one thread, which works until the event is set."""
    pool, began, go = ThreadPool(1, "one"), threading.Event(), threading.Event()

    def wait() -> str:
        began.set()
        go.wait(60)
        return "done"

    job = Job(wait, tell)
    pool.submit(job)
    assert began.wait(60)
    return pool, job, go


def test_work_that_is_dropped_before_it_begins_is_not_done_and_its_end_is_told(
    ends: queue.SimpleQueue[Any], tell: Any
) -> None:
    pool, first, go = busy_pool(tell)
    second = Job(fails, tell)
    pool.submit(second)
    first.drop()  # too late
    second.drop()
    assert not first.ended
    go.set()
    assert ends.get(timeout=60) == ("done", None)
    assert ends.get(timeout=60) == (None, None)
    pool.close(wait=True)


def test_a_closed_pool_ends_what_has_begun_and_drops_the_rest(
    ends: queue.SimpleQueue[Any], tell: Any
) -> None:
    pool, _, go = busy_pool(tell)
    pool.submit(Job(fails, tell))
    pool.close(wait=False)
    assert ends.get(timeout=60) == (None, None)  # the second, while the first still runs
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(Job(int, tell))
    go.set()
    assert ends.get(timeout=60) == ("done", None)
    pool._threads[0].join(60)
    assert not pool._threads[0].is_alive()


def test_an_idle_thread_keeps_nothing_of_its_work(ends: queue.SimpleQueue[Any], tell: Any) -> None:
    class Image:
        pass

    pool = ThreadPool(1, "one")
    for fails_too in (False, True):
        image = Image()
        lives = weakref.ref(image)

        def work(image: Image = image, fails_too: bool = fails_too) -> None:
            if fails_too:
                raise ValueError("damaged")

        pool.submit(Job(work, lambda result, error: ends.put(None)))
        ends.get(timeout=60)
        del image, work
        give_up = time.monotonic() + 60
        while lives() is not None and time.monotonic() < give_up:  # it has told the end just now
            gc.collect()
        assert lives() is None
    pool.close(wait=True)


def test_an_end_that_cannot_be_told_costs_no_thread(
    ends: queue.SimpleQueue[Any], tell: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The next piece of work would wait for it for ever."""

    def fails(result: Any, error: BaseException | None) -> None:
        ends.put((result, error))
        raise ZeroDivisionError

    pool = ThreadPool(1, "one")
    for done in (fails, tell):
        pool.submit(Job(int, done))
        assert ends.get(timeout=60) == (0, None)
    pool.close(wait=True)
    assert "ZeroDivisionError" in caplog.text
