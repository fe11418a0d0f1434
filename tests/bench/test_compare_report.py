from __future__ import annotations

import msgspec
import pytest

from comparisons import build_blocks, build_comparison
from seatrial.bench.compare_options import CompareOptions
from seatrial.bench.compare_report import (
    contrasts_of,
    decile_names,
    fit_rounds,
    read_comparison,
    shifts_of,
)
from seatrial.config import encode_json
from seatrial.errors import InvalidConfig
from seatrial.load.images import load_images

SLOWER = {"A": [40.0] * 8, "B": [44.0, 43.0, 44.0, 45.0, 44.0, 44.5, 43.5, 44.0]}


def test_rounds_with_an_unfit_block_are_left_out_whole():
    blocks = build_blocks(SLOWER)
    blocks[5] = msgspec.structs.replace(blocks[5], unfit="late")
    rounds = fit_rounds(blocks)
    assert list(rounds) == ["A", "B"]
    assert [[block.place for block in row] for row in rounds["A"]] == [[1, 4]] * 7
    assert [[block.place for block in row] for row in rounds["B"]] == [[2, 3]] * 7
    assert {block.round for row in rounds["A"] for block in row} == {1, 3, 4, 5, 6, 7, 8}


def test_each_figure_is_compared_and_the_one_that_decides_comes_first():
    found = contrasts_of(fit_rounds(build_blocks(SLOWER)), "p90", 0.05, 0)
    assert [one.figure for one in found] == ["p90", "p50", "throughput"]  # no p95 and p99
    p90, p50, throughput = found
    assert (p50.base, p50.value) == pytest.approx((40.0, 44.0))
    assert p50.ratio.ratio == pytest.approx(1.1, rel=0.01)
    assert p50.rounds == pytest.approx([value / 40 for value in SLOWER["B"]])
    assert [one.answer for one in found] == ["slower"] * 3
    # A throughput that is lower is a service that is slower.
    assert throughput.ratio.ratio == pytest.approx(1 / 1.1, rel=0.01)
    assert throughput.slowdown.ratio == pytest.approx(1.1, rel=0.01)
    assert p90.slowdown == p90.ratio
    assert p50.rounds_needed is None
    turned = contrasts_of(
        fit_rounds(build_blocks({"A": SLOWER["B"], "B": SLOWER["A"]})), "p50", 0.05, 0
    )
    assert {one.answer for one in turned} == {"faster"}


def test_what_is_undecided_says_what_would_decide():
    blocks = build_blocks({"A": [40.0] * 8, "B": [40.0] * 8}, noise=0.15)
    found = contrasts_of(fit_rounds(blocks), "p50", 0.05, 0)
    assert found[0].answer == "undecided"
    assert found[0].rounds_needed > 8


def test_several_share_what_one_interval_may_miss():
    three = build_blocks({"A": [40.0] * 8, "B": [44.0] * 8, "C": [40.0] * 8}, noise=0.01)
    found = contrasts_of(fit_rounds(three), "p50", 0.05, 0)
    assert [(one.label, one.figure) for one in found][:2] == [("B", "p50"), ("C", "p50")]
    assert {one.ratio.level for one in found} == {0.975}
    assert [one.answer for one in found][:2] == ["slower", "same"]


def test_a_figure_that_a_block_lacks_is_not_compared():
    blocks = build_blocks(SLOWER)
    blocks[0] = msgspec.structs.replace(blocks[0], percentiles_ms={"p50": 40.0}, deciles_ms=())
    rounds = fit_rounds(blocks)
    assert [one.figure for one in contrasts_of(rounds, "p50", 0.05, 0)] == ["p50", "throughput"]
    assert list(shifts_of(rounds, 0)) == []
    silent = [msgspec.structs.replace(block, throughput_per_s=0.0) for block in blocks]
    assert [one.figure for one in contrasts_of(fit_rounds(silent), "p50", 0.05, 0)] == ["p50"]


def test_fewer_rounds_than_an_interval_takes_give_none():
    blocks = build_blocks({label: rows[:5] for label, rows in SLOWER.items()})
    assert contrasts_of(fit_rounds(blocks), "p50", 0.05, 0) == ()
    fewest = build_blocks({label: rows[:6] for label, rows in SLOWER.items()})
    assert contrasts_of(fit_rounds(fewest), "p50", 0.05, 0)


def test_the_shift_function_has_each_decile():
    (shift,) = shifts_of(fit_rounds(build_blocks(SLOWER)), 0)
    assert shift.label == "B"
    assert shift.base_ms == pytest.approx([40 * (0.8 + 0.05 * n) for n in range(9)])
    assert [one.ratio for one in shift.ratios] == pytest.approx([1.1] * 9, rel=0.01)
    assert (decile_names()[0], decile_names()[-1]) == ("10%", "90%")


def test_it_is_read_back_as_it_was_written(image_folder, tmp_path):
    report = build_comparison(
        load_images(image_folder).summary,
        build_blocks(SLOWER),
        CompareOptions(images="p", sessions=2),
    )
    assert report.schema == "seatrial.compare/1"
    assert [one.figure for one in report.deciding] == ["throughput"]
    (tmp_path / "compare.json").write_bytes(encode_json(report))
    assert read_comparison(tmp_path / "compare.json") == report
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InvalidConfig, match="is not a comparison"):
        read_comparison(tmp_path / "other.json")
