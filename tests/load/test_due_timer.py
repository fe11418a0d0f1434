from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest
import uvloop

from seatrial.load.due_timer import DueTimer

pytestmark = pytest.mark.usefixtures("time_limit")
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture(params=LOOPS)
def runner(request: pytest.FixtureRequest):
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as one:
        yield one


@pytest.fixture(params=["descriptor", "timer of the event loop"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "descriptor":
        monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: object())
    return str(request.param)


def test_it_is_never_early_and_wakes_a_few_times_only(
    runner: asyncio.Runner, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waits() -> list[int]:
        late_ns = []
        with DueTimer() as timer:
            wakes = 0
            wake = timer._wake

            def counted() -> None:
                nonlocal wakes
                wakes += 1
                wake()

            monkeypatch.setattr(timer, "_wake", counted)
            for number in range(40):
                due_ns = time.perf_counter_ns() + 700_000 + 41_000 * number
                assert await timer.wait(due_ns)
                late_ns.append(time.perf_counter_ns() - due_ns)
            if kind == "descriptor":
                assert wakes <= 40
        return late_ns

    late_ns = sorted(runner.run(waits()))
    assert late_ns[0] >= 0
    # Half of them: the machine may be busy. Timers of whole milliseconds are 0.5 ms late, or spin.
    if kind == "descriptor":
        assert late_ns[10] < 500_000


def test_a_time_that_is_gone_is_not_waited_for(runner: asyncio.Runner, kind: str) -> None:
    async def waits() -> bool:
        with DueTimer() as timer:
            return await timer.wait(time.perf_counter_ns() - 1)

    assert runner.run(waits())


def test_a_timer_that_is_stopped_waits_no_more(runner: asyncio.Runner, kind: str) -> None:
    async def waits() -> tuple[bool, bool]:
        with DueTimer() as timer:
            asyncio.get_running_loop().call_later(0.01, timer.stop)
            in_an_hour_ns = time.perf_counter_ns() + 3_600 * 10**9
            return await timer.wait(in_an_hour_ns), await timer.wait(in_an_hour_ns)

    assert runner.run(waits()) == (False, False)


def test_it_lets_go_of_its_descriptor(runner: asyncio.Runner) -> None:
    async def waits() -> Callable[[], None]:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with DueTimer() as timer:
                await timer.wait(time.perf_counter_ns() + 1000)
        assert len(os.listdir("/proc/self/fd")) == before

    runner.run(waits())
