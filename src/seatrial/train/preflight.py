"""Checks before the first step, in the process that starts the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from seatrial.accuracy.evaluate import score
from seatrial.accuracy.predict import InProcess, predict
from seatrial.artifact import Artifact
from seatrial.datasets.agreement import agreed, inspect_sets
from seatrial.datasets.issues import refuse
from seatrial.datasets.labels import LabelledSet, known_categories, match_labels
from seatrial.detect.detector import Detector
from seatrial.engines.torch_module import ModuleEngine
from seatrial.errors import InvalidDataset
from seatrial.models import torch_modules
from seatrial.progress import Progress, silent
from seatrial.system.extras import require
from seatrial.system.hardware import usable_cores
from seatrial.train import diagnosis
from seatrial.train.diagnosis import Symptom
from seatrial.train.plan import TrainingPlan
from seatrial.train.validation import Validation

PROBED = 48  # training images that the base model detects on, where it knows the classes
KNOWN = 3  # classes that it must know for that


def preflight(
    plan: TrainingPlan,
    sets: tuple[LabelledSet, LabelledSet],
    base: Artifact | None,
    on_progress: Progress = silent,
) -> list[Symptom]:
    """Symptoms in the labels of both sets, alone and against the detections of a base, if any.

    Raises:
        InvalidDataset: An image of either set cannot be decoded, or images and labels do not
            agree.
    """
    _decode(sets, on_progress)
    found = [
        finding
        for which, labelled in zip(("training", "validation"), sets, strict=True)
        for finding in diagnosis.of_labels(labelled, which=which)
    ]
    if base is None or any(finding.fatal for finding in found):
        return found
    seen = _base_detections(base, sets[0], Path(plan.base.path))
    if seen is not None:
        finding = diagnosis.of_known_classes(*seen)
        found += [finding] if finding is not None else []
    return found


def _decode(sets: tuple[LabelledSet, LabelledSet], on_progress: Progress) -> None:
    """Decode every image once: a damaged one would end the training in its first epoch."""
    named = dict(zip(("training", "validation"), sets, strict=True))
    seen = inspect_sets(named, on_progress, pixels=True)
    for which, labelled in agreed(named, seen, refuse).items():
        for note in labelled.notes:
            on_progress(f"warning: {which} set: {note}")


def _base_detections(
    base: Artifact, training: LabelledSet, path: Path
) -> tuple[LabelledSet, Validation] | None:
    """Detections of the base model on some training images; None where it knows few classes."""
    try:
        matched = match_labels(base.manifest.labels, training, unmatched="ignore")
    except InvalidDataset:
        return None
    if len(set(matched[matched >= 0].tolist())) < KNOWN:
        return None
    torch = require("torch", extra="train", purpose="finetuning")
    torch.set_num_threads(usable_cores())
    chosen = np.unique(np.linspace(0, len(training.images) - 1, PROBED).astype(int))
    probed = _subset(known_categories(matched, training), chosen)
    module = torch_modules.module_of(base, base.manifest)
    engine = ModuleEngine(module, base.manifest)
    with Detector(base, engine) as detector:
        predictions = predict(InProcess(detector), probed, matched)
    matches, scores = score(probed, predictions)
    return probed, Validation(scores, matches, predictions)


def _subset(dataset: LabelledSet, chosen: np.typing.NDArray[np.intp]) -> LabelledSet:
    """The set of some images and their objects."""
    place = np.full(len(dataset.images), -1)
    place[chosen] = np.arange(len(chosen))
    truth = dataset.truth.take(np.flatnonzero(place[dataset.truth.image] >= 0))
    return replace(
        dataset,
        images=tuple(dataset.images[index] for index in chosen.tolist()),
        truth=replace(truth, image=place[truth.image].astype(np.int64)),
    )
