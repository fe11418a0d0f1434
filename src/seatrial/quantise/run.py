"""A compression from start to end: quantise, judge, give layers back to float, prove, keep."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec

from seatrial.accuracy.compare import BoxSet
from seatrial.accuracy.limits import LossLimits
from seatrial.accuracy.loss import Loss, judge_loss
from seatrial.artifact import Artifact, Store
from seatrial.config import encode_json
from seatrial.datasets.labels import LabelledSet
from seatrial.errors import Diverged, InvalidArtifact, InvalidConfig, InvalidDataset
from seatrial.manifest import Manifest, Step, check_name
from seatrial.progress import Progress, silent
from seatrial.quantise import measure
from seatrial.quantise.backend import Backend
from seatrial.quantise.calibration_images import (
    CalibrationImages,
    Skipped,
    check,
    choose,
    find_images,
)
from seatrial.quantise.judge import Judge
from seatrial.quantise.measure import Graph
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.registry import open_backend
from seatrial.quantise.report import REPORT_FILE, Candidate, QuantiseReport, Restored, Speed
from seatrial.quantise.sensitivity import rank
from seatrial.quantise.workspace import Workspace, workspace
from seatrial.system.versions import versions

MOST_JUDGED = 5000  # images without labels


def compress_int8(
    store: Store,
    parent: Artifact,
    options: QuantiseOptions,
    *,
    calibration: Path,
    labelled: LabelledSet | None = None,
    name: str | None = None,
    replace: bool = False,
    on_progress: Progress = silent,
) -> tuple[Artifact, QuantiseReport]:
    """Make an INT8 artifact, and prove it against its parent.

    A run that is killed continues where it was when it is started again with the same arguments.

    Args:
        store: Store that the artifact goes to.
        parent: A float32 artifact.
        options: See `QuantiseOptions`.
        calibration: Folder of images like those that the service will see.
        labelled: Labelled images to judge by; without them, agreement with the parent decides.
        name: Name of the artifact; default: the parent's with ``-int8`` and the target.
        replace: Replace an artifact of that name with other content.
        on_progress: Called with each step.

    Returns:
        The artifact (``int8.json`` in it is the report), and the report. Its verdict is
        ``holds`` or ``undecided``.

    Raises:
        Diverged: The gate fails. Nothing was written; the error has the report.
        InvalidArtifact: The parent is not float32, or has no graph that can be quantised.
        InvalidDataset: An image is unusable, or the labels are not the model's.
        InvalidInput: A name that is taken, an unknown recipe, a second run of the same kind.
        MissingExtra, NotWritable: A library or space is missing.
    """
    backend = open_backend(options.to)
    name = check_name(f"{parent.manifest.name}-int8-{options.to}" if name is None else name)
    unknown = [one for one in options.recipes if one not in backend.recipes]
    if unknown:
        raise InvalidConfig(
            f"unknown recipe {unknown[0]!r} for {options.to}",
            hint=f"known: {', '.join(backend.recipes)}",
        )
    recipes = options.recipes or backend.recipes
    if parent.manifest.precision != "f32":
        raise InvalidArtifact(
            f"{parent.manifest.name} is {parent.manifest.precision}; INT8 is made of float32",
            hint="compress the artifact that it was made from",
        )
    store.check_free(name, replace=replace)
    images = choose_images(parent, options, calibration, labelled, on_progress)
    key = msgspec.json.encode(
        (parent.digest, options, recipes, images.facts, images.skipped, images.judge.key,
         backend.config(), versions(*backend.versions()))
    ).decode()  # fmt: skip
    with workspace(store, key) as work:
        run = Quantisation(parent, options, backend, images, work, on_progress)
        folder, report = run.make(recipes)
        if not report.verdict.within:
            raise Diverged(
                report.verdict.statement,
                hint="calibrate on more images that are like those of the service, allow more "
                "layers in float (--most-restored), or keep float32",
                report=report,
            )
        return run.keep(store, folder, report, name, replace=replace), report


@dataclass(frozen=True, slots=True)
class ChosenImages:
    """The images of a run.

    Attributes:
        calibration: Images that ranges are taken from.
        facts: Folder, number, seed and digest of these, for the manifest and the report.
        judge: The images that decide.
        skipped: Files that cannot be used.
    """

    calibration: CalibrationImages
    facts: dict[str, str | int]
    judge: Judge
    skipped: tuple[Skipped, ...]


def choose_images(
    parent: Artifact,
    options: QuantiseOptions,
    folder: Path,
    labelled: LabelledSet | None,
    on_progress: Progress,
) -> ChosenImages:
    """Draw the calibration images, and decide what judges.

    Without labels the images that calibration has not seen decide, where there are any.

    Raises:
        InvalidDataset: No image can be used, or the labels are not the model's.
    """
    files = find_images(folder)
    drawn = choose(files, options.calibration, options.seed)
    chosen = check(drawn, "calibration", on_progress)
    if not chosen.files:
        raise InvalidDataset(
            f"none of the {len(drawn)} calibration images can be used: "
            f"{chosen.skipped[0].file}: {chosen.skipped[0].reason}",
            hint="give a folder of JPEG, PNG or WebP files",
        )
    skipped, labels = chosen.skipped, parent.manifest.labels
    if labelled is not None:
        judge = Judge.by_labels(labelled, labels, options.gate)
    else:
        seen = {*drawn}
        left = choose(tuple(file for file in files if file not in seen), MOST_JUDGED, options.seed)
        others = check(left, "remaining", on_progress)
        judged = others if others.files else chosen
        skipped += others.skipped
        judge = Judge.by_agreement(judged.files, labels, options.gate, key=judged.digest)
    return ChosenImages(
        calibration=CalibrationImages(chosen.files, parent.manifest),
        facts={
            "folder": folder.name,
            "pictures": len(chosen.files),
            "skipped": len(chosen.skipped),
            "seed": options.seed,
            "sha256": chosen.digest,
        },
        judge=judge,
        skipped=skipped,
    )


@dataclass(frozen=True)
class Quantisation:
    """One run, with what all its steps need.

    Attributes:
        parent: The artifact that is compressed.
        options: See `QuantiseOptions`.
        backend: Quantises graphs of one format.
        images: Images to calibrate and to judge on.
        work: Keeps the results of steps.
        on_progress: Called with each step.
    """

    parent: Artifact
    options: QuantiseOptions
    backend: Backend
    images: ChosenImages
    work: Workspace
    on_progress: Progress

    def make(self, recipes: Sequence[str]) -> tuple[Path, QuantiseReport]:
        """Try the recipes, and give layers of the best back to float until the gate is kept.

        Returns:
            Folder of the graph that is kept, and the report.
        """
        backend, work, limits = self.backend, self.work, self.options.gate
        head = backend.prepare(self.parent, work)

        # What each recipe loses.
        graphs: dict[str, Path] = {}
        candidates: list[Candidate] = []
        for recipe in recipes:
            folder = graphs[recipe] = backend.quantise(
                recipe, self.images.calibration, work, self.on_progress
            )
            quantised = len(backend.layers(folder, work))
            candidates.append(Candidate(recipe, quantised, finding=self.loss(folder)))
        best = best_of(candidates, limits)
        folder, loss = graphs[best.recipe], best.finding

        # Layers back to float, the one that costs most first.
        restored: list[Restored] = []
        if self.options.most_restored and not judge_loss(loss, limits).within:
            order = rank(
                backend, graphs[best.recipe], self.images.calibration, work, self.on_progress
            )
            for count, one in enumerate(order[: self.options.most_restored], 1):
                self.on_progress("restoring layers", count)
                layers = [other.layer for other in order[:count]]
                folder = work.folder(
                    f"graph-restored-{count}",
                    partial(backend.restore, graphs[best.recipe], layers, work=work),
                )
                loss = self.loss(folder)
                restored.append(Restored(one.layer, one.error, loss, speed=self.speed(folder)))
                if judge_loss(loss, limits).within:
                    break

        with measure.opened(self.graph(folder)) as engine:
            ran = {"engine": engine.name, "device": engine.device, "precision": engine.precision}
        report = QuantiseReport(
            to=self.options.to,
            parent={"name": self.parent.manifest.name, "digest": self.parent.digest},
            engine=ran,
            gate=limits,
            judged_on=f"{self.images.judge.dataset.source}, {loss.images} images",
            calibration=self.images.facts,
            head=head.nodes,
            candidates=tuple(candidates),
            recipe=best.recipe,
            restored=tuple(restored),
            quantised=len(backend.layers(folder, work)),
            convolutions=best.quantised,
            finding=loss,
            verdict=judge_loss(loss, limits),
            speed=self.speed(folder) if backend.deployed_here else None,
            notes=self._notes(folder, len(candidates) + len(restored)),
            skipped=self.images.skipped,
        )
        return folder, report

    def graph(self, folder: Path) -> Graph:
        """A quantised graph, as the artifact that it would be."""
        name = folder.name.removeprefix("graph-")
        return Graph(name, folder / self.backend.file, self.manifest, self.backend.engine)

    @cached_property
    def before(self) -> Graph:
        """The parent's graph, in the format that the backend compares in."""
        formats = self.parent.manifest.formats
        chosen = self.backend.format if self.backend.format in formats else "onnx"
        file = self.parent.file(chosen)
        return Graph("the parent", file, self.parent.manifest, self.backend.engine)

    @cached_property
    def manifest(self) -> Manifest:
        """Manifest of the child, without its name, step and metrics."""
        return msgspec.structs.replace(
            self.parent.manifest,
            formats={self.backend.format: self.backend.file},
            precision="int8",
            parent=self.parent.digest,
            metrics={},
            files=(),
        )

    @cached_property
    def _parent_boxes(self) -> BoxSet:
        return self._boxes(self.before)

    def _boxes(self, graph: Graph) -> BoxSet:
        judge = self.images.judge
        return judge.boxes(measure.predictions(graph, judge, self.work, self.on_progress))

    def loss(self, folder: Path) -> Loss:
        """The loss of a graph against the parent."""
        before, after = self._parent_boxes, self._boxes(self.graph(folder))
        return self.work.value(
            f"finding-{folder.name.removeprefix('graph-')}",
            Loss,
            lambda: self.images.judge.loss(after, before, self.on_progress),
        )

    def speed(self, folder: Path) -> Speed:
        """Speed of a graph against the parent's, on one of the calibration images."""
        images = self.images.calibration
        feeds = images.feed(images.files[0])
        return measure.speed(self.before, self.graph(folder), feeds, self.work, self.on_progress)

    def _notes(self, folder: Path, compared: int) -> tuple[str, ...]:
        notes = []
        if compared > 1:
            notes.append(
                f"{compared} graphs were compared on the images that decide: the drop of the "
                "one that was kept is biased low"
            )
        if not self.images.judge.labelled:
            notes.append("judged without labels: whether the parent is right was not measured")
        if not self.backend.deployed_here:
            notes.append(
                f"compared in {self.backend.engine} on this CPU; speed and accuracy on a GPU "
                "were not measured"
            )
            notes.append(self.backend.accepted(folder))
        return tuple(notes)

    def keep(
        self, store: Store, folder: Path, report: QuantiseReport, name: str, *, replace: bool
    ) -> Artifact:
        """Put a graph with its report into the store."""
        loss = report.finding
        metrics = {
            f"{loss.metric}_drop": loss.drop,
            f"{loss.metric}_drop_low": loss.low,
            f"{loss.metric}_drop_high": loss.high,
        }
        if loss.metric == "ap":
            metrics = {"coco_ap": loss.child, **metrics}
        if loss.mean_shift is not None and loss.mean_abs_shift is not None:
            metrics["confidence_shift"] = loss.mean_shift
            metrics["confidence_shift_size"] = loss.mean_abs_shift
        if report.speed is not None:
            metrics["speed_ratio"] = report.speed.ratio
        config: dict[str, Any] = {
            **self.backend.config(),
            "to": report.to,
            "recipe": report.recipe,
            "calibration": report.calibration,
            "gate": msgspec.to_builtins(report.gate),
            "verdict": report.verdict.outcome,
            "float_head": list(report.head),
            "float_layers": [step.layer for step in report.restored],
        }
        step = Step("compress-int8", config, versions(*self.backend.versions()))
        manifest = msgspec.structs.replace(self.manifest, name=name, step=step, metrics=metrics)
        with store.staging() as staged:
            for file in sorted(folder.iterdir()):
                shutil.copyfile(file, staged / file.name)
            (staged / REPORT_FILE).write_bytes(encode_json(report))
            return store.commit(staged, manifest, replace=replace)


def best_of(candidates: Sequence[Candidate], limits: LossLimits) -> Candidate:
    """The candidate that is kept.

    One within the gate goes before one that is not. Those whose drop is within the allowed drop of
    the smallest count as equal, since that much may be lost; of them, the one whose confidences
    move least.
    """
    sound = [one for one in candidates if judge_loss(one.finding, limits).within] or candidates
    least = min(one.finding.drop for one in sound)
    equal = [one for one in sound if one.finding.drop <= least + limits.drop]
    return min(
        equal,
        key=lambda one: (
            float("inf") if (shift := one.finding.mean_abs_shift) is None else shift,
            one.finding.drop,
        ),
    )
