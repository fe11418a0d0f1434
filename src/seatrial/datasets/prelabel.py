"""Labels drawn by a bigger model in a video or in images, for people to correct.

In a video, objects are tracked from frame to frame: a detection of low confidence on a track
counts, a gap between two detections is filled, and a track of very few detections is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import msgspec
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from seatrial.datasets import coco, label_studio
from seatrial.datasets.coco_files import USUAL_NAMES
from seatrial.datasets.labels import (
    Category,
    Details,
    LabelledImage,
    LabelledSet,
    Truth,
)
from seatrial.deployment import Thresholds
from seatrial.detect.classes import before_filter, class_ids, of_classes
from seatrial.detect.decode import as_served
from seatrial.detect.detections import Detections
from seatrial.detect.detector import MAX_PIXELS, Detected
from seatrial.detect.in_order import in_order
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from seatrial.progress import Progress, silent
from seatrial.report.numbers import counted
from seatrial.system.files import read_bytes, staged_folder
from seatrial.system.images import foreign_reason, image_files
from seatrial.video.history import TrackHistory
from seatrial.video.sources import SUFFIXES as VIDEO_SUFFIXES
from seatrial.video.sources import video_frames
from seatrial.video.tracker import ByteTracker

JPEG_QUALITY = 95
IOU = 0.7
SMALLEST_PX = 2.0
DETECTED, WEAK, INTERPOLATED = "detected", "weak", "interpolated"


@dataclass(frozen=True, kw_only=True)
class PrelabelOptions:
    """How labels are drawn.

    Attributes:
        confidence: Least confidence of a detection that becomes a label or starts a track, 0-1.
        weakest: Least confidence of a detection that continues a track, 0-1.
        every: Keep one of so many frames of a video as an image; a multiple of --detect-every.
        detect_every: Detect in one of so many frames; more is faster, and tracks break sooner.
        track: Track objects [default: in a video yes, in a folder no].
        longest_gap_s: Longest gap in a track that is filled, seconds; in a folder, images.
        shortest: Least number of detections of a track.
        classes: Names of the classes to label [default: all]; repeat the option.
    """

    confidence: float = 0.35
    weakest: float = 0.1
    every: int = 10
    detect_every: int = 1
    track: bool | None = None
    longest_gap_s: float = 1.0
    shortest: int = 3
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.weakest <= self.confidence <= 1:
            raise InvalidConfig(
                f"--weakest {self.weakest:g}, --confidence {self.confidence:g}: wanted is "
                "0 < weakest <= confidence <= 1"
            )
        if self.every < 1 or self.detect_every < 1 or self.every % self.detect_every:
            raise InvalidConfig(
                f"--every {self.every} is not a multiple of --detect-every {self.detect_every}",
                hint="only frames with detections can be kept",
            )
        if self.longest_gap_s < 0 or self.shortest < 1:
            raise InvalidConfig("--longest-gap-s must be 0 or more, --shortest 1 or more")


@dataclass(frozen=True, slots=True)
class Teacher:
    """The model that draws the labels.

    Attributes:
        name: Name of the artifact.
        labels: Class names.
        detect: Takes an encoded image, gives its detections; thread-safe.
        concurrency: Number of images to detect in at a time.
    """

    name: str
    labels: tuple[str, ...]
    detect: Callable[[bytes, Thresholds], Detected]
    concurrency: int


class Prelabelled(msgspec.Struct, frozen=True):
    """Folder and figures of the labels that were written.

    Attributes:
        folder: The new dataset.
        looked_at: Number of frames or images that the teacher got.
        images: Number of images written.
        tracks: Number of tracks; None where nothing was tracked.
        origins: Number of boxes that were detected, weak on a track, or interpolated.
        classes: Class name -> number of boxes.
        skipped: Images that could not be read or decoded, and why.
        notes: What was done to some images, one sentence each.
    """

    folder: str
    looked_at: int
    images: int
    tracks: int | None
    origins: dict[str, int]
    classes: dict[str, int]
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Still:
    """An encoded frame or image.

    Attributes:
        name: File name that it gets.
        data: The encoded image.
        kept: Whether it is written.
        total: Number of stills, as far as known; 0 where it is not.
        rate_hz: Stills in a second; 1 for images of a folder, whose gaps are counted in images.
    """

    name: str
    data: bytes
    kept: bool
    total: int
    rate_hz: float


@dataclass(frozen=True, slots=True)
class _DetectedStill:
    """A still after detection; ``size`` is its upright width and height, pixels."""

    name: str
    kept: bool
    rate_hz: float
    size: tuple[int, int]
    detections: Detections


def prelabel(
    source: Path,
    folder: Path,
    teacher: Teacher,
    options: PrelabelOptions,
    on_progress: Progress = silent,
) -> Prelabelled:
    """Write images and labels for review, in the formats of COCO and of Label Studio.

    Args:
        source: A video, or a folder of images (with tracks: frames in the order of their names).
        folder: New or empty. It appears whole or not at all.
        teacher: The model.
        options: How labels are drawn.
        on_progress: Called after each image.

    Raises:
        InvalidInput: The video cannot be read, or the folder holds files.
        InvalidDataset: There are no images.
        InvalidConfig: The teacher does not know one of the classes.
        NotWritable: The folder cannot be written.
        MissingExtra: The extra ``video`` is not installed.
    """
    tracked = source.is_file() if options.track is None else options.track
    wanted = class_ids(teacher.labels, options.classes) or range(len(teacher.labels))
    with staged_folder(folder) as staged:
        (staged / "images").mkdir()
        skipped: list[str] = []
        stills = (
            _video_stills(source, options) if source.is_file() else _folder_stills(source, skipped)
        )
        lowest = options.weakest if tracked else options.confidence
        thresholds = Thresholds(confidence=lowest, iou=IOU)
        most = thresholds.max_detections
        found: list[_DetectedStill] = []
        odd: Counter[str] = Counter()
        for still, result in _detect(stills, teacher, before_filter(thresholds, options.classes)):
            if isinstance(result, InvalidInput):
                skipped.append(f"{still.name}: {result.message}")
                continue
            if still.kept:
                place = staged / "images" / still.name
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as file:  # never over another image
                    file.write(still.data)
            odd.update(result.warnings)
            height, width = result.image.shape[:2]
            own = of_classes(result.detections, wanted, most)
            found.append(
                _DetectedStill(still.name, still.kept, still.rate_hz, (width, height), own)
            )
            on_progress("detecting", len(found), still.total)
        if not found:
            raise InvalidDataset(f"{source} has no image that can be decoded: {skipped[0]}")
        if tracked:
            boxes, tracks = _tracked(found, options)
        else:
            boxes, tracks = (
                [(one.detections, np.zeros(len(one.detections), bool)) for one in found],
                None,
            )
        labelled = _labelled(found, boxes, teacher.labels, options.confidence)
        note = {"description": f"labels by {teacher.name}, not checked by anybody"}
        (staged / USUAL_NAMES[0]).write_bytes(coco.encode(labelled, note))
        label_studio.write(staged, labelled, teacher.name, folder.absolute().name)
    objects = labelled.details.objects if labelled.details else ()
    return Prelabelled(
        folder=str(folder),
        looked_at=len(found),
        images=len(labelled.images),
        tracks=tracks,
        origins=dict(Counter(str(row["origin"]) for row in objects)),
        classes={name: number for name, number in labelled.counts().items() if number},
        skipped=tuple(skipped),
        notes=tuple(
            f"{counted(number, 'image')}: each {warning}" for warning, number in odd.items()
        ),
    )


def _video_stills(source: Path, options: PrelabelOptions) -> Iterator[_Still]:
    for frame in video_frames(source):
        if frame.number % options.detect_every == 0:
            # The model gets the same JPEG that is written, with the same artefacts.
            yield _Still(
                name=f"{source.stem}-{frame.number:06d}.jpg",
                data=bytes(simplejpeg.encode_jpeg(frame.rgb(), quality=JPEG_QUALITY)),
                kept=frame.number % options.every == 0,
                total=-(-frame.announced // options.detect_every),
                rate_hz=frame.rate_hz / options.detect_every,
            )


def _folder_stills(source: Path, skipped: list[str]) -> Iterator[_Still]:
    """The images of a folder, with their names below it; what cannot be read goes to `skipped`."""
    found = image_files(source)
    if not found:
        videos = ", ".join(sorted(VIDEO_SUFFIXES))
        there = "is neither a file nor a folder" if source.exists() else "does not exist"
        what = "holds no images" if source.is_dir() else there
        raise InvalidDataset(
            f"{source} {what}", hint=f"give a folder of JPEG, PNG or WebP, or a video ({videos})"
        )
    taken = {str(path.relative_to(source)) for path in found}
    for path in found:
        name = str(path.relative_to(source))
        try:
            data = read_bytes(path)
            served = as_served(data, max_pixels=MAX_PIXELS)
        except InvalidInput as error:
            skipped.append(f"{name}: {foreign_reason(path) or error.message}")
            continue
        if served is not data:  # reviewers' tools show PNG, and not every other format
            name = _free_name(name, taken)
        yield _Still(name, served, kept=True, total=len(found), rate_hz=1.0)


def _free_name(name: str, taken: set[str]) -> str:
    """The name with the suffix ``.png``, or added to it where another image has that name."""
    free = str(PurePath(name).with_suffix(".png"))
    while free in taken:
        name = free = f"{name}.png"
    taken.add(free)
    return free


def _detect(
    stills: Iterable[_Still], teacher: Teacher, thresholds: Thresholds
) -> Iterator[tuple[_Still, Detected | InvalidInput]]:
    """Results in the order of the stills; a few are computed at a time."""

    def detect(still: _Still) -> Detected | InvalidInput:
        try:
            return teacher.detect(still.data, thresholds)
        except InvalidInput as error:  # a damaged image
            return error

    yield from in_order(stills, detect, concurrency=teacher.concurrency)


Boxes = tuple[Detections, NDArray[np.bool_]]
"""The boxes of one still, and (N,) bool: whether each was interpolated."""


def _tracked(found: Sequence[_DetectedStill], options: PrelabelOptions) -> tuple[list[Boxes], int]:
    """Boxes on tracks, still by still, and the number of tracks."""
    gap = round(options.longest_gap_s * found[0].rate_hz)
    tracker = ByteTracker(confidence=options.confidence, patience=gap)
    history = TrackHistory()
    for number, still in enumerate(found):
        history.add(number, tracker.update(still.detections))
    table = history.filled(longest_gap=gap, shortest=options.shortest)
    boxes: list[Boxes] = []
    for number in range(len(found)):
        own = table.frame == number
        boxes.append((table.detections[own], table.interpolated[own]))
    return boxes, table.tracks


def _labelled(
    found: Sequence[_DetectedStill],
    boxes: Sequence[Boxes],
    labels: Sequence[str],
    confidence: float,
) -> LabelledSet:
    """The stills that are kept, their boxes clipped to them, and the classes that occur."""
    images: list[LabelledImage] = []
    image, category, xywh, extras = [], [], [], []  # a row for each object
    for still, (detections, interpolated) in zip(found, boxes, strict=True):
        if not still.kept:
            continue
        images.append(LabelledImage(len(images) + 1, still.name, Path(still.name), *still.size))
        limits = [*still.size, *still.size]
        for row in np.argsort(-detections.score, kind="stable").tolist():
            corners = np.clip(detections.xyxy[row].astype(np.float64), 0, limits).round(2)
            left, top, right, bottom = corners.tolist()
            width, height = round(right - left, 2), round(bottom - top, 2)
            if min(width, height) < SMALLEST_PX:
                continue
            origin = DETECTED if detections.score[row] >= confidence else WEAK
            extra = {
                "score": round(float(detections.score[row]), 4),
                "origin": INTERPOLATED if interpolated[row] else origin,
            }
            if detections.track_id is not None:
                extra["track_id"] = int(detections.track_id[row])
            image.append(len(images) - 1)
            category.append(int(detections.class_id[row]))
            xywh.append([left, top, width, height])
            extras.append(extra)
    present, index = np.unique(np.array(category, np.int64), return_inverse=True)
    return LabelledSet(
        source="prelabelled",
        images=tuple(images),
        categories=tuple(Category(n, labels[c]) for n, c in enumerate(present.tolist(), 1)),
        truth=Truth.of(image, index, xywh),
        details=Details(tuple({} for _ in images), tuple(extras), {}),
    )
