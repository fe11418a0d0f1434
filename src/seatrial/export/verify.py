"""Comparison of an export with its parent on the same real images, and the verdict."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.bootstrap import Difference, difference
from seatrial.accuracy.compare import BoxSet, Comparison, compare
from seatrial.accuracy.evaluate import evaluate
from seatrial.accuracy.limits import LIMITS
from seatrial.accuracy.matching import Predictions
from seatrial.accuracy.predict import EVALUATION, InProcess
from seatrial.artifact import Artifact
from seatrial.datasets.labels import LabelledSet
from seatrial.detect.decode import read_image
from seatrial.detect.detections import Detections
from seatrial.detect.detector import MAX_PIXELS, Detector
from seatrial.detect.families.registry import family_class, family_of
from seatrial.detect.preprocess import fit
from seatrial.engines.base import Engine
from seatrial.errors import InvalidArtifact, InvalidDataset, first_line
from seatrial.export.formats import Written
from seatrial.export.options import ExportOptions
from seatrial.export.output_errors import output_errors
from seatrial.export.parent import Parent
from seatrial.export.report import ComparedSide, ExportReport, OutputError
from seatrial.export.tolerances import OUTPUT_ERROR, OUTPUTS_JUDGED, rows, widened
from seatrial.gate import judge
from seatrial.graphs import first_difference
from seatrial.graphs.first_difference import FirstDifference
from seatrial.graphs.probes import Probe
from seatrial.manifest import Manifest
from seatrial.progress import Progress
from seatrial.system.files import check_folder
from seatrial.system.images import image_files

MOST_IMAGES = 16
TOGETHER = 4  # images of one batch, of different sizes where there are any
GREY_LEVELS = 2  # less than a JPEG file of an image changes it by
SAMPLES, SEED = 1000, 0  # draws of the bootstrap


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one side: inputs, raw outputs and boxes of every image."""

    feeds: list[dict[str, NDArray[Any]]]
    outputs: list[dict[str, NDArray[Any]]]
    detections: list[Detections]

    def boxes(self, manifest: Manifest) -> BoxSet:
        """The boxes for a comparison."""
        found = Predictions.of(self.detections)
        return BoxSet(found, images=len(self.detections), categories=len(manifest.labels))


@dataclass(frozen=True, slots=True)
class ParentAnswers:
    """A parent's answers, kept for further exports that are compared on the same images.

    Attributes:
        images: Answers by the parent's digest, its canvas, and whether boxes have several labels.
        labelled: Boxes on the labelled images, by the same key.
    """

    images: dict[Hashable, Answers] = field(default_factory=dict)
    labelled: dict[Hashable, BoxSet] = field(default_factory=dict)


def verify(
    artifact: Artifact,
    parent: Parent,
    written: Written,
    child: Engine,
    images: Sequence[NDArray[np.uint8]],
    labelled: LabelledSet | None,
    options: ExportOptions,
    *,
    known: ParentAnswers,
    on_progress: Progress,
) -> ExportReport:
    """The report of an export: it is compared with its parent, and judged.

    Args:
        artifact: The parent's artifact.
        parent: Graph and engine of the parent.
        written: The export.
        child: Engine that runs the export.
        images: From `read_images`.
        labelled: Labelled images that AP is compared on.
        options: See `ExportOptions`.
        known: Answers of parents to earlier exports; this parent's are added.
        on_progress: Called with each step.

    Raises:
        InvalidArtifact: An output is not finite, or the graph does not take a batch.
        InvalidDataset: The parent detects nothing at all, or the labels do not match.
    """
    precision = "int8" if artifact.manifest.precision == "int8" else options.precision
    limits, strict = LIMITS[precision], precision in OUTPUTS_JUDGED
    # With NMS in the graph a box has one class: its parent's boxes are decoded in the same way.
    several = not options.fuse_nms
    key = (artifact.digest, options.imgsz, several)

    # The same images through both.
    on_progress(f"comparing {len(images)} images")
    if key not in known.images:
        known.images[key] = answer(parent.manifest, parent.engine, images, multi_label=several)
    before = known.images[key]
    after = answer(written.manifest, child, images, multi_label=several)
    outputs, batch = _raw_errors(parent, written, before, after, options)
    boxes = compare(after.boxes(written.manifest), before.boxes(parent.manifest))
    if not boxes.parent_boxes:
        raise InvalidDataset(
            "the parent sees nothing on any of the images: there is nothing to compare",
            hint="give images of what the model detects",
        )
    accuracy = None
    if labelled is not None:
        accuracy = _accuracy(parent, written, child, labelled, key, known, on_progress)
    # The gate; where boxes are out of tolerance, as wide as the parent's own noise.
    measured = partial(
        rows,
        outputs=outputs if strict else (),
        batch=batch if strict else (),
        boxes=boxes,
        accuracy=accuracy,
    )
    verdict = judge(measured(limits), name="the export")
    noise: Comparison | None = None
    if verdict.outcome == "fails" and not strict:
        on_progress("measuring the noise of the parent")
        noise = _noise(parent, images, before, multi_label=several)
        verdict = judge(measured(widened(limits, noise)), name="the export")
    first: FirstDifference | None = None
    notes: tuple[str, ...] = ()
    if verdict.outcome == "fails":
        on_progress("searching for the first layer that differs")
        first, notes = _first_difference(parent, written, after.feeds[0], precision)
    return ExportReport(
        options=options.config(),
        parent=_side(artifact.manifest.name, artifact.digest, parent.engine),
        child=_side(written.manifest.name, "", child),
        images=len(images),
        outputs=outputs,
        batch=batch,
        boxes=boxes,
        accuracy=accuracy,
        verdict=verdict,
        first_difference=first,
        tensorrt=written.trial(),
        parent_noise=noise,
        notes=notes,
    )


def read_images(folder: Path, limit: int = MOST_IMAGES) -> list[NDArray[np.uint8]]:
    """Images to compare on, spread over a folder.

    Args:
        folder: JPEG, PNG and WebP files, in it or below.
        limit: Largest number of images.

    Returns:
        (H, W, 3) uint8 RGB each.

    Raises:
        InvalidDataset: No such folder, no images in it, or one that cannot be decoded.
    """
    hint = "replace the image, or take it out of the folder"
    return [
        read_image(file, max_pixels=MAX_PIXELS, hint=hint) for file in compared_files(folder, limit)
    ]


def compared_files(folder: Path, limit: int = MOST_IMAGES) -> list[Path]:
    """The files that `read_images` reads; it has the arguments and the errors."""
    check_folder(folder, hint="give a folder of images: --images FOLDER")
    files = image_files(folder, foreign=False)
    if not files:
        raise InvalidDataset(
            f"{folder} holds no images", hint="give a folder of JPEG, PNG or WebP files"
        )
    places = np.linspace(0, len(files) - 1, min(limit, len(files))).astype(int)
    return [files[n] for n in places]


def answer(
    manifest: Manifest,
    engine: Engine,
    images: Sequence[NDArray[np.uint8]],
    *,
    multi_label: bool,
    grey_levels: int = 0,
) -> Answers:
    """Run an engine on images one by one, by the rules of an evaluation.

    Args:
        manifest: Manifest of the graph that the engine runs.
        engine: Answers by its first narrow lane.
        images: (H, W, 3) uint8 RGB each.
        multi_label: Whether a box may have several labels.
        grey_levels: Every value of a canvas is moved by this at most, up or down, at random.

    Raises:
        InvalidArtifact: An output is not finite.
    """
    family = family_of(manifest)
    rules = msgspec.structs.replace(EVALUATION, multi_label=multi_label)
    found = Answers([], [], [])
    chance = np.random.default_rng(0)
    name = manifest.inputs[0].name
    for image in images:
        canvas, letterbox = fit(image, manifest.preprocessing)
        if grey_levels:
            moved = canvas + chance.integers(-grey_levels, grey_levels + 1, canvas.shape)
            canvas = np.clip(moved, 0, 255).astype(np.uint8)
        feeds = {name: canvas, **family.feeds(letterbox)}
        raw = engine.narrow[0].infer(feeds)
        outputs = {spec.name: np.array(raw[spec.name]) for spec in manifest.outputs}
        for output, value in outputs.items():
            if not np.isfinite(value).all():
                raise InvalidArtifact(
                    f"{manifest.name} on {engine.name} ({engine.precision}) gives values in "
                    f"{output} that are not numbers",
                    hint="weights that are not numbers, or an overflow of half precision",
                )
        found.feeds.append(feeds)
        found.outputs.append(outputs)
        found.detections.append(family.detections(outputs, letterbox, rules))
    return found


def batch_errors(
    manifest: Manifest, probe: Probe, answers: Answers, *, ordered: bool
) -> tuple[OutputError, ...]:
    """Errors of several images at once against the same one by one.

    A graph that treats the batch size as a constant somewhere is right for one image and wrong for
    four.

    Args:
        manifest: Manifest of the graph.
        probe: Runs the graph on a batch.
        answers: Answers of the same graph one by one.
        ordered: See `output_errors`.

    Raises:
        InvalidArtifact: The graph does not take a batch.
    """
    count = min(TOGETHER, len(answers.feeds))
    feeds = answers.feeds[:count]
    together = {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}
    names = [spec.name for spec in manifest.outputs]
    try:
        outputs = probe.values(names, together)
        sizes = [len(outputs[name]) for name in names]
        if any(size != count for size in sizes):
            raise ValueError(f"{count} images gave {sizes}")
    except Exception as error:  # runtimes refuse a batch with errors of their own
        raise InvalidArtifact(
            f"the graph of {manifest.name} does not take {count} images at once: "
            f"{str(error)[:300]}",
            hint="leave out --dynamic-batch",
        ) from error
    single = [{name: outputs[name][i : i + 1] for name in names} for i in range(count)]
    return output_errors(answers.outputs[:count], single, ordered=ordered, limit=OUTPUT_ERROR)


def _raw_errors(
    parent: Parent, written: Written, before: Answers, after: Answers, options: ExportOptions
) -> tuple[tuple[OutputError, ...], tuple[OutputError, ...]]:
    """Errors of raw outputs image by image, and of a batch; empty where there is no comparison."""
    manifest = parent.manifest
    ordered = manifest.variant not in family_class(manifest.family).unordered
    outputs: tuple[OutputError, ...] = ()
    if not options.fuse_nms:  # a fused graph has other outputs than its parent
        outputs = output_errors(before.outputs, after.outputs, ordered=ordered, limit=OUTPUT_ERROR)
    batch: tuple[OutputError, ...] = ()
    if options.dynamic_batch and (probe := written.probe()) is not None:
        batch = batch_errors(written.manifest, probe, after, ordered=ordered)
    return outputs, batch


def _accuracy(
    parent: Parent,
    written: Written,
    child: Engine,
    labelled: LabelledSet,
    key: tuple[str, tuple[int, int] | None, bool],
    known: ParentAnswers,
    on_progress: Progress,
) -> Difference:
    """The difference in AP on the labelled images, with its interval."""
    several = key[-1]
    sides = "the child" if key in known.labelled else "parent and child"
    on_progress(f"measuring the accuracy of {sides} on {len(labelled.images)} images")
    if key not in known.labelled:
        known.labelled[key] = _labelled_boxes(parent.manifest, parent.engine, labelled, several)
    before, after = known.labelled[key], _labelled_boxes(written.manifest, child, labelled, several)
    return difference(before.resampled(SAMPLES, SEED), after.resampled(SAMPLES, SEED))


def _noise(
    parent: Parent, images: Sequence[NDArray[np.uint8]], before: Answers, *, multi_label: bool
) -> Comparison:
    """The parent's boxes against its own boxes on images moved by `GREY_LEVELS`."""
    moved = answer(
        parent.manifest, parent.engine, images, multi_label=multi_label, grey_levels=GREY_LEVELS
    )
    return compare(moved.boxes(parent.manifest), before.boxes(parent.manifest))


def _labelled_boxes(
    manifest: Manifest, engine: Engine, labelled: LabelledSet, multi_label: bool
) -> BoxSet:
    """Boxes on the labelled images, by the code that serves."""
    detector = Detector(Artifact(Path(), manifest, ""), engine)
    rules = msgspec.structs.replace(EVALUATION, multi_label=multi_label)
    return evaluate(InProcess(detector), labelled, rules=rules, unmatched="ignore").box_set


def _first_difference(
    parent: Parent, written: Written, feeds: dict[str, NDArray[Any]], precision: str
) -> tuple[FirstDifference | None, tuple[str, ...]]:
    """Where the graphs begin to differ; and a note where they cannot be compared."""
    probe = written.probe()
    if probe is None:
        return None, ("the layers of this format cannot be compared",)
    try:
        first = first_difference.find(
            parent.probe(),
            probe,
            feeds,
            limit=first_difference.LIMITS[precision],
            nodes={name: node for node in parent.graph.graph.node for name in node.output},
        )
    except Exception as error:  # noqa: BLE001  runtimes refuse inner tensors with any error
        return None, (f"the layers could not be compared: {first_line(error)}",)
    return first, ()


def _side(name: str, digest: str, engine: Engine) -> ComparedSide:
    version = engine.properties().get("version", "")
    return ComparedSide(name, digest, engine.name, engine.precision, version)
