"""The report: one page that opens offline, and the same as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from seatrial.accuracy.bootstrap import paired_bootstrap
from seatrial.accuracy.confusion import confusion
from seatrial.accuracy.error_gallery import error_gallery
from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.datasets.labels import LabelledSet
from seatrial.train.diagnosis import Symptom
from seatrial.train.journal import Epoch, Journal, StepRecord
from seatrial.train.plan import read_sets
from seatrial.train.published import sources
from seatrial.train.read_recipe import read_recipe
from seatrial.train.report import Side, TrainingReport, to_html
from seatrial.train.result import gain_verdict


@pytest.fixture(scope="module")
def validation(cells: str) -> LabelledSet:
    return read_sets(cells, None)[1]


@pytest.fixture(scope="module")
def found(validation: LabelledSet) -> Predictions:
    """Every second object, and a first class that is not there."""
    truth = validation.truth
    import numpy as np

    rows = np.arange(0, len(truth), 2)
    kinds = truth.category[rows].copy()
    kinds[0] = (kinds[0] + 1) % 3
    return Predictions(truth.image[rows], kinds, truth.xywh[rows], np.full(len(rows), 0.8))


@pytest.fixture(scope="module")
def report(validation: LabelledSet, found: Predictions) -> TrainingReport:
    matches, scores = score(validation, found)
    side = Side("mine", "torch", scores.figures, scores.at_threshold, scores.classes, "")
    recipe = msgspec.json.decode(msgspec.json.encode(read_recipe(None, "rt_detr")))
    finding = Symptom("blind", "mAP is 0", "a <cause> & more", "do this", fatal=True)
    return TrainingReport(
        name="mine", trainer="transformers", base="theirs", new_head=True,
        labels=("red", "green", "blue"), recipe=recipe, sources=sources("rt_detr", recipe),
        training={"pictures": 24, "labels_digest": "sha256:abc"},
        validation={"pictures": 8, "labels_digest": "sha256:def"}, steps=6,
        epochs=tuple(Epoch(n, 3 * n, 2.0 / n, n / 10, n / 5, n / 9, 1.0, 1.0) for n in (1, 2)),
        best_epoch=2, findings=(finding,),
        before=msgspec.structs.replace(side, name="theirs", note="it knows none of the classes"),
        after=side, difference=(difference := paired_bootstrap(matches, matches, samples=20)),
        verdict=gain_verdict(difference),
        categories=tuple(category.name for category in validation.categories),
        confusion=tuple(tuple(row) for row in confusion(validation, found).counts.tolist()),
        error_gallery=tuple(error_gallery(validation, found, 4)), versions={"torch": "2"},
    )  # fmt: skip


@pytest.fixture
def page(
    report: TrainingReport, validation: LabelledSet, found: Predictions, tmp_path: Path
) -> str:
    journal = Journal(tmp_path)
    for number in range(1, 7):
        journal.step(StepRecord(number, 1 + (number > 3), 3.0 / number, 1e-4))
    return to_html(report, tmp_path, validation)


def test_a_page_asks_nobody_for_anything(page: str) -> None:
    assert "<script" not in page
    addresses = re.findall(r"""(?:\s(?:src|href)=|url\()["']?([^"')\s>]+)""", page)
    assert addresses
    assert all(a.startswith(("data:image/jpeg;base64,", "#")) for a in addresses)
    assert "default-src 'none'" in page


def test_a_page_tells_all_parts(page: str, report: TrainingReport) -> None:
    for text in ("Loss over steps", "mAP over epochs", "Confusion matrix",
                 "Images with most errors", "Against the base model",
                 "it knows none of the classes",
                 "github.com/lyuwenyu/RT-DETR", "new head",
                 "The finetuning holds", "gain in mAP over the base",
                 "at least -0.005"):  # fmt: skip
        assert text in page
    assert page.count("<img ") == len(report.error_gallery) == 4
    assert "a &lt;cause&gt; &amp; more" in page


def test_the_confusion_matrix_counts_every_object(
    report: TrainingReport, validation: LabelledSet
) -> None:
    rows = report.confusion[:-1]
    assert sum(map(sum, rows)) == len(validation.truth)


def test_a_report_is_read_back(report: TrainingReport) -> None:
    assert msgspec.json.decode(msgspec.json.encode(report), type=TrainingReport) == report


def test_a_report_of_a_version_without_a_verdict_is_read_and_shown(
    report: TrainingReport, validation: LabelledSet, tmp_path: Path
) -> None:
    old = msgspec.to_builtins(report)
    del old["verdict"]
    assert {"worst", "findings", "before", "after"} <= old.keys()  # keys of its JSON
    again = msgspec.json.decode(msgspec.json.encode(old), type=TrainingReport)
    assert again == msgspec.structs.replace(report, verdict=None)
    page = to_html(again, tmp_path, validation)
    assert "Difference in mAP +0.0000" in page
    assert "The finetuning holds" not in page


def test_a_report_from_scratch_has_no_base(
    report: TrainingReport,
    validation: LabelledSet,
    found: Predictions,
    tmp_path: Path,
    without_base: Callable[[TrainingReport], TrainingReport],
) -> None:
    page = to_html(without_base(report), tmp_path, validation)
    assert "Against the base model" not in page


@pytest.fixture
def without_base() -> Callable[[TrainingReport], TrainingReport]:
    return lambda report: msgspec.structs.replace(
        report, before=None, difference=None, verdict=None, findings=(), error_gallery=()
    )
