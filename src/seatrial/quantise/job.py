"""The steps of one compression: try the recipes, give layers back to float, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from seatrial.accuracy.matching import Predictions
from seatrial.artifact import Artifact, Manifest
from seatrial.progress import Progress
from seatrial.quantise import measure, restore
from seatrial.quantise.backend import Backend
from seatrial.quantise.calibration_images import CalibrationImages, Skipped
from seatrial.quantise.float_part import Head
from seatrial.quantise.judge import Finding, Gate, Judge, judge
from seatrial.quantise.measure import Graph
from seatrial.quantise.report import Candidate, QuantiseReport, Restored, Speed
from seatrial.quantise.workspace import Workspace


class QuantiseOptions(msgspec.Struct, frozen=True):
    """What a compression is asked to do.

    Attributes:
        to: ``openvino``, ``onnxruntime`` or ``tensorrt``.
        gate: See `Gate`.
        calibration: Pictures that ranges are taken from, at most.
        seed: Of their choice.
        recipes: Ways of quantising to try; all that the backend has by default.
        most_restored: Layers given back to float, at most.
    """

    to: str = "openvino"
    gate: Gate = Gate()
    calibration: int = 300
    seed: int = 0
    recipes: tuple[str, ...] = ()
    most_restored: int = 24


@dataclass(frozen=True, slots=True)
class Given:
    """What a run works on.

    Attributes:
        pictures: For calibration.
        calibration: Facts about them, for the manifest and the report.
        judge: Decides.
        skipped: Files that cannot be used.
    """

    pictures: CalibrationImages
    calibration: dict[str, str | int]
    judge: Judge
    skipped: tuple[Skipped, ...]


class Quantisation:
    """One run, with what all its steps need.

    Args:
        parent: What is compressed.
        options: What was asked for.
        backend: Quantises.
        given: Pictures and judge.
        work: Keeps the results of steps.
        head: What stays float.
        on_progress: Told what is going on.
    """

    def __init__(
        self,
        parent: Artifact,
        options: QuantiseOptions,
        backend: Backend,
        given: Given,
        work: Workspace,
        head: Head,
        on_progress: Progress,
    ) -> None:
        self.parent = parent
        self.options = options
        self.backend = backend
        self.given = given
        self.pictures = given.pictures
        self.judged_by = given.judge
        self.work = work
        self.head = head
        self.on_progress = on_progress
        source = parent.file(_format_of(parent, backend))
        self.before = Graph("the parent", source, parent.manifest, backend.engine)
        self._parents_boxes: Predictions | None = None

    def run(self, recipes: Sequence[str]) -> tuple[Path, QuantiseReport]:
        """From recipes to the graph that is kept; gives its folder."""
        folders, candidates = {}, []
        for recipe in recipes:
            folder = self.backend.quantise(recipe, self.pictures, self.work, self.on_progress)
            folders[recipe] = folder
            quantised = len(self.backend.layers(folder, self.work))
            candidates.append(Candidate(recipe, quantised, self.find(folder)))
        best = best_of(candidates, self.options.gate)
        folder, finding = folders[best.recipe], best.finding
        steps: tuple[Restored, ...] = ()
        if not judge(finding, self.options.gate).within:
            steps = self.restore(folder)
            layers = tuple(step.layer for step in steps)
            if steps:
                folder = restore.write_restored(self.backend, folder, layers, self.work)
                finding = steps[-1].finding
        return folder, self.report(folder, candidates, best, steps, finding)

    def find(self, folder: Path) -> Finding:
        """Hold a graph against the parent."""
        if self._parents_boxes is None:
            self._parents_boxes = self.boxes(self.before)
        name = folder.name.removeprefix("graph-")
        boxes = self.boxes(self.graph(folder))
        before = self._parents_boxes
        return self.work.value(
            f"finding-{name}",
            Finding,
            lambda: self.judged_by.find(boxes, before, self.on_progress),
        )

    def boxes(self, graph: Graph) -> Predictions:
        """Detections of a graph in the judge's pictures."""
        return measure.predictions(graph, self.judged_by, self.work, self.on_progress)

    def graph(self, folder: Path) -> Graph:
        """A quantised graph as the artifact that it would be."""
        name = folder.name.removeprefix("graph-")
        file = folder / self.backend.file
        return Graph(name, file, self.manifest(), self.backend.engine)

    def manifest(self) -> Manifest:
        """Of the child; name, step and metrics are the caller's."""
        return msgspec.structs.replace(
            self.parent.manifest,
            formats={self.backend.format: self.backend.file},
            precision="int8",
            parent=self.parent.digest,
            metrics={},
            files=(),
        )

    def restore(self, quantised: Path) -> tuple[Restored, ...]:
        """Give layers back until the gate is kept."""
        order = restore.rank(self.backend, quantised, self.pictures, self.work, self.on_progress)

        def step(layers: tuple[str, ...], error: float) -> Restored:
            self.on_progress("restoring layers", len(layers), 0)
            folder = restore.write_restored(self.backend, quantised, layers, self.work)
            return Restored(layers[-1], error, self.find(folder), self.speed(folder))

        return restore.restore_until(
            order,
            most=self.options.most_restored,
            step=step,
            enough=lambda done: judge(done.finding, self.options.gate).within,
        )

    def speed(self, folder: Path) -> Speed:
        """Against the parent, on one of the calibration pictures."""
        feeds = self.pictures.feed(self.pictures.files[0])
        return measure.speed(self.before, self.graph(folder), feeds, self.work, self.on_progress)

    def report(
        self,
        folder: Path,
        candidates: Sequence[Candidate],
        best: Candidate,
        steps: tuple[Restored, ...],
        finding: Finding,
    ) -> QuantiseReport:
        """All of it, for a person and for programs."""
        left = len(self.backend.layers(folder, self.work))
        with measure.opened(self.graph(folder)) as engine:
            ran = {"engine": engine.name, "device": engine.device, "precision": engine.precision}
        return QuantiseReport(
            to=self.options.to,
            parent={"name": self.parent.manifest.name, "digest": self.parent.digest},
            engine=ran,
            gate=self.options.gate,
            judged_on=f"{self.judged_by.pictures.source}, {finding.images} pictures",
            calibration=self.given.calibration,
            head=self.head.nodes,
            candidates=tuple(candidates),
            recipe=best.recipe,
            restored=steps,
            quantised=left,
            convolutions=best.quantised,
            finding=finding,
            verdict=judge(finding, self.options.gate),
            speed=self.speed(folder) if self.backend.deployed_here else None,
            notes=self.notes(folder, candidates, steps),
            skipped=self.given.skipped,
        )

    def notes(
        self, folder: Path, candidates: Sequence[Candidate], steps: tuple[Restored, ...]
    ) -> tuple[str, ...]:
        """What a reader of the figures should know."""
        notes = []
        if len(candidates) > 1 or steps:
            notes.append(
                f"{len(candidates) + len(steps)} graphs were compared on the pictures that the "
                "verdict is about: the drop of the one that was kept is a little flattered"
            )
        if self.judged_by.metric == "agreement":
            notes.append("judged without labels: whether the parent is right is not looked at")
        if not self.backend.deployed_here:
            notes.append(
                f"compared in {self.backend.engine} on this CPU; speed and accuracy on a GPU "
                "were not measured"
            )
            notes.append(self.backend.accepted(folder))
        return tuple(notes)


def best_of(candidates: Sequence[Candidate], gate: Gate) -> Candidate:
    """The candidate that is kept.

    One that keeps the gate goes before one that does not. Those whose drop is within the gate of
    the smallest count as equal, since that much is allowed to be lost; of them, the one whose
    confidences move least.
    """
    sound = [one for one in candidates if judge(one.finding, gate).within] or candidates
    least = min(one.finding.drop for one in sound)
    equal = [one for one in sound if one.finding.drop <= least + gate.drop]
    return min(
        equal,
        key=lambda one: (
            float("inf") if (shift := one.finding.mean_abs_shift) is None else shift,
            one.finding.drop,
        ),
    )


def _format_of(parent: Artifact, backend: Backend) -> str:
    return backend.format if backend.format in parent.manifest.formats else "onnx"
