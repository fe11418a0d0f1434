"""The report of a finetuning: as JSON, and as one HTML file that opens offline."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.confusion import confusion
from seatrial.accuracy.error_blocks import GALLERY, confusion_section, gallery_section
from seatrial.accuracy.error_gallery import JudgedImage, error_gallery
from seatrial.accuracy.evaluate import ClassFigures, Figures
from seatrial.accuracy.operating_point import OperatingPoint
from seatrial.conditions import Conditions, condition_rows
from seatrial.datasets.labels import LabelledSet
from seatrial.gate import Verdict
from seatrial.report.blocks import facts, section
from seatrial.report.numbers import counted, noun
from seatrial.report.page import head
from seatrial.system.versions import versions
from seatrial.train.after_step import read_symptoms
from seatrial.train.diagnosis import Symptom
from seatrial.train.journal import Epoch, read_epochs, read_steps
from seatrial.train.loss_curves import loss_curve, map_curve
from seatrial.train.plan import TrainingPlan
from seatrial.train.published import sources
from seatrial.train.result import TOOLS, MeasuredModel, TrainingResult

if TYPE_CHECKING:
    from jinja2 import Template

REPORT_FILE, REPORT_PAGE = "finetune.json", "finetune.html"


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
        conditions: When, where and by which command; None in reports of versions without it.
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
    conditions: Conditions | None = None


def describe(
    plan: TrainingPlan,
    run: Path,
    sets: tuple[LabelledSet, LabelledSet],
    result: TrainingResult,
    made: Conditions | None = None,
) -> TrainingReport:
    """The report of a run that was made under conditions."""
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
        conditions=made,
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
    paths = {image.name: image.path for image in validation.images}
    counts = np.array(report.confusion, np.int64)
    return _template().render(
        report=report,
        loss=loss_curve(read_steps(run), report.epochs),
        map=map_curve(report.epochs, report.best_epoch),
        gallery=gallery_section(report.error_gallery, paths),
        confusion=confusion_section(report.categories, counts),
        conditions=section("Conditions", facts(_conditions(report))),
        recipe=_rows(report),
        head=head(f"Seatrial finetuning: {report.name}"),
    )


def _conditions(report: TrainingReport) -> Iterator[tuple[str, str]]:
    for what, images in (("training", report.training), ("validation", report.validation)):
        if "source" in images:
            yield f"{what} images", str(images["source"])
    yield from condition_rows(report.conditions)
    if report.conditions is None:
        yield "versions", ", ".join(f"{name} {one}" for name, one in report.versions.items())


def _rows(report: TrainingReport) -> list[tuple[str, Any, str]]:
    rows = []
    for key, value in report.recipe.items():
        table = value if isinstance(value, dict) else {"": value}
        for name, inner in table.items():
            path = f"{key}.{name}" if name else key
            rows.append((path, inner, report.sources.get(path, "")))
    return rows


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update({"counted": counted, "noun": noun})
    folder = resources.files("seatrial.train") / "templates"
    return environment.from_string((folder / "finetune.html.j2").read_text(encoding="utf-8"))
