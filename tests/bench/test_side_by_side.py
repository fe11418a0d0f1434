from __future__ import annotations

import msgspec
import pytest

from bench_reports import build_point
from seatrial.bench.side_by_side import Spread, leaders, over, read_side_by_side, rows_of
from seatrial.config import encode_json
from seatrial.errors import InvalidConfig
from seatrial.load.images import load_images
from side_by_side_reports import build_setup, build_side_by_side


@pytest.fixture
def images(image_folder):
    return load_images(image_folder).summary


def test_a_figure_over_rounds_is_its_median_with_the_ends():
    assert over([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert over([2.0]) == Spread(2.0, 2.0, 2.0)
    assert over([1.0, None, 3.0]) is None


def test_a_row_for_each_place_and_load(images):
    setup = build_setup(images, "uvicorn", "v2", 20.0, 25.0, 40.0, server_cores=0.5)
    lone, four = rows_of([setup])
    assert (lone.runtime, lone.protocol, lone.scenario) == ("uvicorn", "v2", "single-stream")
    assert (lone.sessions, four.sessions, lone.rounds) == (1, 4, 3)
    assert lone.goodput_per_s == Spread(*(pytest.approx(n, rel=0.01) for n in (40.0, 25.0, 50.0)))
    assert lone.percentiles["p50"].median == pytest.approx(25.0, rel=0.01)
    assert four.mean_ms.median == pytest.approx(100.0, rel=0.01)
    # Half a core for 25 ms.
    assert lone.cpu_ms.median == pytest.approx(12.5, rel=0.01)
    assert (lone.good, lone.failed, lone.memory_bytes) == (2100, 0, 200 * 2**20)


def test_a_figure_that_one_round_lacks_is_not_there(images):
    few = build_setup(images, "uvicorn", "http", 20.0, count=60)
    many = build_setup(images, "uvicorn", "http", 20.0)
    both = msgspec.structs.replace(many, reports=many.reports + few.reports)
    row = rows_of([both])[0]
    assert row.percentiles["p50"] is not None
    assert row.percentiles["p99"] is None
    unseen = build_setup(images, "triton", "v2", 20.0, server_cores=None)
    row = rows_of([unseen])[0]
    assert (row.cpu_ms, row.memory_bytes) == (None, None)


def test_failures_are_counted_over_all_rounds(images):
    row = rows_of([build_setup(images, "uvicorn", "http", 20.0, 20.0, failed=7)])[0]
    assert (row.failed, row.good) == (14, 1386)


def test_a_place_that_was_not_measured_has_no_row(images):
    assert rows_of([build_setup(images, "triton", "http")]) == ()


def test_the_best_row_and_those_that_overlap_with_it(images):
    report = build_side_by_side(
        images,
        build_setup(images, "bentoml", "http", 21.0, 22.0, 23.0),
        build_setup(images, "uvicorn", "http", 20.0, 20.5, 21.5),
        build_setup(images, "triton", "v2", 30.0, 31.0, 32.0),
    )
    loads = list(report.loads())
    assert [(scenario, count) for scenario, count, _ in loads] == [
        ("single-stream", 1), ("scaling", 4)
    ]  # fmt: skip
    for _, _, rows in loads:
        assert [row.runtime for _, row in rows] == ["bentoml", "uvicorn", "triton"]
        assert all(report.rows[number] is row for number, row in rows)
        assert leaders([row for _, row in rows]) == [1, 0]


def test_it_is_plain_data_and_read_back(images, tmp_path):
    report = build_side_by_side(images, build_setup(images, "uvicorn", "v2", 20.0, 21.0))
    file = tmp_path / "report.json"
    file.write_bytes(encode_json(report))
    assert read_side_by_side(file) == report
    file.write_bytes(encode_json(build_point()))
    with pytest.raises(InvalidConfig, match="side-by-side report"):
        read_side_by_side(file)
