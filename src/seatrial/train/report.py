"""The report of a finetuning: as JSON, and as one HTML file that opens offline."""

from __future__ import annotations

import base64
import functools
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
from markupsafe import Markup

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.confusion import CONFIDENCE, confusion
from seatrial.accuracy.evaluate import ClassFigures, Figures
from seatrial.accuracy.gate import Verdict
from seatrial.accuracy.operating_point import OperatingPoint
from seatrial.accuracy.pairs import IOU
from seatrial.datasets.labels import LabelledSet
from seatrial.detect.decode import read_image
from seatrial.detect.detector import MAX_PIXELS
from seatrial.report.style import css
from seatrial.system.versions import versions
from seatrial.train.after_step import read_symptoms
from seatrial.train.diagnosis import Symptom
from seatrial.train.error_gallery import Judged, JudgedImage, error_gallery
from seatrial.train.journal import Epoch, read_epochs, read_steps
from seatrial.train.loss_curves import loss_curve, map_curve
from seatrial.train.plan import TrainingPlan
from seatrial.train.published import sources
from seatrial.train.result import TOOLS, MeasuredModel, TrainingResult

if TYPE_CHECKING:
    from jinja2 import Template

REPORT_FILE, REPORT_PAGE = "finetune.json", "finetune.html"
GALLERY = 12  # most images with errors
THUMBNAIL_PX = 480
JPEG_QUALITY = 78
LINE_PX = 18  # height of a label
LETTERS = (cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
# Judged -> RGB colour of the boxes; the page has a legend.
COLOURS: dict[Judged, tuple[int, int, int]] = {
    "found": (60, 190, 110),
    "missed": (240, 190, 40),
    "wrong": (230, 70, 60),
}


class Side(msgspec.Struct, frozen=True):
    """A model on the validation set.

    Attributes:
        name: Name of the artifact.
        engine: Engine, device and precision of the measurement.
        figures: COCO's figures.
        at_threshold: Operating point at confidence 0.25.
        classes: Figures of each class.
        note: Remark for the report.
    """

    name: str
    engine: str
    figures: Figures
    at_threshold: OperatingPoint
    classes: tuple[ClassFigures, ...]
    note: str


class TrainingReport(msgspec.Struct, frozen=True):
    """A finetuning from start to end.

    Attributes:
        name: Name of the artifact.
        trainer: Library that trained.
        base: Name of the base model.
        new_head: True where the classification head started anew.
        labels: Classes by index.
        recipe: Complete recipe.
        sources: Sources of the published values in the recipe.
        training: Images, objects and digest of the training set.
        validation: Images, objects and digest of the validation set.
        steps: Optimiser steps.
        epochs: Losses and mAP of every epoch.
        best_epoch: Epoch that was kept.
        findings: Symptoms of a training that goes wrong.
        before: The base model on validation; None from scratch.
        after: The artifact on validation.
        difference: AP of the artifact minus AP of the base, with its interval.
        verdict: Whether the artifact is as good as the base; None from scratch, and in
            reports of versions without it.
        categories: Classes in the order of the validation set.
        confusion: (K + 1, K + 1) by class of the object and class of the detection; last: none.
        error_gallery: The validation images with most errors; ``worst`` in JSON.
        versions: Versions of the tools.
    """

    name: str
    trainer: str
    base: str
    new_head: bool
    labels: tuple[str, ...]
    recipe: dict[str, Any]
    sources: dict[str, str]
    training: dict[str, Any]
    validation: dict[str, Any]
    steps: int
    epochs: tuple[Epoch, ...]
    best_epoch: int
    findings: tuple[Symptom, ...]
    before: Side | None
    after: Side
    difference: Difference | None
    categories: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    error_gallery: tuple[JudgedImage, ...] = msgspec.field(name="worst")
    versions: dict[str, str]
    verdict: Verdict | None = None


def describe(
    plan: TrainingPlan, run: Path, sets: tuple[LabelledSet, LabelledSet], result: TrainingResult
) -> TrainingReport:
    """The report of a run."""
    epochs = tuple(read_epochs(run))
    recipe: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(plan.recipe))
    counts = confusion(sets[1], result.child.predictions).counts
    return TrainingReport(
        name=result.artifact.manifest.name,
        trainer=plan.trainer,
        base=plan.base.name + (" (random weights)" if plan.base.scratch else ""),
        new_head=plan.new_head and not plan.base.scratch,
        labels=plan.labels,
        recipe=recipe,
        sources=sources(plan.base.family, recipe),
        training=_set(sets[0]),
        validation=_set(sets[1]),
        steps=epochs[-1].step,
        epochs=epochs,
        best_epoch=max(epochs, key=lambda row: row.ap).epoch,
        findings=tuple(read_symptoms(run)),
        before=None if result.base is None else _side(result.base),
        after=_side(result.child),
        difference=result.difference,
        categories=tuple(category.name for category in sets[1].categories),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        error_gallery=tuple(error_gallery(sets[1], result.child.predictions, GALLERY)),
        versions=versions(*TOOLS),
        verdict=result.verdict,
    )


def _set(labelled: LabelledSet) -> dict[str, Any]:
    return {
        "source": labelled.source,
        "pictures": len(labelled.images),
        "objects": len(labelled.truth),
        "labels_digest": labelled.digest(),
    }


def _side(measured: MeasuredModel) -> Side:
    scores = measured.scores
    return Side(
        name=measured.name,
        engine=measured.engine,
        figures=scores.figures,
        at_threshold=scores.at_threshold,
        classes=scores.classes,
        note=measured.note,
    )


def to_html(report: TrainingReport, run: Path, validation: LabelledSet) -> str:
    """The report as one self-contained HTML page: no script, no outside request.

    Args:
        report: The report.
        run: Folder of the run, which has the steps.
        validation: The validation set, which has the images of the error gallery.
    """
    names = {image.name: index for index, image in enumerate(validation.images)}
    gallery = [(one, _drawn(one, validation, names[one.name])) for one in report.error_gallery]
    largest = max((max(row) for row in report.confusion), default=0)
    return _template().render(
        report=report,
        loss=loss_curve(read_steps(run), report.epochs),
        map=map_curve(report.epochs, report.best_epoch),
        gallery=gallery,
        colours={name: f"rgb{rgb}" for name, rgb in COLOURS.items()},
        largest=max(1, largest),
        confidence=CONFIDENCE,
        iou=IOU,
        recipe=_rows(report),
        css=css(),
    )


def _rows(report: TrainingReport) -> list[tuple[str, Any, str]]:
    rows = []
    for key, value in report.recipe.items():
        table = value if isinstance(value, dict) else {"": value}
        for name, inner in table.items():
            path = f"{key}.{name}" if name else key
            rows.append((path, inner, report.sources.get(path, "")))
    return rows


def _drawn(judged: JudgedImage, validation: LabelledSet, index: int) -> Markup:
    """The image with its boxes, as the address of an inline image."""
    path = validation.images[index].path
    image = read_image(path, max_pixels=MAX_PIXELS, hint="seatrial data check")
    height, width = image.shape[:2]
    factor = THUMBNAIL_PX / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    canvas = np.ascontiguousarray(cv2.resize(image, size, interpolation=smooth))
    taken: list[tuple[int, int]] = []
    for box in judged.boxes:
        left, top, wide, high = (round(value * factor) for value in box.xywh)
        cv2.rectangle(canvas, (left, top), (left + wide, top + high), COLOURS[box.judged], 2)
        place = (max(2, left), top - 5 if top > LINE_PX else top + high + LINE_PX)
        while any(
            abs(place[0] - x) < 4 * LINE_PX and abs(place[1] - y) < LINE_PX for x, y in taken
        ):
            place = (place[0], place[1] + LINE_PX)
        taken.append(place)
        (length, _), _ = cv2.getTextSize(box.label, *LETTERS)
        corner = (place[0] + length + 4, place[1] - LINE_PX + 4)
        cv2.rectangle(canvas, (place[0], place[1] + 4), corner, COLOURS[box.judged], cv2.FILLED)
        cv2.putText(
            canvas, box.label, (place[0] + 2, place[1]), *LETTERS[:2], (0, 0, 0), 1, cv2.LINE_AA
        )
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", canvas[:, :, ::-1], quality)
    text = base64.b64encode(data.tobytes()).decode()
    return Markup(f"data:image/jpeg;base64,{text}")  # noqa: S704  base64 has no markup


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    folder = resources.files("seatrial.train") / "templates"
    return environment.from_string((folder / "finetune.html.j2").read_text(encoding="utf-8"))
