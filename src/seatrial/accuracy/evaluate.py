"""Accuracy of a detector on labelled images, by COCO's rules; in process or as it is served."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from seatrial.accuracy.average_precision import average_precision, curves, mean, recall
from seatrial.accuracy.compare import BoxSet, Comparison
from seatrial.accuracy.matching import AREAS, Matches, Predictions, match
from seatrial.accuracy.operating_point import OperatingPoint, operating_points
from seatrial.accuracy.predict import EVALUATION, Subject, predict
from seatrial.conditions import Conditions, conditions
from seatrial.datasets.labels import LabelledSet, Unmatched, known_categories, match_labels
from seatrial.deployment import Thresholds
from seatrial.gate import Interval, Verdict
from seatrial.progress import Progress, silent
from seatrial.report.numbers import counted
from seatrial.system.images import images_digest

STEP_50, STEP_75 = 0, 5  # in IOU_THRESHOLDS
ALL, SMALL, MEDIUM, LARGE = range(len(AREAS))  # in AREAS


class Figures(msgspec.Struct, frozen=True):
    """COCO's twelve figures, 0-1; None where no object is of the size.

    Attributes:
        ap: Mean over IoU 0.50, 0.55, ..., 0.95 and over categories: "mAP".
        ap50: At IoU 0.50.
        ap75: At IoU 0.75.
        ap_small: Objects up to 32 x 32 pixels.
        ap_medium: 32 x 32 to 96 x 96.
        ap_large: From 96 x 96.
        ar1: Highest recall with 1 detection for each image and category.
        ar10: With 10.
        ar100: With 100.
        ar_small: With 100, small objects.
        ar_medium: With 100, medium ones.
        ar_large: With 100, large ones.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None


class ClassFigures(msgspec.Struct, frozen=True):
    """One category that has objects.

    Attributes:
        name: Name of the category.
        category_id: The dataset's number for it.
        objects: Number of its objects, crowds left out.
        ap: See `Figures`.
        ap50: See `Figures`.
        ap75: See `Figures`.
        ar100: See `Figures`.
        at_threshold: Operating point at the given threshold.
        best_f1: Operating point of the best F1.
    """

    name: str
    category_id: int
    objects: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar100: float | None
    at_threshold: OperatingPoint
    best_f1: OperatingPoint


class Scores(msgspec.Struct, frozen=True):
    """Accuracy of detections against labels.

    Attributes:
        figures: COCO's twelve figures.
        at_threshold: Operating point over all categories, at the given threshold.
        best_f1: Operating point over all categories, of the best F1.
        classes: Categories with objects, in the dataset's order.
    """

    figures: Figures
    at_threshold: OperatingPoint
    best_f1: OperatingPoint
    classes: tuple[ClassFigures, ...]


class Evaluation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A measurement, for reports.

    Attributes:
        dataset: Name of the set, with its format.
        labels_digest: Digest of the labels.
        images: Number of images, those without objects included.
        objects: Number of labelled objects, crowds left out.
        crowds: Number of labelled crowds.
        skipped: Names of images that the labels have and the folder has not.
        notes: Remarks on the set.
        subject: Artifact, engine, device, precision; and the address of a service.
        rules: Thresholds of the detector.
        detections: Number of boxes.
        detect_s: Seconds for decoding and inference of all images.
        score_s: Seconds for matching and figures.
        scores: The figures.
        intervals: Name of a figure -> its interval, where they were asked for.
        parent: The boxes against those of a parent, where there is one.
        parent_verdict: The gate on a child, for that comparison.
        verdict: Verdict on the accuracy clauses of a contract, where there is one.
        images_digest: Digest of the names and bytes of the images, see
            `seatrial.system.images.images_digest`; empty in reports of earlier versions.
        conditions: When, where and by which command it was measured; None in reports of earlier
            versions.
    """

    dataset: str
    labels_digest: str
    images: int
    objects: int
    crowds: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    subject: dict[str, Any]
    rules: Thresholds
    detections: int
    detect_s: float
    score_s: float
    scores: Scores
    intervals: dict[str, Interval] = {}
    parent: Comparison | None = None
    parent_verdict: Verdict | None = None
    verdict: Verdict | None = None
    images_digest: str = ""
    conditions: Conditions | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A report, and the boxes that it was made from."""

    report: Evaluation
    dataset: LabelledSet
    predictions: Predictions
    matches: Matches

    @property
    def box_set(self) -> BoxSet:
        """The boxes with their matches, for `seatrial.accuracy.compare.compare`."""
        return BoxSet.on(self.dataset, self.predictions, self.matches)


def evaluate(
    subject: Subject,
    dataset: LabelledSet,
    *,
    rules: Thresholds = EVALUATION,
    threshold: float = 0.25,
    unmatched: Unmatched = "error",
    command: str = "",
    on_progress: Progress = silent,
) -> Scored:
    """Measure a detector on a labelled set.

    Args:
        subject: `InProcess(detector)` or `RemoteDetector(url)`.
        dataset: From `read_labelled`.
        rules: Thresholds of the detector; the default gives figures as they are published.
        threshold: Confidence for the operating point.
        unmatched: ``ignore`` measures on the categories that model and dataset share.
        command: Command that a reader repeats this with.
        on_progress: Called after each image.

    Raises:
        InvalidDataset: Labels of model and dataset do not match, or an image is unusable.
        ServiceFailed: The service does not answer.
    """
    matched = match_labels(subject.labels, dataset, unmatched=unmatched)
    known = known_categories(matched, dataset)
    made, begun = conditions(command), time.perf_counter()
    odd: list[str] = []
    predictions = predict(subject, known, matched, rules, on_progress, odd.append)
    detected = time.perf_counter()
    matches, scores = score(known, predictions, threshold=threshold)
    done = time.perf_counter()
    dropped = len(dataset.truth) - len(known.truth)
    notes = [
        f"{counted(count, 'image')}: each {warning}" for warning, count in Counter(odd).items()
    ]
    if dropped:
        notes.append(f"left out: {counted(dropped, 'object')} of categories that the model lacks")
    report = Evaluation(
        dataset=dataset.source,
        labels_digest=dataset.digest(),
        images=len(dataset.images),
        objects=int((~known.truth.crowd).sum()),
        crowds=int(known.truth.crowd.sum()),
        skipped=dataset.skipped,
        notes=(*dataset.notes, *notes),
        subject=subject.describe(),
        rules=rules,
        detections=len(predictions),
        detect_s=detected - begun,
        score_s=done - detected,
        scores=scores,
        images_digest=images_digest((i.name, i.path.read_bytes()) for i in dataset.images),
        conditions=made,
    )
    return Scored(report, known, predictions, matches)


def score(
    dataset: LabelledSet, predictions: Predictions, *, threshold: float = 0.25
) -> tuple[Matches, Scores]:
    """Score detections against labels.

    Args:
        dataset: The labels.
        predictions: Detections in its images and categories.
        threshold: Confidence for the operating point.
    """
    matches = match(
        dataset.truth,
        predictions,
        images=len(dataset.images),
        categories=len(dataset.categories),
    )
    precisions = [average_precision(curves(matches, area)) for area in range(len(AREAS))]
    recalls = [recall(matches, area, 100) for area in range(len(AREAS))]
    ap, ar = precisions[ALL], recalls[ALL]
    figures = Figures(
        ap=mean(ap),
        ap50=mean(ap[STEP_50]),
        ap75=mean(ap[STEP_75]),
        ap_small=mean(precisions[SMALL]),
        ap_medium=mean(precisions[MEDIUM]),
        ap_large=mean(precisions[LARGE]),
        ar1=mean(recall(matches, ALL, 1)),
        ar10=mean(recall(matches, ALL, 10)),
        ar100=mean(ar),
        ar_small=mean(recalls[SMALL]),
        ar_medium=mean(recalls[MEDIUM]),
        ar_large=mean(recalls[LARGE]),
    )
    objects = matches.positives(ALL)
    classes = []
    for index in np.flatnonzero(objects).tolist():
        category = dataset.categories[index]
        classes.append(
            ClassFigures(
                category.name,
                category.id,
                int(objects[index]),
                mean(ap[:, index]),
                mean(ap[STEP_50, index : index + 1]),
                mean(ap[STEP_75, index : index + 1]),
                mean(ar[:, index]),
                *operating_points(matches, threshold, index),
            )
        )
    overall = operating_points(matches, threshold)
    return matches, Scores(figures, *overall, tuple(classes))


def coco_results(dataset: LabelledSet, predictions: Predictions) -> Sequence[dict[str, Any]]:
    """Detections in COCO's format for results, with the dataset's own image and category ids.

    Format: https://cocodataset.org/#format-results, "Object Detection".
    """
    return [
        {
            "image_id": dataset.images[image].id,
            "category_id": dataset.categories[category].id,
            "bbox": [round(value, 2) for value in xywh],
            "score": confidence,
        }
        for image, category, xywh, confidence in zip(
            predictions.image.tolist(),
            predictions.category.tolist(),
            predictions.xywh.tolist(),
            predictions.score.tolist(),
            strict=True,
        )
    ]
