from __future__ import annotations

import pytest

from seatrial.bench.options import ENOUGH_REQUESTS, BenchOptions
from seatrial.bench.scenarios import (
    READERS,
    SCENARIOS,
    check_read,
    check_side_by_side,
    longest_s,
    plan,
    read_law,
)
from seatrial.errors import InvalidConfig
from seatrial.load.arrivals import Bursts, ClosedLoop, ConstantRate, Poisson, Ramp


def test_default_plan_takes_about_a_minute_and_can_print_p99():
    single, scaling = plan(BenchOptions(images="photos"))
    assert ENOUGH_REQUESTS == 662
    assert (single.name, single.loads[0].sessions, single.loads[0].requests) == (
        "single-stream",
        1,
        662,
    )
    assert [load.sessions for load in scaling.loads] == [1, 2, 4, 8]
    assert all(load.requests is None for load in scaling.loads)
    assert longest_s((single, scaling)) == 31 + 4 * 8


def test_options_reach_the_loads():
    options = BenchOptions(
        images="photos",
        sessions=(2, 6),
        single_stream_requests=9,
        single_stream_s=11.0,
        point_s=3.0,
        warmup_s=0.5,
        timeout_s=4.0,
        seed=20,
    )
    single, scaling = plan(options)
    (alone,) = single.loads
    assert (alone.measure_s, alone.requests, alone.image_seed) == (11.0, 9, 20)
    assert [load.measure_s for load in scaling.loads] == [3.0, 3.0]
    # Each point sends the images in an order of its own.
    assert [load.image_seed for load in scaling.loads] == [22, 26]
    assert [load.warmup_requests for load in (alone, *scaling.loads)] == [2, 4, 12]
    for load in (alone, *scaling.loads):
        assert (load.warmup_s, load.timeout_s, load.loop) == (0.5, 4.0, "closed")


def test_scenarios_run_in_the_order_asked_for():
    names = ("scaling", "single-stream")
    assert tuple(s.name for s in plan(BenchOptions(images="photos", scenarios=names))) == names


def test_each_session_warms_its_connection():
    _, scaling = plan(BenchOptions(images="photos"))
    assert all(load.warmup_requests >= load.sessions for load in scaling.loads)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenarios": ("scalling",)}, "unknown scenario 'scalling'"),
        ({"scenarios": ()}, "no scenario"),
        ({"sessions": ()}, "--sessions must be rising"),
        ({"rates": (2.0, 1.0)}, "--rate must be rising"),
        ({"rates": (0.0, 1.0)}, "--rate must be rising numbers of more than 0"),
        ({"sessions": (0, 1)}, "--sessions must be rising"),
        ({"sessions": (4, 2)}, "--sessions must be rising"),
        ({"sessions": (2, 2)}, "--sessions must be rising"),
        ({"point_s": 0.0}, "--point-s must be a number of more than 0"),
        ({"point_s": float("nan")}, "--point-s must be a number of more than 0"),
        ({"single_stream_s": float("inf")}, "--single-stream-s must be a number of more than 0"),
        ({"timeout_s": -1.0}, "--timeout-s must be a number of more than 0"),
        ({"latency_limit_ms": 0.0}, "--latency-limit-ms must be a number of more than 0"),
        ({"warmup_s": -1.0}, "--warmup-s must be 0 or more"),
        ({"ready_s": float("nan")}, "--ready-s must be 0 or more"),
        ({"single_stream_requests": 0}, "--single-stream-requests must be a number of more than 0"),
        ({"image_limit": 0}, "--image-limit must be a number of more than 0"),
        ({"seed": -1}, r"--seed must be a whole number from 0 to 2\^63 - 1, not -1"),
        ({"seed": 2**63}, "--seed must be"),
        ({"schedule_seed": -1}, "--schedule-seed must be"),
        ({"think_seed": -7}, "--think-seed must be a whole number from 0"),
        ({"point_s": 1e9}, r"the scenario scaling would take 1e\+09 s"),
    ],
)
def test_options_out_of_range(change, message):
    with pytest.raises(InvalidConfig, match=message):
        plan(BenchOptions(images="photos", **change))


def test_nearest_scenario_is_named():
    with pytest.raises(InvalidConfig) as caught:
        plan(BenchOptions(images="photos", scenarios=("scalling",)))
    assert caught.value.hint == "did you mean 'scaling'?"
    with pytest.raises(InvalidConfig) as caught:
        plan(BenchOptions(images="photos", scenarios=("server,offline",)))
    assert caught.value.hint == "scenarios are separated by blanks: server offline"


def test_short_times_and_small_limits_are_allowed():
    options = BenchOptions(
        images="photos", point_s=0.5, timeout_s=0.5, warmup_s=0.0, ready_s=0.0, image_limit=1
    )
    assert plan(options)[1].loads[0].measure_s == 0.5


def loads_of(name, **options):
    (scenario,) = plan(BenchOptions(images="photos", scenarios=(name,), **options))
    return scenario.loads


def test_the_server_is_measured_at_each_rate_long_enough_for_p99():
    loads = loads_of("server", rates=(2.0, 20.0, 100.0), seed=7)
    assert [load.arrivals for load in loads] == [Poisson(2.0), Poisson(20.0), Poisson(100.0)]
    assert {load.loop for load in loads} == {"open"}
    assert [load.measure_s for load in loads] == pytest.approx([180.0, 1.1 * 662 / 20, 30.0])
    assert [load.image_seed for load in loads] == [7, 8, 9]
    assert [load.schedule_seed for load in loads] == [7, 8, 9]
    assert {load.schedule_seed for load in loads_of("server", rates=(2.0,), schedule_seed=3)} == {3}
    (short,) = loads_of("server", rates=(2.0,), server_s=4.0, arrivals="constant")
    assert (short.arrivals, short.measure_s) == (ConstantRate(2.0), 4.0)


def test_without_a_rate_the_highest_one_is_searched():
    options = {"latency_limit_ms": 90.0, "search_s": 50.0, "arrivals": "bursts"}
    (scenario,) = plan(BenchOptions(images="photos", scenarios=("server",), **options))
    assert (scenario.loads, scenario.longest_s) == ((), 50.0)
    assert scenario.law_at(4.0) == Bursts(on_hz=8.0)
    with pytest.raises(InvalidConfig, match="needs a rate of arrivals") as caught:
        loads_of("server")
    assert "--latency-limit-ms" in caught.value.hint


def test_a_law_of_its_own_is_a_file(tmp_path):
    path = tmp_path / "law.toml"
    path.write_text('[arrivals]\ntype = "ramp"\nfrom_hz = 1\nto_hz = 9\nover_s = 60\n')
    assert read_law(path) == Ramp(1.0, 9.0, 60.0)
    (load,) = loads_of("server", arrivals=str(path))
    assert (load.arrivals, load.measure_s) == (Ramp(1.0, 9.0, 60.0), 60.0)
    with pytest.raises(InvalidConfig, match="has rates of its own"):
        loads_of("server", arrivals=str(path), rates=(1.0,))
    path.write_text('[arrivals]\ntype = "ramp"\nfrom_hz = -1\nto_hz = 9\nover_s = 60\n')
    with pytest.raises(InvalidConfig, match="from_hz"):
        loads_of("server", arrivals=str(path))
    for rates in ((), (5.0,)):
        with pytest.raises(InvalidConfig, match="unknown arrival law 'poison'") as caught:
            loads_of("server", arrivals="poison", rates=rates)
        assert "poisson" in caught.value.hint


def test_a_query_of_the_multi_stream_has_several_images():
    (load,) = loads_of("multi-stream", images_per_query=4, single_stream_requests=99)
    assert load.arrivals == ClosedLoop(1, images_per_query=4)
    assert load.requests == 99


def test_an_offline_load_sends_each_image_once_however_long_it_takes():
    (load,) = loads_of("offline", offline_sessions=5)
    assert load.arrivals == ClosedLoop(5, once=True)
    assert load.measure_s > 86_400
    (scenario,) = plan(BenchOptions(images="photos", scenarios=("offline",), image_limit=50))
    assert scenario.longest_s == 6.0


def test_a_soak_runs_at_one_rate():
    (load,) = loads_of("soak", rates=(3.0,), soak_s=60.0)
    assert (load.arrivals, load.measure_s) == (Poisson(3.0), 60.0)
    with pytest.raises(InvalidConfig, match="the scenario soak needs a rate of arrivals"):
        loads_of("soak")
    with pytest.raises(InvalidConfig, match=r"at one rate, and --rate names several: 1, 2\.5"):
        loads_of("soak", rates=(1.0, 2.5))


def test_a_replay_counts_every_request_of_its_log(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("timestamp\n100\n104\n130\n")
    (load,) = loads_of("replay", log=str(log), speed=10.0)
    assert load.arrivals.due_s(0, load.warmup_s + load.measure_s).tolist() == [0.0, 0.4, 3.0]
    with pytest.raises(InvalidConfig, match="the scenario replay would take") as caught:
        loads_of("replay", log=str(log), speed=1e-300)
    assert "--speed" in caught.value.hint
    with pytest.raises(InvalidConfig, match="needs a log"):
        loads_of("replay")


def test_sessions_think():
    (load, _) = loads_of(
        "scaling", sessions=(1, 3), think_time_s=0.5, thinking="random", think_seed=9
    )
    assert (load.arrivals, load.think_seed) == (ClosedLoop(1, 0.5, "random"), 9)


def test_open_loops_are_not_measured_side_by_side():
    check_side_by_side(BenchOptions(images="photos"))
    for name in ("server", "soak"):
        options = BenchOptions(images="photos", scenarios=("scaling", name), rates=(3.0,))
        with pytest.raises(InvalidConfig, match=f"the scenario {name} is measured on one runtime"):
            check_side_by_side(options)
    searched = BenchOptions(images="photos", scenarios=("server",), latency_limit_ms=5.0)
    with pytest.raises(InvalidConfig, match="the scenario server"):
        check_side_by_side(searched)


def test_a_schedule_with_no_room_in_memory_is_told_before_the_load():
    with pytest.raises(InvalidConfig, match=r"the schedule would have 3\.6e\+09 requests"):
        loads_of("soak", rates=(1e6,))


@pytest.mark.parametrize(
    ("scenarios", "change", "message"),
    [
        (("single-stream",), {"rates": (5.0,)}, "--rate is for server and soak: what is measured"),
        (("single-stream", "scaling"), {"log": "x.csv"}, "--log is for replay: .* and scaling"),
        (("server",), {"rates": (5.0,), "soak_s": 60.0}, "--soak-s is for soak"),
        (("server",), {"rates": (5.0,), "point_s": 60.0}, "--point-s is for scaling"),
        (("soak",), {"rates": (5.0,), "server_s": 60.0}, "--server-s is for server"),
        (("scaling",), {"speed": 2.0}, "--speed is for replay"),
        (("scaling",), {"arrivals": "constant"}, "--arrivals is for server and soak"),
        (("offline",), {"images_per_query": 2}, "--images-per-query is for multi-stream"),
        (("offline",), {"log": "x", "speed": 2.0}, "--log is for replay; --speed is for replay"),
        (("server",), {"latency_limit_ms": 9.0, "server_s": 9.0}, "--server-s is the time at a"),
        (("server",), {"rates": (5.0,), "search_s": 9.0}, "--search-s and --percentile are for"),
        (("server",), {"rates": (5.0,), "percentile": "p50"}, "--search-s and --percentile"),
    ],
)
def test_what_no_scenario_reads_is_refused(scenarios, change, message):
    options = BenchOptions(images="photos", scenarios=scenarios, **change)
    with pytest.raises(InvalidConfig, match=message):
        check_read(options)


def test_what_a_scenario_reads_and_what_was_not_given_is_taken():
    check_read(BenchOptions(images="photos"))
    for scenarios, change in (
        (("single-stream", "server"), {"rates": (5.0,), "server_s": 9.0, "single_stream_s": 3.0}),
        (("server",), {"latency_limit_ms": 9.0, "search_s": 9.0, "percentile": "p50"}),
        (("soak",), {"rates": (5.0,), "soak_s": 9.0, "schedule_seed": 3}),
        (("replay",), {"log": "x.csv", "speed": 2.0, "warmup_s": 0.5, "client_processes": 2}),
        (("multi-stream", "offline"), {"images_per_query": 2, "offline_sessions": 3}),
    ):
        check_read(BenchOptions(images="photos", scenarios=scenarios, **change))


class Reads:
    """Options that write down which of them are read."""

    def __init__(self, options):
        self._options, self.keys = options, set()

    def __getattr__(self, key):
        self.keys.add(key)
        return getattr(self._options, key)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_table_of_readers_is_what_the_scenarios_read(name, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("timestamp\n100\n104\n")
    reads = Reads(BenchOptions(images="photos", rates=(5.0,), log=str(log)))
    SCENARIOS[name](reads, None)
    told = {key for key, readers in READERS.items() if name in readers}
    # Of a search; and seeds, which every load is given, and that mean nothing to some.
    assert told - {"percentile", "search_s"} == reads.keys & READERS.keys() - {
        key for key in ("schedule_seed", "think_seed") if name not in READERS[key]
    }
