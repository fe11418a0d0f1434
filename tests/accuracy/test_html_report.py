"""The page of an evaluation: what it shows, sound drawings, and figures that are not there."""

from __future__ import annotations

import platform
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from page_figures import columns, tiles
from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Agreement, BoxSet, Comparison, ConfidenceBand, compare
from seatrial.accuracy.evaluate import ClassFigures, Evaluation, Figures, Scored, Scores, score
from seatrial.accuracy.html_report import interval_figure, page
from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.operating_point import OperatingPoint
from seatrial.accuracy.predict import EVALUATION
from seatrial.conditions import conditions
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.gate import Clause, Interval, judge, rule
from seatrial.report.numbers import date

RAN = {"engine": "null", "device": "cpu", "precision": "f32"}
SUBJECT = {"name": "<tiny>", "digest": "d" * 64, **RAN}
IMAGES = 12
SET = LabelledSet(
    "<coco>:scenes",
    tuple(LabelledImage(n, f"{n}.jpg", Path(f"{n}.jpg"), 640, 480) for n in range(IMAGES)),
    (Category(1, "<red>"), Category(2, "green")),
    Truth.of(range(IMAGES), [n % 2 for n in range(IMAGES)], [[10, 10, 50, 50]] * IMAGES),
)


def boxes(shift: float) -> Predictions:
    many = np.arange(IMAGES)
    xywh = np.tile([10.0 + shift, 10.0, 50.0, 50.0], (IMAGES, 1))
    return Predictions(many, many % 2, xywh, np.linspace(0.3, 0.9, IMAGES))


def report(predictions: Predictions | None = None, dataset: LabelledSet = SET) -> Evaluation:
    predictions = boxes(2) if predictions is None else predictions
    _, scores = score(dataset, predictions)
    return Evaluation(
        dataset.source, dataset.digest(), IMAGES, len(dataset.truth), 0, (), ("<note>",), SUBJECT,
        EVALUATION, len(predictions), 1.5, 0.1, scores,
    )  # fmt: skip


def test_without_more_it_shows_figures_sizes_classes_and_conditions() -> None:
    html = page(report())
    for words in ("&lt;tiny&gt;: AP 0.9", "By size", "&lt;red&gt;", "Conditions", "&lt;note&gt;"):
        assert words in html, words
    assert "Against the parent" not in html
    assert "interval" not in html.split("</head>")[1]
    assert "default-src 'none'" in html
    assert not re.search(r"<script|https?://|url\(http|@import|<red>|<tiny>", html)


def test_the_interval_is_drawn_with_the_limit_of_the_contract_inside_the_frame() -> None:
    ends = {"ap": Interval(0.2, 1.0, 0.95, IMAGES), "ar100": Interval(0.5, 0.9, 0.95, IMAGES)}
    found = msgspec.structs.replace(report(), intervals=ends)
    rows = (rule(Clause("accuracy.ap", 0.4, "at_least"), 0.6, ends["ap"]),)
    html = str(interval_figure(found, rows))
    tree = ElementTree.fromstring(re.search("<svg.*</svg>", html, re.DOTALL)[0])  # type: ignore[index]
    width, height = map(float, tree.attrib["viewBox"].split()[2:])
    lines = [one for one in tree.iter("line") if "wide" in one.attrib["class"]]
    (limit,) = (one for one in tree.iter("line") if one.attrib["class"] == "knee")
    spans = [tuple(float(one.attrib[key]) for key in ("x1", "x2")) for one in lines]
    assert all(0 < low < high < width for low, high in spans)
    # 0.4 is a quarter of the way from 0.2 to 1.0.
    low, high = spans[0]
    assert float(limit.attrib["x1"]) == pytest.approx(low + (high - low) / 4, abs=0.1)
    assert all(0 < float(one.attrib["cy"]) < height for one in tree.iter("circle"))
    assert len(list(tree.iter("circle"))) == len(lines) == 2
    verdict = judge(rows, name="gate")
    assert "gate cannot be decided" in page(msgspec.structs.replace(found, verdict=verdict))


def test_a_parent_is_shown_with_lost_boxes_and_the_shift() -> None:
    child, parent = (BoxSet.on(SET, boxes(shift)) for shift in (0, 40))
    both = compare(child, parent, samples=20)
    html = page(msgspec.structs.replace(report(), parent=both))
    assert "Against the parent" in html
    assert "Shift of confidence" not in html  # no pair
    same = compare(child, child, samples=20)
    html = page(msgspec.structs.replace(report(), parent=same))
    assert "+0.0000" in html
    assert "-0.0000" not in html
    assert "Pairs by the child" in html


def test_each_figure_of_a_comparison_stands_under_its_name() -> None:
    found = Comparison(
        0.25, 16, 130, 129, 120, 10, 9, Agreement(0.93, 0.9, 0.96, 0.95), 0.98, 0.61,
        -0.012, 0.023, 0.34, {}, (0,) * 20 + (120,) + (0,) * 20,
        (ConfidenceBand(0.3, 0.4, 1200, 0.35, 0.36),),
        Difference(0.4, 0.39, -0.01, -0.02, 0.005, 0.95, 53, 1000, 0),
    )  # fmt: skip
    html = page(msgspec.structs.replace(report(), parent=found))
    wanted = {
        "Agreement": ("93.0%", "F1 of the boxes of both"),
        "Matched": ("120", "of 130 of the parent"),
        "Lost": ("10", "boxes of the parent alone"),
        "Gained": ("9", "boxes of the child alone"),
        "Mean IoU of pairs": ("0.9800", "least 0.6100"),
        "Mean shift": ("-0.0120", "of the confidence of a pair"),
        "Mean size of a shift": ("0.0230", "at most 0.3400"),
        "Difference in AP": ("-0.0100", "95%: -0.0200 to +0.0050"),
    }
    assert wanted.items() <= tiles(html).items()
    bands = columns(html, "confidence of the parent", "pairs", "mean there", "mean here")
    assert bands == [("0.3 to 0.4", "1,200", "0.3500", "0.3600")]


def test_each_figure_of_an_evaluation_stands_under_its_name() -> None:
    now, best = (OperatingPoint(at, at + 0.01, at + 0.02, at + 0.03, 5, 1, 2) for at in (0.25, 0.6))
    scores = Scores(
        Figures(*(n / 100 for n in range(1, 13))), now, best,
        (ClassFigures("red", 1, 1234, 0.71, 0.72, 0.73, 0.74, now, best),),
    )  # fmt: skip
    ends = {name: Interval(low, low + 0.1, 0.95, IMAGES)
            for name, low in (("ap", 0.0), ("ap50", 0.01), ("ar100", 0.02))}  # fmt: skip
    html = page(msgspec.structs.replace(report(), scores=scores, intervals=ends))
    assert tiles(html) == {
        "AP": ("0.0100", "95%: 0.0000 to 0.1000"),
        "AP50": ("0.0200", "95%: 0.0100 to 0.1100"),
        "AP75": ("0.0300", "IoU 0.75"),
        "AR100": ("0.0900", "95%: 0.0200 to 0.1200"),
        "Precision": ("0.2600", "at confidence 0.25"),
        "Recall": ("0.2700", "at confidence 0.25"),
        "Best F1": ("0.6300", "at confidence 0.600"),
        "Boxes": ("12", "down to confidence 0.001"),
    }
    assert columns(html, "AP", "recall (AR100)") == [
        ("0.0400", "0.1000"), ("0.0500", "0.1100"), ("0.0600", "0.1200"), ("0.0100", "0.0900"),
    ]  # fmt: skip
    names = ("class", "objects", "AP", "AP50", "precision", "recall", "best F1", "at")
    (row,) = columns(html, *names)
    assert row == ("red", "1,234", "0.7100", "0.7200", "0.2600", "0.2700", "0.6300", "0.6000")


def test_a_set_without_objects_has_dashes_in_place_of_figures() -> None:
    empty = replace(SET, truth=Truth.of([], [], []))
    html = page(report(boxes(0), empty))
    assert "AP \u2013 on 12 images with 0 objects" in html


def test_the_page_of_boxes_shows_curves_confusions_and_the_worst_images(tmp_path: Path) -> None:
    for one in SET.images:
        Image.new("RGB", (640, 480), (90, 90, 90)).save(tmp_path / one.name)
    images = tuple(msgspec.structs.replace(one, path=tmp_path / one.name) for one in SET.images)
    dataset = replace(SET, images=images)
    found = boxes(2)
    found.category[0] = 1  # image 0: red is taken for green
    matches, _ = score(dataset, found)
    html = page(report(found), Scored(report(found), dataset, found, matches))
    assert "Precision over recall" in html
    assert "IoU 0.50: " in html
    matrix = html[html.index('class="matrix"') :].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", matrix)
    cells = [re.sub("<[^>]+>", " ", row).split() for row in rows[1:]]
    assert cells == [
        ["&lt;red&gt;", "5", "1", "\N{MIDDLE DOT}"],
        ["green", "\N{MIDDLE DOT}", "6", "\N{MIDDLE DOT}"],
        ["none", "\N{MIDDLE DOT}", "\N{MIDDLE DOT}", "\N{MIDDLE DOT}"],
    ]
    (worst,) = re.findall(r"<summary>(.*?)</summary>(.*?)</details>", html)
    assert worst == ("0.jpg: 0 missed, 1 wrong, 0 found", "wrong: green, is &lt;red&gt;")
    assert html.count("data:image/jpeg;base64,") == 1
    assert "Confusion matrix" not in page(report(found))
    # At the confidence that was asked for, the same in figures, matrix and images.
    _, scores = score(dataset, found, threshold=0.6)
    asked = msgspec.structs.replace(report(found), scores=scores)
    html = page(asked, Scored(asked, dataset, found, matches))
    assert "detections, at confidence 0.6 and" in html
    assert "Boxes by outcome at confidence 0.6" in html
    below = int((found.score <= 0.6).sum())
    assert below == 6
    assert html.count("1 missed, 0 wrong") == below


def test_conditions_name_date_command_machine_versions_and_images() -> None:
    made = conditions("seatrial evaluate x --report page.html")
    html = page(msgspec.structs.replace(report(), conditions=made, images_digest="sha256:feed"))
    told = html[html.index("Conditions") :]
    assert date(made.created_at) in told
    assert f"python {platform.python_version()}" in told
    assert made.cpu.model in told
    assert "sha256:feed" in told
    assert '<span class="option">--report</span> page.html' in told


def test_a_class_without_a_pair_has_no_best_f1_and_no_confidence_of_it() -> None:
    far = Predictions(np.arange(2), np.array([0, 1]), np.tile([300.0, 9, 9, 9], (2, 1)), np.ones(2))
    for predictions in (far, far.take(np.zeros(0, np.intp))):
        html = page(report(predictions))
        (row,) = re.findall(r"<tr><td>green</td>(.*?)</tr>", html)
        assert re.sub("<[^>]+>", " ", row).split()[-2:] == ["\N{EN DASH}"] * 2
        assert re.search(r"Best F1</dt><dd>\N{EN DASH}<small>none<", html)


def test_boxes_are_counted_down_to_a_confidence() -> None:
    assert re.search(r"Boxes</dt><dd>12<small>down to confidence 0.001<", page(report()))


@pytest.mark.parametrize("bins", [40, 41])
def test_shifts_of_nothing_are_drawn_around_0_also_of_earlier_reports(bins: int) -> None:
    before, after = (BoxSet.on(SET, boxes(2), score(SET, boxes(2))[0]) for _ in range(2))
    found = compare(after, before)
    assert len(found.histogram) == 41
    assert found.histogram[20] == found.matched == IMAGES
    if bins == 40:
        found = msgspec.structs.replace(found, histogram=(0,) * 20 + (IMAGES,) + (0,) * 19)
    html = page(msgspec.structs.replace(report(), parent=found))
    tip = {40: "+0.000 to +0.050", 41: "-0.025 to +0.025"}[bins]
    assert f"<title>{tip}: 12 pairs</title>" in html
