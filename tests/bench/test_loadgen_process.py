from __future__ import annotations

import asyncio
import io

import msgspec
import pytest

from seatrial.bench import loadgen_process
from seatrial.bench.loadgen_options import LoadgenOptions
from seatrial.bench.loadgen_process import (
    LoadgenTask,
    drive,
    places,
    read_task,
    settings,
    warm_up,
    write_task,
)
from seatrial.load.samples import Sample
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


def test_a_task_comes_through_the_pipe_as_it_was():
    stream = io.BytesIO()
    write_task(stream, task(rate=2.0))
    stream.seek(0)
    assert read_task(stream) == task(rate=2.0)


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
        loadgen, task("multi-stream", images_per_query=3, queries=7, percentile="p95"), 0.01, 50.0
    )
    assert several.scenario == loadgen.TestScenario.MultiStream
    assert (several.multi_stream_samples_per_query, several.min_query_count) == (3, 7)
    assert several.multi_stream_target_latency_percentile == 0.95
    assert several.multi_stream_expected_latency_ns == 50_000
    server = settings(loadgen, task("server", rate=20.0, latency_limit_ms=100.0), 10.0, 50.0)
    assert (server.server_target_qps, server.server_target_latency_ns) == (20.0, 100_000_000)
    assert server.server_target_latency_percentile == 0.99
    assert settings(loadgen, task("offline"), 10.0, 50.0).offline_expected_qps == 65.0
    assert settings(loadgen, task("offline", rate=9.0), 10.0, 50.0).offline_expected_qps == 9.0


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
