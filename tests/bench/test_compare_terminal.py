from __future__ import annotations

import io

import pytest
from rich.console import Console

from comparisons import build_blocks, build_comparison
from seatrial.bench.compare_options import CompareOptions
from seatrial.bench.compare_terminal import caption, cells_of, render_comparison
from seatrial.load.images import load_images


@pytest.fixture
def report(image_folder):
    rows = {"A": [40.0] * 8, "B": [44.0, 43.9, 44.1, 44.0, 44.0, 43.8, 44.2, 44.0]}
    kinds = {"B": "service"}
    return build_comparison(load_images(image_folder).summary, build_blocks(rows), None, kinds)


def test_the_answer_comes_first_then_what_to_know_then_the_table(report):
    console = Console(file=io.StringIO(), width=160)
    console.print(render_comparison(report))
    lines = console.file.getvalue().splitlines()
    assert lines[0].startswith("B (<b>.toml) is slower than A (a.toml): latency p50 +10.0%")
    text = "\n".join(lines[1:])
    assert text.index("was not started anew") < text.index("latency p90") < text.index("8 rounds")
    assert text.count("slower") == 3


def test_a_row_has_both_values_and_the_difference(report):
    p50, _, throughput = report.contrasts
    assert cells_of(p50)[:3] == ["latency p50", "B", "+10.0%"]
    assert cells_of(p50)[5:] == ["40.0 ms", "44.0 ms"]
    assert cells_of(throughput)[:3] == ["throughput", "B", "-9.1%"]
    assert cells_of(throughput)[5:] == ["25.0/s", "22.7/s"]
    assert cells_of(p50)[4] == cells_of(throughput)[4] == "slower"
    assert cells_of(p50)[3].startswith("+9.")
    assert " to +10." in cells_of(p50)[3]


def test_the_caption_says_what_the_figures_rest_on(report):
    assert caption(report) == (
        "1 session; blocks of 5 s; differences within each of 8 rounds, with intervals at 95%; "
        "same: within 5%; values: medians of all blocks, whose ratio is another one than that of "
        "the rounds"
    )
    options = CompareOptions(images="photos", same_within="2.5%")
    other = build_comparison(report.images, report.blocks, options)
    assert "within 2.5%; values" in caption(other)
