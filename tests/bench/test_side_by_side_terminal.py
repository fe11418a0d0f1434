from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from seatrial.bench.side_by_side import Spread
from seatrial.bench.side_by_side_terminal import render_side_by_side, spread_in_words
from seatrial.load.images import load_images
from side_by_side_reports import build_setup, build_side_by_side


@pytest.fixture
def report(image_folder):
    images = load_images(image_folder).summary
    missing = msgspec.structs.replace(build_setup(images, "triton", "http"), missing="no [route]")
    return build_side_by_side(
        images,
        build_setup(images, "uvicorn", "http", 20.0, 25.0, 40.0, failed=5),
        build_setup(images, "triton", "grpc", 30.0, 30.0, 30.0, count=50),
        missing,
    )


def printed(report, width):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(render_side_by_side(report))
    return out.getvalue()


def test_a_table_for_each_load_with_the_places_below_one_another(report):
    lines = printed(report, 200).splitlines()
    for title in ("single-stream, 1 session", "scaling, 4 sessions"):
        at = next(n for n, line in enumerate(lines) if line.strip() == title)
        table = lines[at : at + 7]
        assert any("runtime, protocol" in line and "good/s" in line for line in table)
        uvicorn = next(line for line in table if line.lstrip().startswith("uvicorn, http"))
        triton = next(line for line in table if line.lstrip().startswith("triton, grpc"))
        assert uvicorn.split()[-2:] == ["15", "3"]
        # Too few for p99 in each round.
        assert "\N{EN DASH}" in triton.split()


def test_what_is_missing_and_every_finding_is_printed(report):
    text = " ".join(printed(report, 400).split())
    for finding in report.findings:
        assert finding.text in text
    assert "triton by http was not measured: no [route]" in text


def test_a_narrow_terminal_cuts_nothing(report):
    text = printed(report, 60)
    for word in ("uvicorn, http", "triton, grpc", "failed"):
        assert word in text


def test_a_range_is_written_where_the_rounds_differ():
    assert spread_in_words(None) == "\N{EN DASH}"
    assert spread_in_words(Spread(24.0, 24.0, 24.0)) == "24.0"
    assert spread_in_words(Spread(24.1, 23.8, 24.42)) == "24.1 (23.8\N{EN DASH}24.4)"
