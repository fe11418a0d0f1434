from __future__ import annotations

import pytest

from seatrial.bench.analysis import analyse, find_knee

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
