from __future__ import annotations

import asyncio
import io
from time import perf_counter_ns
from types import SimpleNamespace

import msgspec
import pytest

from seatrial.bench import loadgen_process
from seatrial.bench.loadgen_options import LoadgenOptions
from seatrial.bench.loadgen_process import (
    LoadgenTask,
    ServiceUnderTest,
    drive,
    places,
    read_task,
    settings,
    warm_up,
    write_task,
)
from seatrial.load.samples import CONNECT, Sample
from seatrial.load.target import Body

BODIES = (Body(b"a", {}), Body(b"b", {}))


def task(scenario="single-stream", **changes):
    return LoadgenTask(
        scenario=scenario,
        options=LoadgenOptions(images="photos", **changes),
        url="http://127.0.0.1:1/detect",
        bodies=BODIES,
        token=None,
        ca_file=None,
        folder="/nowhere",
    )


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


def test_a_task_comes_through_the_pipe_as_it_was():
    stream = io.BytesIO()
    write_task(stream, task(rate_hz=2.0))
    stream.seek(0)
    assert read_task(stream) == task(rate_hz=2.0)


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
        return early, min(completed.values()) - issued_ns, system.figures()

    early, took_ns, figures = asyncio.run(run())
    assert early == {}
    assert took_ns >= 0.19e9
    assert (figures.failed, figures.errors) == (2, {"http-503": 2})
    assert (figures.latency.count, figures.latency.failed) == (0, 1)
    assert (figures.service.count, figures.service.failed, figures.good_per_s) == (0, 2, 0.0)


@pytest.mark.parametrize(("errors", "gone"), [(CONNECT, True), ("http-503", False)], ids=str)
def test_a_service_that_cannot_be_reached_is_gone(errors, gone, monkeypatch):
    monkeypatch.setattr(loadgen_process, "GIVE_UP_S", 0.01)

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
    monkeypatch.setattr(loadgen_process, "GIVE_UP_S", 0.01)

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


def test_the_warm_up_sends_from_each_session_and_gives_rate_and_shortest_time():
    async def run():
        sent = []

        async def send(body, due_ns):
            sent.append(body.data)
            await asyncio.sleep(0.01)
            return Sample(0, (5 + len(sent)) * 10**6, 200)

        return sent, await warm_up(send, BODIES, 3, 0.0)

    sent, (shortest_ms, rate_hz) = asyncio.run(run())
    assert sent == [b"a", b"b", b"a"]
    assert shortest_ms == 8.0  # three were sent before the first answer
    assert 0 < rate_hz <= 3 / 0.01


def test_places_of_each_scenario():
    found = {
        name: places(task(name, images_per_query=5, in_flight=7))
        for name in ("single-stream", "multi-stream", "server", "offline")
    }
    assert found == {"single-stream": 1, "multi-stream": 5, "server": 0, "offline": 7}


def test_settings_of_loadgen():
    loadgen = pytest.importorskip("mlperf_loadgen")
    seeds = {"library_seed": 1, "sample_seed": 2, "schedule_seed": 3}
    one = settings(loadgen, task(duration_s=2.0, timeout_s=5.0, **seeds), 10.0, 50.0)
    assert one.scenario == loadgen.TestScenario.SingleStream
    assert one.mode == loadgen.TestMode.PerformanceOnly
    assert (one.min_duration_ms, one.max_duration_ms, one.min_query_count) == (2000, 25_000, 64)
    assert (one.qsl_rng_seed, one.sample_index_rng_seed, one.schedule_rng_seed) == (1, 2, 3)
    assert one.single_stream_target_latency_percentile == 0.90
    assert one.single_stream_expected_latency_ns == 8_000_000
    several = settings(
        loadgen, task("multi-stream", images_per_query=3, queries=7, percentile=95.0), 0.01, 50.0
    )
    assert several.scenario == loadgen.TestScenario.MultiStream
    assert (several.multi_stream_samples_per_query, several.min_query_count) == (3, 7)
    assert several.multi_stream_target_latency_percentile == 0.95
    assert several.multi_stream_expected_latency_ns == 50_000
    server = settings(loadgen, task("server", rate_hz=20.0, latency_ms=100.0), 10.0, 50.0)
    assert (server.server_target_qps, server.server_target_latency_ns) == (20.0, 100_000_000)
    assert server.server_target_latency_percentile == 0.99
    assert settings(loadgen, task("offline"), 10.0, 50.0).offline_expected_qps == 65.0
    assert settings(loadgen, task("offline", rate_hz=9.0), 10.0, 50.0).offline_expected_qps == 9.0


def test_an_error_of_loadgen_ends_the_run(monkeypatch):
    def broken(loadgen, given, system, chosen):
        raise RuntimeError("LoadGen broke")

    async def quick(send, bodies, sessions, for_s):
        return 1.0, 1.0

    monkeypatch.setattr(loadgen_process, "run_test", broken)
    monkeypatch.setattr(loadgen_process, "warm_up", quick)
    loadgen = pytest.importorskip("mlperf_loadgen")
    told = []
    with pytest.raises(RuntimeError, match="LoadGen broke"):
        asyncio.run(drive(loadgen, task(), told.append))
    assert msgspec.structs.asdict(told[0]) == {"done": 0, "failed": 0}
