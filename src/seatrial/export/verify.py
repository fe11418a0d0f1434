"""The same real pictures through parent and child."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.accuracy.bootstrap import paired_bootstrap
from seatrial.accuracy.compare import BoxAgreement, box_agreement, choose_floor
from seatrial.accuracy.evaluate import evaluate
from seatrial.accuracy.matching import Matches
from seatrial.accuracy.predict import EVALUATION, InProcess
from seatrial.artifact import Artifact, Manifest
from seatrial.datasets.labels import LabelledSet
from seatrial.deployment import Thresholds
from seatrial.detect.decode import decode
from seatrial.detect.detections import Detections
from seatrial.detect.detector import MAX_PIXELS, Detector
from seatrial.detect.families.base import Family
from seatrial.detect.families.registry import family_class, family_of
from seatrial.detect.preprocess import Letterbox, fit
from seatrial.engines.base import Engine
from seatrial.errors import InvalidArtifact, InvalidDataset, InvalidInput
from seatrial.export.output_errors import output_errors
from seatrial.export.report import ROWS_WITHIN, WIDEST, Accuracy, OutputError, Tolerance
from seatrial.graphs.probes import Probe

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MOST_PICTURES = 16
TOGETHER = 4  # pictures of one batch, of different sizes where there are any
GREY_LEVELS = 2  # less than a JPEG file of a picture changes it by
LOW = Thresholds(confidence=0.0, iou=0.7, max_detections=300)


@dataclass(frozen=True, slots=True)
class Seen:
    """One side's answers: raw outputs and boxes of every picture."""

    feeds: list[dict[str, NDArray[Any]]]
    outputs: list[dict[str, NDArray[Any]]]
    detections: list[Detections]


@dataclass(frozen=True, slots=True)
class Answers:
    """A parent's answers, kept for further exports that are proven on the same pictures.

    Attributes:
        seen: By digest and canvas of the parent.
        matches: On the labelled pictures; by digest, canvas and whether a box may have several
            labels.
    """

    seen: dict[Hashable, Seen] = field(default_factory=dict)
    matches: dict[Hashable, Matches] = field(default_factory=dict)


def read_pictures(folder: Path, limit: int = MOST_PICTURES) -> list[NDArray[np.uint8]]:
    """Pictures to compare on, spread over the folder.

    Args:
        folder: JPEG, PNG and WebP files, in it or below.
        limit: Most of them.

    Returns:
        (H, W, 3) uint8 RGB each.

    Raises:
        InvalidDataset: No such folder, no pictures in it, or one that cannot be decoded.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InvalidDataset(f"{folder} {what}", hint="give a folder of pictures: --images FOLDER")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise InvalidDataset(
            f"{folder} holds no pictures", hint="give a folder of JPEG, PNG or WebP files"
        )
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, min(limit, len(files))).astype(int)]
    pictures = []
    for file in chosen:
        try:
            pictures.append(decode(file.read_bytes(), max_pixels=MAX_PIXELS))
        except InvalidInput as error:
            raise InvalidDataset(
                f"{file}: {error.message}", hint="replace the picture, or take it out of the folder"
            ) from error
        except OSError as error:
            raise InvalidDataset(f"{file} cannot be read: {error.strerror}") from error
    return pictures


def look(
    manifest: Manifest,
    engine: Engine,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    grey_levels: int = 0,
) -> Seen:
    """Run an engine on pictures one by one.

    Args:
        manifest: Of what the engine runs.
        engine: Answers by its first narrow lane.
        pictures: (H, W, 3) uint8 RGB each.
        grey_levels: Every value of a canvas is moved by this at most, up or down, by chance.

    Raises:
        InvalidArtifact: An output holds no numbers.
    """
    family = family_of(manifest)
    seen = Seen([], [], [])
    chance = np.random.default_rng(0)
    for picture in pictures:
        feeds, canvas = _feeds(manifest, family, picture)
        image = feeds[manifest.inputs[0].name]
        moved = image + chance.integers(-grey_levels, grey_levels + 1, image.shape)
        feeds[manifest.inputs[0].name] = np.clip(moved, 0, 255).astype(np.uint8)
        raw = engine.narrow[0].infer(feeds)
        outputs = {name: np.array(raw[name]) for name in (s.name for s in manifest.outputs)}
        for name, value in outputs.items():
            if not np.isfinite(value).all():
                raise InvalidArtifact(
                    f"{manifest.name} on {engine.name} ({engine.precision}) gives values in "
                    f"{name} that are no numbers",
                    hint="weights that are no numbers, or an overflow of half precision",
                )
        seen.feeds.append(feeds)
        seen.outputs.append(outputs)
        seen.detections.append(family.detections(outputs, canvas, LOW))
    return seen


def _feeds(
    manifest: Manifest, family: Family, picture: NDArray[np.uint8]
) -> tuple[dict[str, NDArray[Any]], Letterbox]:
    batch, canvas = fit(picture, manifest.preprocessing)
    return {manifest.inputs[0].name: batch, **family.feeds(canvas)}, canvas


def is_ordered(manifest: Manifest) -> bool:
    """Whether the rows of the outputs have fixed places."""
    return manifest.variant not in family_class(manifest.family).unordered


def batch_errors(
    manifest: Manifest, probe: Probe, seen: Seen, limit: float
) -> tuple[OutputError, ...]:
    """Several pictures at once against the same one by one.

    Graphs whose batch size was meant to be open, and was taken for a constant in some corner,
    answer right for one picture and wrong for four.
    """
    feeds = seen.feeds[:TOGETHER]
    together = {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}
    names = [spec.name for spec in manifest.outputs]
    try:
        outputs = probe.values(names, together)
        found = [{n: outputs[n][i : i + 1] for n in names} for i in range(len(feeds))]
        if any(len(outputs[n]) != len(feeds) for n in names):
            raise ValueError(f"{len(feeds)} pictures gave {[len(outputs[n]) for n in names]}")
    except Exception as error:  # runtimes refuse a batch with errors of their own
        raise InvalidArtifact(
            f"the graph of {manifest.name} does not take {len(feeds)} pictures at once: "
            f"{str(error)[:300]}",
            hint="leave out --dynamic-batch",
        ) from error
    return output_errors(
        seen.outputs[: len(feeds)], found, ordered=is_ordered(manifest), limit=limit
    )


def boxes(parent: Seen, child: Seen) -> BoxAgreement:
    """Match the boxes of both sides.

    Raises:
        InvalidDataset: The parent sees nothing at all.
    """
    floor = choose_floor(parent.detections)
    found = box_agreement(parent.detections, child.detections, floor)
    if not found.parent:
        raise InvalidDataset(
            "the parent sees nothing on any of the pictures: there is nothing to compare",
            hint="give pictures of what the model detects",
        )
    return found


def detect(
    manifest: Manifest, engine: Engine, labelled: LabelledSet, *, multi_label: bool
) -> Matches:
    """Detections on labelled pictures against their labels, by the code that serves."""
    detector = Detector(Artifact(Path(), manifest, ""), engine)
    rules = msgspec.structs.replace(EVALUATION, multi_label=multi_label)
    return evaluate(InProcess(detector), labelled, rules=rules, unmatched="ignore").matches


def accuracy(parent: Matches, child: Matches) -> Accuracy:
    """AP of both, and how sure their difference is."""
    ap = paired_bootstrap(parent, child)
    return Accuracy(ap.images, ap.a, ap.b, ap.difference, ap.low, ap.high)


def widen(tolerance: Tolerance, restless: BoxAgreement) -> Tolerance:
    """Allow boxes to be as far apart as the parent's own are when its pictures hardly change."""
    return msgspec.structs.replace(
        tolerance,
        iou=max(WIDEST.iou, min(tolerance.iou, restless.iou_mean or 0.0)),
        shift=min(WIDEST.shift, max(tolerance.shift, restless.shift_mean_abs or 0.0)),
        unmatched=min(
            WIDEST.unmatched, max(tolerance.unmatched, 1 - restless.matched / restless.parent)
        ),
    )


def judge(
    tolerance: Tolerance,
    outputs: Sequence[OutputError],
    batch: Sequence[OutputError],
    found: BoxAgreement,
    measured: Accuracy | None,
) -> tuple[str, ...]:
    """What is out of tolerance, in words."""
    failures = []
    for kind, errors in (("", outputs), (" of a batch", batch)):
        if tolerance.output is None:
            break
        for one in errors:
            wanted = 1.0 if one.ordered else ROWS_WITHIN
            if one.within < wanted:
                failures.append(
                    f"output {one.name}{kind}: only {one.within:.2%} within {tolerance.output:g}, "
                    f"worst {one.worst:.4g} where values reach {one.scale:.4g}"
                )
    lost = 1 - found.matched / found.parent
    if lost > tolerance.unmatched:
        failures.append(
            f"{found.parent - found.matched} of {found.parent} boxes have no partner ({lost:.1%}, "
            f"allowed {tolerance.unmatched:.1%})"
        )
    if found.iou_mean is not None and found.iou_mean < tolerance.iou:
        failures.append(f"mean IoU of boxes {found.iou_mean:.4f}, allowed {tolerance.iou:.4g}")
    if found.shift_mean_abs is not None and found.shift_mean_abs > tolerance.shift:
        failures.append(
            f"mean shift of confidence {found.shift_mean_abs:.4f}, allowed {tolerance.shift:.4g}"
        )
    if measured is not None and abs(measured.difference) > tolerance.ap:
        failures.append(
            f"AP {measured.parent:.4f} became {measured.child:.4f} "
            f"({measured.difference:+.4f}, allowed {tolerance.ap:g})"
        )
    return tuple(failures)
