from __future__ import annotations

import json
import re

import msgspec
import pytest

from comparisons import build_blocks, build_comparison
from json_schemas import against_schema
from seatrial.bench.compare_page import rounds_chart, shift_chart, to_html, write_comparison
from seatrial.bench.compare_report import read_comparison
from seatrial.bench.compare_words import verdict_of
from seatrial.load.images import load_images

ROWS = {
    "A": [40.0] * 8,
    "B": [44.0, 43.9, 44.1, 44.0, 44.0, 43.8, 44.2, 44.0],
    "C": [36.0, 35.9, 36.1, 36.0, 36.0, 35.8, 36.2, 36.0],
}


@pytest.fixture
def report(image_folder):
    made = build_comparison(load_images(image_folder).summary, build_blocks(ROWS))
    return msgspec.structs.replace(made, verdict=verdict_of(made, 0.05))


def test_the_page_has_every_figure_and_runs_and_fetches_nothing(report):
    page = to_html(report)
    assert "<script" not in page
    assert " src=" not in page
    assert "<b>.toml" not in page
    assert "B (&lt;b&gt;.toml) is slower than A (a.toml)" in page
    assert page.count('class="knee-row"') == 2  # the figure that decides, of each service
    assert page.count("<svg") == 4
    for words in (
        "fail-if-slower",
        "Deciles of latency",
        "8 of 8, in the order A B B A",
        "What differs",
        "AMD EPYC",
    ):
        assert words in page
    assert "caveats" not in re.sub(r"<style>.*</style>", "", page, flags=re.S)


def test_caveats_stand_on_it(report):
    page = to_html(msgspec.structs.replace(report, caveats=("look <here>",)))
    assert "look &lt;here&gt;" in page


def test_it_is_written_with_its_json(report, tmp_path):
    html, data = write_comparison(report, tmp_path / "compare.html")
    assert html.read_text().startswith("<!doctype html>")
    assert read_comparison(data) == report
    assert against_schema("compare", json.loads(data.read_bytes())) == []


def test_the_shift_function_has_a_point_and_an_interval_for_each_decile(report):
    drawn = str(shift_chart(report.shifts[0]))
    assert drawn.count("<circle") == 9
    assert drawn.count('class="whisker s0"') == 9
    assert "10%, 32.0 ms: +10.0%, 95% interval" in drawn
    assert drawn.count('class="ideal"') == 1  # no difference is on the axis


def test_higher_is_slower_and_no_difference_is_a_line_of_its_own(report):
    slower, faster = (str(shift_chart(one)) for one in report.shifts)
    level = float(re.search(r'y1="([\d.]+)"[^>]*class="ideal"', slower)[1])
    assert all(float(y) < level for y in re.findall(r'cy="([\d.]+)"', slower))
    level = float(re.search(r'y1="([\d.]+)"[^>]*class="ideal"', faster)[1])
    assert all(float(y) > level for y in re.findall(r'cy="([\d.]+)"', faster))


def test_each_round_is_a_dot_and_the_estimate_another(report):
    drawn = str(rounds_chart(report.deciding[0]))
    assert drawn.count('class="mark s0"') == 8
    assert drawn.count('class="mark s1"') == 1
    assert "round 6: +9.5%" in drawn


def test_all_points_lie_in_the_drawing(report):
    for drawn in (rounds_chart(report.deciding[1]), shift_chart(report.shifts[1])):
        width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawn).groups())
        assert all(0 < float(x) < width for x in re.findall(r'cx="([\d.]+)"', drawn))
        assert all(0 < float(y) < height - 40 for y in re.findall(r'cy="([\d.]+)"', drawn))
