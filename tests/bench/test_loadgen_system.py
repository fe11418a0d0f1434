from __future__ import annotations

import asyncio
from time import perf_counter_ns
from types import SimpleNamespace

import pytest

from seatrial.bench import loadgen_system
from seatrial.bench.loadgen_system import ServiceUnderTest, _Query
from seatrial.load.samples import CONNECT, Sample
from seatrial.load.target import Body

BODIES = (Body(b"a", {}), Body(b"b", {}))


def query(*numbers):
    return [SimpleNamespace(id=number, index=number % 2) for number in numbers]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def answered(error=""):
    async def send(body, due_ns):
        start_ns = perf_counter_ns()
        await asyncio.sleep(0)
        return Sample(start_ns, perf_counter_ns(), 0 if error else 200, error)

    return send


def test_each_image_is_sent_once_and_completed():
    async def run():
        sent, completed = [], []

        async def send(body, due_ns):
            sent.append((body.data, due_ns))
            return await answered()(body, due_ns)

        system = ServiceUnderTest(send, BODIES, completed.append, places=0, timeout_s=9.0)
        await asyncio.to_thread(system.issue, query(10, 11, 12))
        await asyncio.to_thread(system.issue, query(13))
        await until(lambda: len(completed) == 4)
        return sent, completed, system.figures()

    sent, completed, figures = asyncio.run(run())
    assert sent == [(b"a", None), (b"b", None), (b"a", None), (b"b", None)]
    assert completed == [10, 11, 12, 13]
    assert (figures.queries, figures.images, figures.failed, figures.errors) == (2, 4, 0, {})
    assert (figures.latency.count, figures.service.count, figures.hand_over.count) == (2, 4, 4)
    assert not figures.gone


def test_no_more_are_under_way_than_there_are_places():
    async def run(count):
        under_way = most = 0
        completed = []

        async def send(body, due_ns):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1
            return Sample(0, 1, 200)

        system = ServiceUnderTest(send, BODIES, completed.append, places=count, timeout_s=9.0)
        system.issue(query(*range(20)))
        await until(lambda: len(completed) == 20)
        return most

    assert asyncio.run(run(3)) == 3
    assert asyncio.run(run(0)) == 20


def test_a_failed_image_is_completed_no_sooner_than_its_timeout():
    async def run():
        completed = {}
        system = ServiceUnderTest(
            answered("http-503"),
            BODIES,
            lambda number: completed.setdefault(number, perf_counter_ns()),
            places=0,
            timeout_s=0.2,
        )
        issued_ns = perf_counter_ns()
        system.issue(query(1, 2))
        await until(lambda: system.done == 2)
        early = dict(completed)
        await until(lambda: len(completed) == 2)
        return early, min(completed.values()) - issued_ns, system.figures(), system.failed

    early, took_ns, figures, failed = asyncio.run(run())
    assert failed == 2
    assert early == {}
    assert took_ns >= 0.19e9
    assert (figures.failed, figures.errors) == (2, {"http-503": 2})
    assert (figures.latency.count, figures.latency.failed) == (0, 1)
    assert (figures.service.count, figures.service.failed, figures.good_per_s) == (0, 2, 0.0)


def test_figures_by_the_clock_of_the_client():
    ms = 10**6

    def query(issued_ms, *times_ms, error=""):
        samples = [
            Sample((issued_ms + start) * ms, (issued_ms + end) * ms, 200, error)
            for start, end in times_ms
        ]
        return _Query(issued_ms * ms, len(samples), samples)

    async def run():
        system = ServiceUnderTest(answered(), BODIES, print, places=0, timeout_s=9.0)
        system.queries += [
            query(1000, (1, 5), (2, 10)),
            query(1500, (3, 8), (3, 9)),
            query(1900, (0, 1), error="timeout"),
        ]
        system.queries[-1].samples.append(Sample(1905 * ms, 2000 * ms, 200))  # one of two failed
        system.queries[-1].left = 2
        system.queries.append(_Query(1950 * ms, 1))  # never answered
        return system.figures()

    found = asyncio.run(run())
    assert (found.queries, found.images, found.failed, found.errors) == (4, 6, 1, {"timeout": 1})
    assert found.good_per_s == 5.0  # five good images from 1000 to 2000 ms
    assert (found.latency.count, found.latency.failed) == (2, 2)
    assert (found.latency.min_ms, found.latency.max_ms) == (9.0, 10.0)
    assert (found.service.count, found.service.failed, found.service.max_ms) == (5, 1, 95.0)
    assert (found.hand_over.count, found.hand_over.min_ms, found.hand_over.max_ms) == (6, 0.0, 5.0)
    assert found.gone is False


@pytest.mark.parametrize(("errors", "gone"), [(CONNECT, True), ("http-503", False)], ids=str)
def test_a_service_that_cannot_be_reached_is_gone(errors, gone, monkeypatch):
    monkeypatch.setattr(loadgen_system, "GIVE_UP_S", 0.01)

    async def run():
        system = ServiceUnderTest(
            answered(errors), BODIES, lambda number: None, places=0, timeout_s=9.0
        )
        system.issue(query(1))
        if gone:
            await system.gone.wait()
        else:
            await until(lambda: system.done == 1)
        return system.figures().gone

    assert asyncio.run(run()) is gone


def test_a_service_that_broke_one_connection_is_not_gone(monkeypatch):
    monkeypatch.setattr(loadgen_system, "GIVE_UP_S", 0.01)

    async def run():
        asked = []

        async def send(body, due_ns):
            asked.append(body.data)
            return await answered(CONNECT if len(asked) == 1 else "")(body, due_ns)

        system = ServiceUnderTest(send, BODIES, lambda number: None, places=0, timeout_s=9.0)
        system.issue(query(1))
        await until(lambda: len(asked) == 2)
        await system._asked
        return asked, system.gone.is_set(), system.done

    assert asyncio.run(run()) == ([b"b", b"b"], False, 1)


def test_an_error_of_the_client_ends_the_run():
    async def run():
        async def send(body, due_ns):
            raise RuntimeError("a mistake")

        system = ServiceUnderTest(send, BODIES, lambda number: None, places=0, timeout_s=9.0)
        system.issue(query(1))
        await system.gone.wait()
        return str(system.failure)

    assert asyncio.run(run()) == "a mistake"
