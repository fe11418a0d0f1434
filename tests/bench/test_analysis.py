from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_open_point
from seatrial.bench.analysis import Unsteady, analyse, find_knee

STAGES = {"decode": 2.0, "queue": 10.0, "infer": 6.0, "postprocess": 2.0}


def test_knee_is_the_fewest_sessions_near_the_best(point):
    # 25, 47.6, 48.2, 48.2 answers per second.
    points = [point(1, 40.0), point(2, 42.0), point(4, 83.0), point(8, 166.0)]
    knee = find_knee(points, 0.95)
    assert (knee.index, knee.sessions, knee.reached) == (1, 2, True)
    assert knee.best_goodput_per_s == pytest.approx(48.2, rel=0.01)
    assert knee.gain == pytest.approx(48.2 / 25, rel=0.01)
    assert find_knee(points, 0.999).sessions == 4


def test_knee_at_the_last_point_is_not_reached(point):
    knee = find_knee([point(1, 40.0), point(2, 40.0), point(4, 40.0)], 0.95)
    assert (knee.sessions, knee.reached) == (4, False)


def test_throughput_of_refusals_makes_no_knee(point):
    # Ten times as many answers with 8 sessions, nearly all of them 503.
    points = [point(1, 40.0), point(2, 40.0), point(8, 10.0, count=1000, failed=980)]
    knee = find_knee(points, 0.95)
    assert knee.best_sessions == 2
    assert points[2].throughput_per_s > points[1].throughput_per_s


@pytest.mark.parametrize("rows", [0, 1])
def test_no_knee_without_a_curve(point, rows):
    assert find_knee([point(1, 40.0)][:rows], 0.95) is None


def test_all_points_failed(point):
    points = [point(n, 40.0, count=50, failed=50) for n in (1, 2)]
    found = analyse([("single-stream", points[:1]), ("scaling", points)], cores=2)
    assert (found.knee, found.alone, found.saturation, found.work_alone) == (None,) * 4
    assert (found.failures.failed, found.failures.share) == (150, 1.0)
    assert found.failures.commonest == "http-503"


def test_shares_of_work_leave_the_waiting_out(point):
    found = analyse([("single-stream", [point(1, 25.0, stages=STAGES)])], cores=2)
    work = found.work_alone
    assert work.work_ms == pytest.approx(10.0)
    assert work.infer_share == pytest.approx(0.6)
    assert work.image_share == pytest.approx(0.4)
    assert (work.largest, work.largest_share) == ("infer", pytest.approx(0.6))
    assert work.queue_share == pytest.approx(0.5)
    assert work.transport_share == pytest.approx(5 / 25, abs=0.01)


def test_saturation_is_read_at_the_best_point(point):
    points = [
        point(1, 40.0, server_cores=0.5, client_cores=0.02),
        point(2, 42.0, server_cores=1.8, client_cores=0.2),
    ]
    found = analyse([("scaling", points)], cores=2).saturation
    assert found.used_share == pytest.approx(1.0)
    assert found.client_share == pytest.approx(0.1)
    assert found.server_cpu_s == pytest.approx(1.8 / points[1].goodput_per_s)
    assert found.ceiling_per_s == pytest.approx(points[1].goodput_per_s * 2 / 1.8)


def test_queueing_compares_the_last_point_with_the_knee(point):
    points = [point(1, 40.0), point(2, 42.0), point(8, 166.0)]
    found = analyse([("scaling", points)], cores=2).queueing
    assert found.latency_factor == pytest.approx(166 / 42, rel=0.01)
    assert found.expected_ms == pytest.approx(found.last_ms, rel=0.01)
    assert analyse([("scaling", points[:2])], cores=2).queueing is None


def test_remote_service_has_no_saturation(point):
    found = analyse([("scaling", [point(1, server_cores=None)] * 2)], cores=2)
    assert (found.saturation, found.alone_busy_share, found.noise.other_share) == (None,) * 3


def test_noise_is_the_worst_of_all_points(point):
    points = [point(1), point(2, other_cores=0.5, steal_share=0.03)]
    found = analyse([("scaling", points)], cores=2).noise
    assert (found.other_share, found.steal_share) == (0.25, 0.03)


def test_the_report_holds_the_cutoffs_that_findings_are_drawn_from(point):
    assert msgspec.to_builtins(analyse([("single-stream", [point(1)])], cores=2).thresholds) == {
        "knee": 0.95,
        "saturated": 0.9,
        "idle": 0.75,
        "dominant": 0.5,
        "transport": 0.25,
        "client": 0.15,
        "noise": 0.05,
        "steal": 0.01,
        "balance": 0.95,
        "repeat": 0.05,
        "answers": 30,
        "disturbed": 0.25,
        "follows": 0.95,
        "grows": 0.05,
        "leaks": 0.01,
    }


def test_a_point_with_just_the_share_is_the_knee(point):
    # 25, 50 and 100 answers a second.
    points = [point(1, 40.0), point(2, 40.0), point(4, 40.0), point(8, 80.0)]
    assert find_knee(points, 0.5).sessions == 2
    assert find_knee(points, 0.5000001).sessions == 4
    assert find_knee(points, 0.25).sessions == 1


def test_points_without_a_good_answer_are_no_part_of_the_curve(point):
    failed = point(1, 40.0, count=50, failed=50)
    knee = find_knee([failed, point(2, 80.0), point(4, 80.0), failed], 0.95)
    assert (knee.index, knee.best_index) == (2, 2)
    assert knee.gain == pytest.approx(2.0)
    # What was measured beyond it gave nothing: the curve is not seen to flatten.
    assert not knee.reached
    assert knee.last_sessions == 1


@pytest.mark.parametrize(("single", "first"), [(700, 0), (100, 0), (5, 1)])
def test_single_stream_tells_of_lone_requests_where_it_has_a_median(point, single, first):
    """A number of requests in the same time would choose the faster of two windows."""
    runs = [("single-stream", [point(1, 40.0, count=single)])]
    runs.append(("scaling", [point(2), point(1, 50.0, count=400)]))
    found = analyse(runs, cores=2)
    paths = ["/runs/0/points/0", "/runs/1/points/1"]
    assert (found.alone, found.alone_again) == (paths[first], paths[1 - first])
    assert found.repeat_share == pytest.approx(0.2)
    assert found.scaling == "/runs/1"


def test_lone_requests_measured_once_are_not_compared(point):
    found = analyse([("single-stream", [point(1)])], cores=2)
    assert (found.alone_again, found.repeat_share, found.scaling) == (None, None, None)
    assert found.alone_busy_share == 0.5
    slow = [msgspec.structs.replace(point(1), goodput_per_s=0.0) for _ in range(2)]
    assert analyse([("scaling", slow)], cores=2).repeat_share == 0.0


@pytest.mark.parametrize(
    ("load", "told"),
    [
        ({"count": 30}, True),
        ({"count": 29}, False),
        ({"other_cores": 0.49}, True),
        ({"other_cores": 0.5}, False),
        ({"server_cores": None}, True),
    ],
)
def test_the_shape_of_a_curve_needs_answers_and_quiet(point, load, told):
    found = analyse([("scaling", [point(1), point(2, **load)])], cores=2)
    assert found.curve_told is told
    assert found.fewest_answers == load.get("count", 700)


def test_without_a_curve_there_is_no_shape(point):
    found = analyse([("single-stream", [point(1)])], cores=2)
    assert (found.curve_told, found.fewest_answers) == (False, None)


def test_balance_is_the_lowest_share_of_sessions_under_way(point):
    points = [point(1), msgspec.structs.replace(point(4), in_flight=3.0), point(8)]
    assert analyse([("scaling", points)], cores=2).balance == 0.75
    lone = [msgspec.structs.replace(point(1), in_flight=0.5)]
    runs = [("single-stream", lone), ("scaling", points)]
    assert analyse(runs, cores=2).balance == 0.5  # of all runs, and not of the curve alone
    nothing = msgspec.structs.replace(point(4), in_flight=0.0, finished=0)
    assert analyse([("scaling", [nothing, *points])], cores=2).balance == 0.75
    assert analyse([("scaling", [nothing])], cores=2).balance is None


def test_no_saturation_where_no_cpu_time_was_seen(point):
    assert analyse([("single-stream", [point(1, server_cores=0.0)])], cores=2).saturation is None


def test_queueing_says_what_more_sessions_gain(point):
    points = [point(1, 40.0), point(2, 42.0), point(8, 160.0)]
    found = analyse([("scaling", points)], cores=2).queueing
    assert (found.knee_ms, found.last_ms) == pytest.approx((42.0, 160.0), rel=0.01)
    assert found.goodput_gain == pytest.approx(50 / (2 / 0.042) - 1, rel=0.01)


def test_no_queueing_where_the_last_point_gave_no_answer(point):
    points = [point(1, 40.0), point(2, 42.0), point(4, 84.0), point(8, count=50, failed=50)]
    found = analyse([("scaling", points)], cores=2)
    assert found.knee.reached
    assert found.queueing is None


def test_the_most_frequent_failure_is_named(point):
    points = [
        point(1, count=100, failed=3, error="timeout"),
        point(2, count=100, failed=5, error="http-503"),
        point(4, count=100, failed=3, error="timeout"),
    ]
    found = analyse([("scaling", points)], cores=2).failures
    assert (found.requests, found.failed, found.commonest) == (300, 11, "timeout")
    assert found.share == pytest.approx(11 / 300)
    assert analyse([("scaling", [point(1)])], cores=2).failures.share == 0.0


@pytest.mark.parametrize(
    ("stages", "infer", "image"),
    [
        ({"model": 6.0, "wait": 3.0, "encode": 4.0}, 0.6, 0.4),
        ({"inference": 5.0, "preprocess": 5.0, "queued": 9.0}, 0.5, 0.5),
        ({"decode": 5.0, "other thing": 5.0}, None, 0.5),
    ],
)
def test_stages_go_by_several_names(point, stages, infer, image):
    work = analyse([("single-stream", [point(1, 40.0, stages=stages)])], cores=2).work_alone
    assert (work.infer_share, work.image_share) == (infer, pytest.approx(image))
    assert work.work_ms == pytest.approx(10.0)


def test_a_service_that_names_only_its_queue_tells_no_work(point):
    found = analyse([("single-stream", [point(1, 40.0, stages={"queue": 5.0})])], cores=2)
    assert found.work_alone is None


def test_work_is_told_of_lone_requests_and_of_the_best_point(point):
    single = [point(1, 40.0, stages={"infer": 10.0})]
    scaling = [point(2, 40.0, stages={"infer": 20.0}), point(4, 40.0, stages={"infer": 30.0})]
    found = analyse([("single-stream", single), ("scaling", scaling)], cores=2)
    assert (found.work_alone.work_ms, found.work_best.work_ms) == (10.0, 30.0)


def test_a_slow_service_has_a_knee_as_well(point):
    # 0.5, 0.99 and 1 answers a second.
    points = [point(1, 2000.0), point(2, 2020.0), point(4, 4000.0)]
    assert find_knee(points, 0.95).sessions == 2


def test_time_that_no_stage_names_is_work(point):
    measured = point(1, 40.0, stages={"infer": 6.0, "queue": 4.0})
    stages = msgspec.structs.replace(measured.stages, other_ms=2.0)
    measured = msgspec.structs.replace(measured, stages=stages)
    work = analyse([("single-stream", [measured])], cores=2).work_alone
    assert (work.work_ms, work.infer_share) == (8.0, 0.75)
    assert work.queue_share == pytest.approx(4 / 12)
    idle = msgspec.structs.replace(stages, mean_ms={"infer": 0.0}, other_ms=0.0)
    measured = msgspec.structs.replace(measured, stages=idle)
    assert analyse([("single-stream", [measured])], cores=2).work_alone is None


def test_open_loops_have_a_best_a_first_void_and_a_first_that_was_too_much(point):
    points = [build_open_point(5.0), build_open_point(20.0), build_open_point(30.0, failed=40)]
    late = build_open_point(90.0, late_ms=40.0)
    found = analyse([("scaling", [point(2)]), ("server", [*points, late])], 2)
    assert found.arrivals == "/runs/1/points/2"
    assert (found.overwhelmed, found.void) == ("/runs/1/points/2", "/runs/1/points/3")
    assert found.balance == pytest.approx(1.0, abs=0.01)
    nothing = analyse([("scaling", [point(2)])], 2)
    assert (nothing.arrivals, nothing.overwhelmed, nothing.void) == (None, None, None)


@pytest.mark.parametrize(
    ("medians_ms", "told"),
    [
        ([80.0] * 3 + [20.0] * 6, (80.0, 20.0)),
        ([5.0] * 4 + [8.0] * 8, (5.0, 8.0)),
        ([20.0] * 9, None),
        ([20.0] * 3 + [29.0] * 6, None),
        ([80.0, 80.0, 3.0, 3.0, 3.0], None),
    ],
    ids=["warms up", "slows down", "steady", "nearly", "short"],
)
def test_a_closed_loop_whose_latency_changes_is_told(point, medians_ms, told):
    one = build_open_point(10.0, seconds=float(len(medians_ms)))
    slices = tuple(
        msgspec.structs.replace(part, p50_ms=value)
        for part, value in zip(one.timeline.slices, medians_ms, strict=True)
    )
    cut = msgspec.structs.replace(one.timeline, slices=slices)
    closed = msgspec.structs.replace(point(2), timeline=cut)
    found = analyse([("single-stream", [point(1)]), ("scaling", [closed])], 2).unsteady
    assert found == (None if told is None else Unsteady("/runs/1/points/0", *told))
    open_loop = msgspec.structs.replace(one, timeline=cut)
    assert analyse([("server", [open_loop])], 2).unsteady is None
