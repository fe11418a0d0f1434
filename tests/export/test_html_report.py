"""The page of an export: what is compared, on which images, and when, where and how it was made."""

from __future__ import annotations

import re

import msgspec

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Comparison
from seatrial.conditions import conditions
from seatrial.export.html_report import page
from seatrial.export.report import ComparedSide, ExportReport
from seatrial.gate import judge

BOXES = Comparison(
    0.25, 16, 12, 12, 12, 0, 0, None, 1.0, 1.0, 0.0, 0.0, 0.0, {}, (0,) * 20 + (12,) + (0,) * 20
)
REPORT = ExportReport(
    options={"to": "onnx"},
    parent=ComparedSide("tiny", "ab", "onnxruntime", "f32", "1.23.0"),
    child=ComparedSide("<tiny-f16>", "", "onnxruntime", "f16", "1.23.0"),
    images=1,
    outputs=(),
    batch=(),
    boxes=BOXES,
    accuracy=Difference(0.4, 0.39, -0.01, -0.02, 0.0, 0.95, 53, 1000, 0),
    verdict=judge([], name="the export"),
)


def test_it_names_images_date_command_and_machine() -> None:
    made = conditions("seatrial export tiny --to onnx")
    html = page(
        msgspec.structs.replace(REPORT, folder="photos", images_digest="sha256:f", conditions=made)
    )
    told = html[html.index("Conditions") :]
    for words in ("photos, 1 image of it", "sha256:f", made.cpu.model, "made by", "versions"):
        assert words in told, words


def test_each_side_has_its_own_conditions() -> None:
    sides = (
        ComparedSide("parent-name", "parent-digest", "openvino", "f32", "2026.0"),
        ComparedSide("child-name", "child-digest", "onnxruntime", "f16", "1.23"),
    )
    made = msgspec.structs.replace(REPORT, parent=sides[0], child=sides[1])
    html = page(made)
    rows = dict(re.findall("<dt>([^<]*)</dt><dd>([^<]*)</dd>", html[html.index("Conditions") :]))
    assert rows.items() >= {
        "parent": "parent-name", "digest of the parent": "parent-digest",
        "parent ran on": "openvino 2026.0 f32", "export": "child-name",
        "digest of the export": "child-digest", "export ran on": "onnxruntime 1.23 f16",
    }.items()  # fmt: skip


def test_a_report_of_an_earlier_version_has_fewer_conditions() -> None:
    html = page(REPORT)
    assert "processor" not in html
    assert "&lt;tiny-f16&gt; holds against tiny" in html


def test_the_difference_in_ap_is_that_of_the_labelled_images() -> None:
    html = page(REPORT)
    assert "-0.0100" in html[html.index("Difference in AP") :][:120]
    assert "there are no labels" in page(msgspec.structs.replace(REPORT, accuracy=None))


def test_shifts_of_nothing_are_one_bar_around_0() -> None:
    assert "<title>-0.025 to +0.025: 12 pairs</title>" in page(REPORT)
