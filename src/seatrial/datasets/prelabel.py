"""Draft labels: what a bigger model sees in a video or in pictures, for people to correct.

In a video, objects are followed from frame to frame: a weak detection on a track counts, a gap
between two detections is filled, and what flickers up once is dropped.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import simplejpeg

from seatrial.datasets import coco, label_studio
from seatrial.datasets.labels import (
    Category,
    Details,
    LabelledImage,
    LabelledSet,
    Truth,
    plain,
)
from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.detector import Detected
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from seatrial.progress import Progress, silent
from seatrial.system.files import staged_folder
from seatrial.system.images import image_files, is_foreign
from seatrial.video.sources import SUFFIXES as VIDEO_SUFFIXES
from seatrial.video.sources import video_frames
from seatrial.video.tracker import Tracker

JPEG_QUALITY = 95
IOU = 0.7
SMALLEST_PX = 2.0
DETECTED, WEAK, INTERPOLATED = "detected", "weak", "interpolated"

"""Called with the frames done and the frames in all."""


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How drafts are made.

    Attributes:
        confidence: Detections from here on are drafts, or begin a track.
        weakest: Detections from here on can go on with a track.
        every: One of so many frames of a video becomes a picture.
        detect_every: One of so many frames is looked at; `every` is a multiple.
        track: Follow objects; None for videos alone.
        longest_gap_s: Longest time without a detection that is filled, and that a track waits.
        shortest: Least detections that make a track.
        classes: Names of the classes that are wanted; all if empty.
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
            raise InvalidConfig("the confidences must be: 0 < weakest <= confidence <= 1")
        if self.every < 1 or self.detect_every < 1 or self.every % self.detect_every:
            raise InvalidConfig(
                f"--every {self.every} is not a multiple of --detect-every {self.detect_every}",
                hint="a picture that is kept has been looked at",
            )
        if self.longest_gap_s < 0 or self.shortest < 1:
            raise InvalidConfig("a track has a detection, and no negative gaps")


@dataclass(frozen=True, slots=True)
class Teacher:
    """The model that is asked.

    Attributes:
        name: Of the artifact.
        labels: Class names.
        detect: An encoded picture in, detections out; thread-safe.
        concurrency: Pictures worth having under way at a time.
    """

    name: str
    labels: tuple[str, ...]
    detect: Callable[[bytes, Thresholds], Detected]
    concurrency: int


class Prelabelled(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        looked_at: Frames or pictures that the teacher saw.
        images: Pictures written.
        tracks: Objects followed; None if none were.
        origins: How many boxes were detected, weak on a track, or interpolated.
        classes: Name and number of boxes.
        skipped: Pictures that could not be decoded.
    """

    folder: str
    looked_at: int
    images: int
    tracks: int | None
    origins: dict[str, int]
    classes: dict[str, int]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Still:
    """A picture that is looked at: encoded, and whether it is kept.

    Attributes:
        total: Pictures in all, as far as that is known.
        rate_hz: Of those that are looked at; 1 for pictures, whose gaps are told in pictures.
    """

    name: str
    data: bytes
    kept: bool
    total: int
    rate_hz: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the teacher said of a still; ``size`` is its upright width and height, pixels."""

    name: str
    kept: bool
    rate_hz: float
    size: tuple[int, int]
    detections: Detections


@dataclass(frozen=True, slots=True)
class _Draft:
    """A box. ``track`` is None where nothing was followed."""

    class_id: int
    xyxy: tuple[float, float, float, float]
    score: float
    origin: str
    track: int | None = None


def draft(
    source: Path,
    folder: Path,
    teacher: Teacher,
    rules: Rules,
    on_progress: Progress = silent,
) -> Prelabelled:
    """Write pictures and draft labels, for review in COCO's format and in Label Studio's.

    Args:
        source: A video, or a folder of pictures (with tracks: frames in the order of their names).
        folder: Not there, or empty. It appears whole or not at all.
        teacher: What is asked.
        rules: How drafts are made.
        on_progress: Told after each picture that was looked at.

    Raises:
        InvalidInput: The video cannot be read.
        InvalidDataset: There are no pictures, or the folder holds something.
        InvalidConfig: A class that the teacher does not know.
        NotWritable: The folder cannot be written.
        MissingExtra: The extra ``video`` is not installed.
    """
    tracked = source.is_file() if rules.track is None else rules.track
    with staged_folder(folder) as staged:
        (staged / "images").mkdir()
        seen, skipped = _gather(source, staged / "images", teacher, rules, tracked, on_progress)
        drafts, tracks = _followed(seen, rules) if tracked else (_as_detected(seen), None)
        labelled = _labelled(seen, drafts, teacher.labels)
        note = {"description": f"drafts by {teacher.name}, not checked by anybody"}
        (staged / coco.USUAL_NAMES[0]).write_bytes(coco.encode(labelled, note))
        label_studio.write(staged, labelled, teacher.name, folder.absolute().name)
    objects = labelled.details.objects if labelled.details else ()
    return Prelabelled(
        folder=str(folder),
        looked_at=len(seen),
        images=len(labelled.images),
        tracks=tracks,
        origins=dict(Counter(str(row["origin"]) for row in objects)),
        classes={name: number for name, number in labelled.counts().items() if number},
        skipped=tuple(skipped),
    )


def _gather(
    source: Path,
    images: Path,
    teacher: Teacher,
    rules: Rules,
    tracked: bool,
    on_progress: Progress,
) -> tuple[list[_Seen], list[str]]:
    """Look at everything and write the pictures that are kept; names those that are broken."""
    wanted = _wanted(teacher.labels, rules.classes)
    lowest = rules.weakest if tracked else rules.confidence
    stills = _video(source, rules) if source.is_file() else _pictures(source)
    seen: list[_Seen] = []
    skipped: list[str] = []
    for still, result in _looked_at(stills, teacher, Thresholds(confidence=lowest, iou=IOU)):
        if isinstance(result, InvalidInput):
            skipped.append(f"{still.name}: {result.message}")
            continue
        if still.kept:
            (images / still.name).write_bytes(still.data)
        height, width = result.image.shape[:2]
        detections = _only(result.detections, wanted)
        seen.append(_Seen(still.name, still.kept, still.rate_hz, (width, height), detections))
        on_progress("detecting", len(seen), still.total)
    if not seen:
        raise InvalidDataset(f"{source} has no picture that can be decoded: {skipped[0]}")
    return seen, skipped


def _wanted(labels: Sequence[str], classes: Sequence[str]) -> set[int]:
    if not classes:
        return set(range(len(labels)))
    numbers = {plain(label): number for number, label in enumerate(labels)}
    unknown = [name for name in classes if plain(name) not in numbers]
    if unknown:
        raise InvalidConfig(
            f"the model has no class {unknown[0]!r}", hint=f"it has: {', '.join(labels)}"
        )
    return {numbers[plain(name)] for name in classes}


def _only(detections: Detections, wanted: set[int]) -> Detections:
    kept = np.isin(detections.class_id, sorted(wanted))
    return Detections(detections.xyxy[kept], detections.score[kept], detections.class_id[kept])


def _video(source: Path, rules: Rules) -> Iterator[_Still]:
    for frame in video_frames(source):
        if frame.number % rules.detect_every == 0:
            # What is detected in is what is written, coding and all.
            data = simplejpeg.encode_jpeg(frame.rgb(), quality=JPEG_QUALITY)
            name = f"{source.stem}-{frame.number:06d}.jpg"
            total = -(-frame.announced // rules.detect_every)
            rate_hz = frame.rate_hz / rules.detect_every
            yield _Still(name, bytes(data), frame.number % rules.every == 0, total, rate_hz)


def _pictures(source: Path) -> Iterator[_Still]:
    found = [path for path in image_files(source) if not is_foreign(path)]
    if not found:
        hint = (
            f"give a folder of JPEG, PNG or WebP, or a video ({', '.join(sorted(VIDEO_SUFFIXES))})"
        )
        what = "holds no pictures" if source.is_dir() else "does not exist"
        raise InvalidDataset(f"{source} {what}", hint=hint)
    for path in found:
        name = str(path.relative_to(source)).replace("/", "_")
        yield _Still(name, path.read_bytes(), True, len(found), 1.0)


def _looked_at(
    stills: Iterable[_Still], teacher: Teacher, rules: Thresholds
) -> Iterator[tuple[_Still, Detected | InvalidInput]]:
    """Results in the order of the stills, a few at a time under way."""

    def look(still: _Still) -> Detected | InvalidInput:
        try:
            return teacher.detect(still.data, rules)
        except InvalidInput as error:  # a broken picture
            return error

    waiting: deque[tuple[_Still, Future[Detected | InvalidInput]]] = deque()
    with ThreadPoolExecutor(teacher.concurrency, "seatrial-draft") as pool:
        for still in stills:
            waiting.append((still, pool.submit(look, still)))
            if len(waiting) > teacher.concurrency:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _as_detected(seen: Sequence[_Seen]) -> dict[int, list[_Draft]]:
    drafts: dict[int, list[_Draft]] = {}
    for index, found in enumerate(one.detections for one in seen):
        rows = zip(found.class_id.tolist(), found.xyxy.tolist(), found.score.tolist(), strict=True)
        drafts[index] = [_Draft(c, (*xyxy,), score, DETECTED) for c, xyxy, score in rows]
    return drafts


def _followed(seen: Sequence[_Seen], rules: Rules) -> tuple[dict[int, list[_Draft]], int]:
    """Drafts by picture, and how many tracks they are of."""
    gap = round(rules.longest_gap_s * seen[0].rate_hz)
    tracker = Tracker(confidence=rules.confidence, patience=gap)
    for index, found in enumerate(seen):
        tracker.update(index, found.detections)
    tracks = [track for track in tracker.tracks if len(track.sightings) >= rules.shortest]
    drafts: dict[int, list[_Draft]] = defaultdict(list)
    for number, track in enumerate(tracks, 1):
        for one in track.filled(gap):
            origin = DETECTED if one.score >= rules.confidence else WEAK
            drafts[one.frame].append(
                _Draft(
                    track.class_id,
                    one.xyxy,
                    one.score,
                    origin if one.seen else INTERPOLATED,
                    number,
                )
            )
    return drafts, len(tracks)


def _labelled(
    seen: Sequence[_Seen],
    drafts: dict[int, list[_Draft]],
    labels: Sequence[str],
) -> LabelledSet:
    """Pictures that are kept, boxes cut at their borders, and the classes that were seen."""
    kept = [index for index, one in enumerate(seen) if one.kept]
    rows: list[tuple[int, _Draft, list[float]]] = []
    for image, index in enumerate(kept):
        width, height = seen[index].size
        for one in sorted(drafts.get(index, []), key=lambda d: -d.score):
            left, top, right, bottom = np.clip(one.xyxy, 0, [width, height] * 2).round(2).tolist()
            if min(right - left, bottom - top) >= SMALLEST_PX:
                box = [left, top, round(right - left, 2), round(bottom - top, 2)]
                rows.append((image, one, box))
    present = sorted({one.class_id for _, one, _ in rows})
    place = {class_id: number for number, class_id in enumerate(present)}
    return LabelledSet(
        source="drafts",
        images=tuple(
            LabelledImage(image + 1, seen[index].name, Path(seen[index].name), *seen[index].size)
            for image, index in enumerate(kept)
        ),
        categories=tuple(Category(number + 1, labels[c]) for number, c in enumerate(present)),
        truth=Truth.of(
            [image for image, *_ in rows],
            [place[one.class_id] for _, one, _ in rows],
            [box for *_, box in rows],
        ),
        details=Details(
            tuple({} for _ in kept),
            tuple(
                {"score": round(one.score, 4), "origin": one.origin}
                | ({} if one.track is None else {"track_id": one.track})
                for _, one, _ in rows
            ),
            {},
        ),
    )
