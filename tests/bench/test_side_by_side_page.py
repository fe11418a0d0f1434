from __future__ import annotations

import re

import msgspec
import pytest

from seatrial.bench.side_by_side import Spread, read_side_by_side
from seatrial.bench.side_by_side_page import goodput, to_html, write_side_by_side
from seatrial.errors import NotWritable
from seatrial.load.images import load_images
from side_by_side_reports import build_setup, build_side_by_side


@pytest.fixture
def report(image_folder):
    images = load_images(image_folder).summary
    missing = msgspec.structs.replace(
        build_setup(images, "triton", "http"), missing="<b>no route</b>"
    )
    return build_side_by_side(
        images,
        build_setup(images, "uvicorn", "http", 20.0, 25.0, 40.0),
        build_setup(images, "bentoml", "http", 21.0, 26.0, 41.0),
        build_setup(images, "triton", "grpc", 90.0, 91.0, 92.0),
        missing,
    )


def test_the_page_has_every_figure_and_runs_and_fetches_nothing(report):
    page = to_html(report)
    assert "<script" not in page
    assert " src=" not in page
    assert "&lt;b&gt;no route&lt;/b&gt;" in page
    assert page.count("<td>triton, grpc</td>") == 2
    # The best row and the one that overlaps with it, in each of two tables.
    assert page.count('class="knee-row"') == 4
    for word in ("server.port", "image as", "seatrial bench ", "AMD EPYC"):
        assert word in page
    assert "server.token_file" not in page


def test_bars_are_as_long_as_the_medians(report):
    (_, _, rows), _ = report.loads()
    chart = goodput([row for _, row in rows])
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', chart)]
    medians = [row.goodput_per_s.median for _, row in rows]
    assert [width / widths[0] for width in widths] == pytest.approx(
        [median / medians[0] for median in medians], abs=0.01
    )
    assert "uvicorn, http: 40.0 (25.0\N{EN DASH}50.0) good answers a second" in chart
    nothing = [msgspec.structs.replace(rows[0][1], goodput_per_s=Spread(0.0, 0.0, 0.0))]
    assert 'width="0"' in goodput(nothing)


def test_page_and_json_stand_side_by_side(report, tmp_path):
    html, data = write_side_by_side(report, tmp_path / "new" / "report.html")
    assert html.read_text() == to_html(report)
    assert read_side_by_side(data) == report
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable):
        write_side_by_side(report, tmp_path / "file" / "report.html")
