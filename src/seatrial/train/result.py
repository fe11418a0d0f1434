"""From the best weights of a run to an artifact: exported, verified, measured against its base."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import BoxSet, Comparison, compare
from seatrial.accuracy.evaluate import Scores, score
from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.matching import Matches, Predictions
from seatrial.accuracy.predict import InProcess, predict
from seatrial.artifact import Artifact, Store
from seatrial.datasets import coco
from seatrial.datasets.labels import LabelledSet, match_labels
from seatrial.detect.detector import Detector
from seatrial.engines.base import Engine, EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.engines.torch_module import ModuleEngine
from seatrial.errors import InvalidDataset, TrainingFailed
from seatrial.export.options import ExportOptions
from seatrial.export.run import export
from seatrial.gate import Clause, Interval, Verdict, judge, rule
from seatrial.manifest import Step
from seatrial.models import torch_modules
from seatrial.models.import_checkpoint import Lineage, import_transformers, import_ultralytics
from seatrial.progress import Progress
from seatrial.system.hardware import usable_cores
from seatrial.system.versions import versions
from seatrial.train.after_step import best_folder
from seatrial.train.journal import Journal
from seatrial.train.plan import TrainingPlan
from seatrial.train.training_labels import image_sizes

TOOLS = ("torch", "transformers", "accelerate", "lightning", "ultralytics")
CHECKPOINT = "-checkpoint"  # suffix of the artifact with the weights
PROOF = "proof"
NOTHING_IN_COMMON = "it knows none of the classes"


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """A model on the validation set.

    Attributes:
        name: Name of the artifact.
        engine: Engine, device and precision of the measurement.
        scores: COCO's figures and operating points.
        matches: Matches that the scores were computed from.
        predictions: Detections that the scores were computed from.
        note: Remark for the report.
    """

    name: str
    engine: str
    scores: Scores
    matches: Matches
    predictions: Predictions
    note: str = ""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The outcome of a run.

    Attributes:
        checkpoint: Artifact of the weights, in a store inside the run's folder.
        artifact: Exported artifact, in the same store.
        child: Measurement of the exported artifact.
        base: Measurement of the base model; None from scratch.
        difference: AP of the child minus AP of the base, with its interval.
        verdict: Whether the child is as good as the base; None from scratch.
    """

    checkpoint: Artifact
    artifact: Artifact
    child: MeasuredModel
    base: MeasuredModel | None
    difference: Difference | None
    verdict: Verdict | None


def conclude(
    plan: TrainingPlan,
    run: Path,
    validation: LabelledSet,
    base: Artifact | None,
    name: str,
    on_progress: Progress,
) -> TrainingResult:
    """Import the best weights, export and verify them, and measure them against the base.

    Args:
        plan: Plan of the run.
        run: Folder of the run.
        validation: The validation set.
        base: Artifact of the base model; None from scratch.
        name: Name of the artifact.
        on_progress: Takes messages.

    Raises:
        Diverged: The export gives other detections than the weights.
        TrainingFailed: The run has no weights.
    """
    folder = best_folder(run)
    if folder is None:
        raise TrainingFailed(
            f"{run} does not hold weights: no epoch was validated",
            hint="begin anew with --restart",
        )
    shutil.rmtree(run / "artifacts", ignore_errors=True)
    store = Store(run / "artifacts")
    checkpoint = _checkpoint(plan, run, store, folder, name)
    proof = _proof(validation, run)
    options = ExportOptions(plan.recipe.export.to, plan.recipe.export.precision)
    artifact = export(
        store,
        checkpoint,
        options,
        images=proof,
        annotations=proof / "instances.json",
        name=name,
        on_progress=on_progress,
    )
    on_progress(f"measuring {name} on {len(validation.images)} validation images")
    child = _measure(artifact, _engine(artifact), validation)
    before = None if base is None else _measure_base(base, validation, on_progress)
    difference = None if before is None else compare_with_base(child, before, validation).ap
    return TrainingResult(
        checkpoint=checkpoint,
        artifact=artifact,
        child=child,
        base=before,
        difference=difference,
        verdict=None if difference is None else gain_verdict(difference),
    )


def compare_with_base(
    child: MeasuredModel, base: MeasuredModel, validation: LabelledSet
) -> Comparison:
    """The one comparison, of the finetuned model with its base on the validation images."""
    return compare(*(BoxSet.on(validation, one.predictions, one.matches) for one in (child, base)))


def gain_verdict(difference: Difference) -> Verdict:
    """Whether a finetuned model is as good as its base: the gate on the gain in mAP.

    A loss is allowed as far as all gates allow it. Boxes and confidences are not judged: a
    finetuned model is meant to give others than its base.

    Args:
        difference: AP of the child minus AP of the base, on the same images.
    """
    interval = Interval(
        difference.low, difference.high, level=difference.level, images=difference.images
    )
    allowed = LossLimits().drop
    gain = Clause("coco_ap.gain", -allowed, "at_least", label="gain in mAP over the base")
    text = (
        f"mAP {difference.difference:+.4f} against the base ({difference.level:.0%} interval "
        f"{difference.low:+.4f} to {difference.high:+.4f}, {difference.images} images; a loss of "
        f"{allowed:g} is allowed)"
    )
    return judge([rule(gain, difference.difference, interval, text=text)], name="the finetuning")


def _checkpoint(plan: TrainingPlan, run: Path, store: Store, folder: Path, name: str) -> Artifact:
    best = Journal(run, write=False).best
    recipe: dict[str, Any] = msgspec.to_builtins(plan.recipe)
    config = {
        "trainer": plan.trainer,
        "base": plan.base.name,
        "from_scratch": plan.base.scratch,
        "new_head": plan.new_head,
        "recipe": recipe,
        "train": plan.data.train_digest,
        "val": plan.data.val_digest,
        "best_epoch": best.epoch if best is not None else 0,
    }
    made = Lineage(
        Step("finetune", config, versions(*TOOLS)),
        plan.base.digest,
        {"val_ap": best.ap, "val_ap50": best.ap50} if best is not None else {},
    )
    name = f"{name}{CHECKPOINT}"
    uri = f"finetuned:{plan.base.name}"
    if plan.trainer == "ultralytics":
        return import_ultralytics(
            store, folder / "model.pt", name=name, uri=uri, licence=plan.base.licence,
            allow_pickle=True, lineage=made,
        )  # fmt: skip
    return import_transformers(
        store, folder, name=name, uri=uri, licence=plan.base.licence, lineage=made
    )


def _proof(validation: LabelledSet, run: Path) -> Path:
    """A folder with the validation images and their labels, for the export's checks."""
    folder = run / PROOF
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sizes = image_sizes(validation)
    images = []
    for image, (width, height) in zip(validation.images, sizes, strict=True):
        name = f"{image.id:09}{image.path.suffix.lower()}"
        (folder / name).symlink_to(image.path.resolve())
        images.append(
            msgspec.structs.replace(
                image, name=name, path=folder / name, width=width, height=height
            )
        )
    data = coco.encode(replace(validation, images=tuple(images)), {"description": "validation"})
    (folder / "instances.json").write_bytes(data)
    return folder


def _engine(artifact: Artifact) -> Engine:
    formats = artifact.manifest.formats
    if "torch" in formats:
        name = "torch"
    elif "openvino" in formats or not importlib.util.find_spec("onnxruntime"):
        name = "openvino"
    else:
        name = "onnxruntime"
    return open_engine(artifact, name, EngineConfig(threads=usable_cores()))


def _measure_base(base: Artifact, validation: LabelledSet, on_progress: Progress) -> MeasuredModel:
    on_progress(f"measuring the base model {base.manifest.name} on the same images")
    if not torch_modules.is_checkpoint(base):
        return _measure(base, _engine(base), validation)
    manifest = base.manifest
    engine = ModuleEngine(torch_modules.module_of(base, manifest), manifest)
    return _measure(base, engine, validation)


def _measure(artifact: Artifact, engine: Engine, validation: LabelledSet) -> MeasuredModel:
    """Measure a model on the whole set; objects of classes that it lacks count as missed."""
    note = ""
    with Detector(artifact, engine) as detector:
        subject = InProcess(detector)
        try:
            matched = match_labels(subject.labels, validation, unmatched="ignore")
            found = predict(subject, validation, matched)
        except InvalidDataset:
            if set(map(str.casefold, subject.labels)) & {
                category.name.casefold() for category in validation.categories
            }:
                raise
            none = np.zeros(0, np.int64)
            note = NOTHING_IN_COMMON
            found = Predictions(image=none, category=none, xywh=np.zeros((0, 4)), score=np.zeros(0))
    matches, scores = score(validation, found)
    words = f"{engine.name}, {engine.device}, {engine.precision}"
    return MeasuredModel(
        name=artifact.manifest.name,
        engine=words,
        scores=scores,
        matches=matches,
        predictions=found,
        note=note,
    )


def publish(
    result: TrainingResult, store: Store, files: dict[str, bytes], *, replace_old: bool
) -> tuple[Artifact, Artifact]:
    """Put the weights and the export into the store, with the figures in the manifest.

    Args:
        result: Outcome of the run.
        store: Store that takes them.
        files: Name -> content of further files in the exported artifact.
        replace_old: Replace artifacts of the same names.

    Returns:
        The checkpoint and the artifact.

    Raises:
        InvalidInput: A name is taken.
    """
    figures = result.child.scores.figures
    metrics = {"coco_ap": figures.ap or 0.0, "coco_ap50": figures.ap50 or 0.0}
    if result.base is not None and result.difference is not None:
        metrics["coco_ap.base"] = result.base.scores.figures.ap or 0.0
        metrics["coco_ap.gain_low"] = result.difference.low
        metrics["coco_ap.gain_high"] = result.difference.high
    manifest = result.artifact.manifest
    with store.staging() as weights, store.staging() as exported:
        _copy(result.checkpoint, weights)
        _copy(result.artifact, exported)
        for name, content in files.items():
            (exported / name).write_bytes(content)
        checkpoint = store.commit(
            weights,
            msgspec.structs.replace(result.checkpoint.manifest, files=()),
            replace=replace_old,
        )
        artifact = store.commit(
            exported,
            msgspec.structs.replace(manifest, files=(), metrics={**manifest.metrics, **metrics}),
            replace=replace_old,
        )
    return checkpoint, artifact


def _copy(artifact: Artifact, folder: Path) -> None:
    for entry in artifact.manifest.files:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path / entry.path, target)
