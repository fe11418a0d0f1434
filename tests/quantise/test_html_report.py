"""The page of a compression: what it shows, that it is sound HTML, and asks for nothing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import msgspec

from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.loss import Loss, judge_loss
from seatrial.quantise.calibration_images import Skipped
from seatrial.quantise.html_report import LEFT_PX, PLOT_PX, chart, page, rows
from seatrial.quantise.report import Candidate, QuantiseReport, Restored, Speed


def finding(drop: float) -> Loss:
    return Loss("ap", 0.44, 0.44 - drop, drop, drop - 0.008, drop + 0.009, 0.95, 53, -0.01,
                   0.03, 300, 2, 1, 302)  # fmt: skip


def report(**changes: Any) -> QuantiseReport:
    last = finding(0.004)
    made = QuantiseReport(
        to="openvino",
        parent={"name": "small", "digest": "0" * 64},
        engine={"engine": "openvino", "device": "cpu", "precision": "int8"},
        gate=LossLimits(0.005),
        judged_on="coco:val, 53 images",
        calibration={"folder": "train", "pictures": 40, "seed": 0},
        head=("a", "b"),
        candidates=(Candidate("minmax", 87, finding(0.03)), Candidate("entropy", 87, finding(0.1))),
        recipe="minmax",
        restored=(
            Restored("/model.<0>/Conv", 0.2, finding(0.02), Speed(10, 19, 1.9, 2, 9)),
            Restored("/model.1/Conv", 0.1, last, Speed(10, 18, 1.8, 2, 9)),
        ),
        quantised=85,
        convolutions=87,
        finding=last,
        verdict=judge_loss(last, LossLimits(0.005)),
        speed=Speed(10, 18, 1.8, 2, 9),
        skipped=(Skipped("03.jpg", "not a picture"),),
    )
    return msgspec.structs.replace(made, **changes)


def test_it_shows_what_each_layer_regained_and_what_was_kept() -> None:
    html = page(report())
    assert [row.kept for row in rows(report())] == [False, False, False, True]
    for text in ("too small to decide", "85 of 87", "1.80x", "+0.0100", "+0.0160", "03.jpg"):
        assert text in html, text
    assert html.index("minmax") < html.index("/model.&lt;0&gt;/Conv") < html.index("/model.1/Conv")


def test_without_restored_layers_the_recipe_is_what_was_kept() -> None:
    plain = report(restored=(), finding=finding(0.03))
    assert [(row.kept, row.speed) for row in rows(plain)] == [(True, "1.80x"), (False, "")]


def test_what_a_machine_cannot_run_has_no_speed() -> None:
    assert "not measured here" in page(report(speed=None))


def test_a_rise_is_inside_its_frame_too() -> None:
    made = report(candidates=(Candidate("minmax", 87, finding(-0.05)),), restored=(), speed=None)
    tree = ElementTree.fromstring(str(chart(made, rows(made))))
    (line,) = (line for line in tree.iter("line") if "whisker" in line.attrib["class"])
    assert LEFT_PX < float(line.attrib["x1"]) < float(line.attrib["x2"]) < LEFT_PX + PLOT_PX


def test_the_drawing_is_sound_and_inside_its_frame() -> None:
    tree = ElementTree.fromstring(str(chart(report(), rows(report()))))
    width, height = map(float, tree.attrib["viewBox"].split()[2:])
    left, right = LEFT_PX, LEFT_PX + PLOT_PX
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in tree.iter("circle")]
    assert len(dots) == 4
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    lines = [line for line in tree.iter("line") if "whisker" in line.attrib["class"]]
    ends = [float(line.attrib[key]) for line in lines for key in ("x1", "x2")]
    assert len(ends) == 8
    assert all(left < end < right for end in ends)
    # In the order of their drops: 0.03, 0.1, 0.02, 0.004.
    assert sorted(range(4), key=lambda n: dots[n][0]) == [3, 2, 0, 1]


def test_it_asks_for_nothing_and_runs_nothing() -> None:
    html = page(report())
    assert "default-src 'none'" in html
    assert not re.search(r"<script|https?://|url\(http|@import", html)
