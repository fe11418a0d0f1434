"""The rows of an export's report, on the terminal and on the page."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Comparison
from seatrial.export.html_report import page
from seatrial.export.report import ComparedSide, ExportReport, OutputError, TensorRtTrial
from seatrial.export.rows import compared_rows, layer_rows
from seatrial.gate import Clause, judge, rule
from seatrial.graphs.first_difference import FirstDifference, TensorDifference

BOXES = Comparison(
    0.25, 16, 128, 127, 120, 8, 7, None, 0.99, 0.9, -0.001, 0.002, 0.01, {}, (0,) * 19 + (60, 60)
)


def report(**changes: Any) -> ExportReport:
    rows = [
        rule(Clause("output.<out>", 1.0, "at_least", unit="%"), 0.9, text="output: 90 % within"),
        rule(Clause("boxes.lost", 0.02, unit="%"), 0.0625, text="8 boxes lost"),
    ]
    made = ExportReport(
        options={"to": "onnx", "imgsz": None},
        parent=ComparedSide("tiny", "ab", "onnxruntime", "f32", "1.23.0"),
        child=ComparedSide("<tiny-f16>", "", "onnxruntime", "f16", "1.23.0"),
        images=16,
        outputs=(
            OutputError(name="<out>", worst=0.25, mean=0, scale=64, within=0.9, ordered=True),
        ),
        batch=(),
        boxes=BOXES,
        accuracy=None,
        verdict=judge(rows, name="the export"),
    )
    return msgspec.structs.replace(made, **changes)


def test_each_figure_stands_beside_what_is_allowed() -> None:
    assert list(compared_rows(report())) == [
        ("output <out>", "worst 0.25, 90.00% within tolerance", "at least 100%"),
        ("boxes from confidence 0.25", "120 matched; of 128 lost 8 (6.25%), gained 7 (5.47%)",
         "lost: at most 2%; gained: -"),
        ("mean IoU of pairs", "0.99000", "-"),
        ("mean shift of confidence", "-0.00100", "-"),
        ("mean size of a shift", "0.00200", "-"),
    ]  # fmt: skip


def test_batch_noise_accuracy_and_tensorrt_have_rows_where_they_were_measured() -> None:
    found = report(
        batch=report().outputs,
        parent_noise=BOXES,
        accuracy=Difference(0.4, 0.39, -0.01, -0.02, 0.0, 0.95, 53, 1000, 0),
        tensorrt=TensorRtTrial("TensorRT-RTX 1", ()),
    )
    rows = {name: values for name, *values in compared_rows(found)}
    assert "a batch of images, output <out>" in rows
    assert "the parent against itself, canvas moved by 2 grey levels" in rows
    assert rows["AP on 53 images"] == [
        "0.4000 -> 0.3900 (-0.0100, 95% interval -0.0200 to +0.0000)",
        "drop: -",
    ]
    assert rows["TensorRT-RTX 1"][0] == "takes the graph: ready for TensorRT"


@pytest.fixture
def difference() -> FirstDifference:
    first = TensorDifference(tensor="t", operator="Conv", node="<c>", error=0.5)
    return FirstDifference(
        compared=9, measured=4, limit=0.02, first=first, before=None, steepest=()
    )


def test_layers_that_are_not_known_have_no_row(difference: FirstDifference) -> None:
    assert list(layer_rows(difference)) == [("first that differs", "Conv", "<c>", "0.5")]


def test_the_page_shows_the_rows_and_why_it_fails(difference: FirstDifference) -> None:
    html = page(report(first_difference=difference, notes=("<note>",)))
    for words in (
        "&lt;tiny-f16&gt; fails against tiny",
        "8 boxes lost",
        "of 128 lost 8",
        "Where the graphs begin to differ",
        "&lt;c&gt;",
        "&lt;note&gt;",
        "onnxruntime 1.23.0 f16",
    ):
        assert words in html, words
    assert "<c>" not in html
    assert "imgsz" not in html
