"""``seatrial detect`` on several images, folders and videos."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from seatrial.cli.console import err, out, print_json_line, progress_display
from seatrial.detect.answer import Answer, answer
from seatrial.detect.decode import as_served
from seatrial.detect.detections import Detections
from seatrial.detect.draw import draw, encode_image
from seatrial.detect.in_order import in_order
from seatrial.detect.opening import open_detector
from seatrial.errors import InvalidInput
from seatrial.report.numbers import counted
from seatrial.report.table import Table
from seatrial.system.files import write_atomically, writing
from seatrial.video.annotated import VideoWriter, video_writer
from seatrial.video.inputs import Input, Still, stills
from seatrial.video.tracker import ByteTracker
from seatrial.video.wanted import Wanted

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.deployment import Deployment
    from seatrial.detect.detector import Detected, Detector
    from seatrial.progress import Progress

SAVE_HINT = "name another place (--output)"


def detect_many(
    inputs: Sequence[Input],
    artifact: Artifact,
    deployment: Deployment,
    wanted: Wanted,
    targets: Mapping[Path, Path],
    *,
    json: bool,
) -> None:
    """Print what is found in images and videos, and write them with the boxes drawn.

    Args:
        inputs: The files.
        artifact: The model.
        deployment: How it is run.
        wanted: The frames that are looked at, and the boxes that are reported.
        targets: The file that each input is written to with its boxes; empty for none.
        json: Print a line for each image and each frame.

    Raises:
        InvalidInput: Files could not be read; all others were looked at.
    """
    quiet = json and sys.stdout.isatty()  # lines and bars would overwrite each other
    with (
        open_detector(artifact, deployment) as detector,
        contextlib.nullcontext(None) if quiet else progress_display() as on_progress,
        _Outputs(targets, artifact.manifest.labels, wanted.every) as outputs,
    ):
        run = _Run(detector, artifact.manifest.labels, outputs, wanted, json=json)
        try:
            run.all(inputs, deployment.limits.image_pixels, on_progress)
        except KeyboardInterrupt:
            err.print(f"looked at {run.looked_at_text()}; {outputs.wrote()}")
            raise
    if not json:
        run.show(inputs)
    run.summary()
    if targets:
        err.print(outputs.wrote())
    for name, reason in run.left_out.items():
        told = reason if reason.startswith(name) else f"{name}: {reason}"
        err.print(f"left out: {told}")
    if run.left_out:
        raise _left_out(len(run.left_out), len(inputs), begun=run.began_all_left_out())


def _left_out(number: int, inputs: int, *, begun: bool) -> InvalidInput:
    """The error for files that were left out; `begun`: each is a video that ends too early."""
    their = "" if not begun else " to its end" if number == 1 else " to their end"
    if inputs == 1:
        return InvalidInput(f"the file could not be read{their}", hint="the reason is above")
    others = "; the others were looked at" if number < inputs else ""
    return InvalidInput(
        f"{number} of {counted(inputs, 'file')} could not be read{their}",
        hint=f"{'it is' if number == 1 else 'they are'} named above{others}",
    )


class _Run:
    """Everything that was found, for tables and the summary.

    Args:
        detector: Finds the objects.
        labels: Class names.
        outputs: Takes the images with their boxes.
        wanted: The frames that are looked at, and the boxes that are reported.
        json: Print a line for each image.
    """

    def __init__(
        self,
        detector: Detector,
        labels: Sequence[str],
        outputs: _Outputs,
        wanted: Wanted,
        *,
        json: bool,
    ) -> None:
        self._detector = detector
        self._labels = labels
        self._outputs = outputs
        self._wanted = wanted
        self._tracker: tuple[Path, ByteTracker] | None = None  # videos come one after the other
        self._json = json
        self._began = time.monotonic()
        self._infer_ms: list[float] = []
        self._objects = 0
        self._boxes: dict[Path, list[Answer]] = {}
        self._of_video: dict[Path, _VideoCounts] = {}
        self.looked_at = 0
        self.left_out: dict[str, str] = {}

    def all(self, inputs: Sequence[Input], max_pixels: int, on_progress: Progress | None) -> None:
        """Look at all images and frames."""
        if self._wanted.track:  # an extra that is missing is named before the work
            ByteTracker.watching(confidence=0, rate_hz=1)

        def detect(still: Still) -> Detected | InvalidInput:
            if isinstance(still.data, InvalidInput):
                return still.data
            tracked = self._wanted.track and still.frame is not None
            try:
                data = still.data
                if still.frame is None:
                    data = as_served(data, max_pixels=max_pixels)
                asked = self._wanted.asked(tracked=tracked)
                return self._detector.detect(data, asked, max_pixels=max_pixels)
            except InvalidInput as error:
                return error

        lanes = len(self._detector.engine.narrow) + 1  # one is decoded while the lanes infer
        for still, result in in_order(
            stills(inputs, every=self._wanted.every), detect, concurrency=lanes
        ):
            if isinstance(result, InvalidInput):
                self._leave_out(still, result)
            else:
                self._take(still, result)
            if on_progress is not None:
                self._tell(on_progress, inputs, still)

    def _take(self, still: Still, result: Detected) -> None:
        kept = self._wanted.kept(result.detections, self._tracker_of(still))
        result = replace(result, detections=kept)
        found = answer(result, self._labels, result.stages_ms)
        self.looked_at += 1
        self._objects += len(found.detections)
        self._infer_ms.append(result.stages_ms["infer"])
        for warning in result.warnings:
            err.print(f"warning: {still.source.path} {warning}")
        self._outputs.add(still, result)
        if still.frame is not None:
            counts = self._of_video.setdefault(still.source.path, _VideoCounts())
            counts.add(-(-still.frame.announced // self._wanted.every), found, kept)
        elif not self._json:
            self._boxes.setdefault(still.source.path, []).append(found)
        if self._json:
            at = {} if still.frame is None else {
                "frame": still.frame.number, "time_s": round(still.frame.time_s, 6)
            }  # fmt: skip
            row = {"file": str(still.source.path), **at, **msgspec.to_builtins(found)}
            if kept.track_id is not None:
                for box, track in zip(row["detections"], kept.track_id.tolist(), strict=True):
                    box["track_id"] = track if track > 0 else None
            print_json_line(row)

    def _tracker_of(self, still: Still) -> ByteTracker | None:
        if not self._wanted.track or still.frame is None:
            return None
        if self._tracker is None or self._tracker[0] != still.source.path:
            rate_hz = still.frame.rate_hz / self._wanted.every
            lowest = self._wanted.thresholds.confidence
            tracker = ByteTracker.watching(confidence=lowest, rate_hz=rate_hz)
            self._tracker = (still.source.path, tracker)
        return self._tracker[1]

    def _leave_out(self, still: Still, error: InvalidInput) -> None:
        hint = f" ({error.hint})" if error.hint else ""
        self.left_out[str(still.source.path)] = f"{error.message}{hint}"
        if self._json:
            told = {"code": error.code, "message": error.message, "hint": error.hint}
            print_json_line({"file": str(still.source.path), "error": told})

    def _tell(self, on_progress: Progress, inputs: Sequence[Input], still: Still) -> None:
        if still.frame is not None:
            on_progress(still.source.name, still.frame.number + 1, still.frame.announced)
        elif not still.source.video:
            images = sum(not one.video for one in inputs)
            on_progress("images", self._images(), images)

    def _images(self) -> int:
        return self.looked_at - self._frames() + len(self.left_out)

    def _frames(self) -> int:
        return sum(one.frames for one in self._of_video.values())

    def looked_at_text(self) -> str:
        """How many images and frames were looked at, in words."""
        frames = self._frames()
        images = self.looked_at - frames
        parts = [counted(images, "image")] if images or not frames else []
        return " and ".join(parts + ([counted(frames, "frame")] if frames else []))

    def began_all_left_out(self) -> bool:
        """Whether frames were read of each file that was left out."""
        return {*self.left_out} <= {*map(str, self._of_video)}

    def show(self, inputs: Sequence[Input]) -> None:
        """Print a table of the boxes in images, and one of what videos show."""
        boxes = Table("file", "label", "confidence", "left", "top", "right", "bottom")
        tracks = ("tracks",) if self._wanted.track else ()
        names = ("video", "label", *tracks, "boxes", "frames with it", "highest confidence")
        videos = Table(*names)
        for one in inputs:
            for found in self._boxes.get(one.path, ()):
                if not found.detections:
                    boxes.add_row(one.name, *"------")
                for box in found.detections:
                    sides = (f"{v:.1f}" for v in box.box)
                    boxes.add_row(one.name, box.label, f"{box.confidence:.3f}", *sides)
            if one.path in self._of_video:
                for row in self._of_video[one.path].rows():
                    videos.add_row(one.name, *(row if tracks else (row[0], *row[2:])))
        for table in (boxes, videos):
            if table.row_count:
                out.print(table)

    def summary(self) -> None:
        """Say how much was found, where and how fast; name videos that end too early."""
        for path, counts in self._of_video.items():
            if counts.frames < counts.announced and str(path) not in self.left_out:
                self.left_out[str(path)] = (
                    f"{counts.frames} of {counted(counts.announced, 'frame')} could be read"
                )
        if not self.looked_at:
            return
        engine = self._detector.engine
        rate = self.looked_at / max(time.monotonic() - self._began, 1e-9)
        speed = f", inference {statistics.median(self._infer_ms):.1f} ms" if self._infer_ms else ""
        # An object of a video has a box in many frames.
        what, many = ("box", "boxes") if self._of_video else ("object", "objects")
        err.print(
            f"{counted(self._objects, what, many)} in {self.looked_at_text()} ({rate:.1f}/s); "
            f"{engine.name} on {engine.device}, {engine.precision}{speed}"
        )


class _VideoCounts:
    """Counts of the objects in one video."""

    def __init__(self) -> None:
        self.frames = 0
        self.announced = 0
        self._boxes: Counter[str] = Counter()
        self._seen_in: Counter[str] = Counter()
        self._best: dict[str, float] = {}
        self._tracks: dict[str, set[int]] = {}

    def add(self, announced: int, found: Answer, kept: Detections) -> None:
        self.frames, self.announced = self.frames + 1, announced
        labels = [box.label for box in found.detections]
        self._boxes.update(labels)
        self._seen_in.update(set(labels))
        for box in found.detections:
            self._best[box.label] = max(self._best.get(box.label, 0.0), box.confidence)
        if kept.track_id is not None:
            for label, track in zip(labels, kept.track_id.tolist(), strict=True):
                self._tracks.setdefault(label, set()).update({track} - {-1})

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row for each class, the most frequent first: label, tracks, boxes, frames, best."""
        if not self._boxes:
            yield ("-",) * 5
        for label, number in self._boxes.most_common():
            shown_in = f"{self._seen_in[label]} of {self.frames}"
            tracks = str(len(self._tracks.get(label, ())))
            yield label, tracks, str(number), shown_in, f"{self._best[label]:.3f}"


class _Outputs:
    """The annotated files; a video is finished when the next file begins.

    Args:
        targets: The file of each input.
        labels: Class names.
        every: One of so many frames of a video is written.

    Attributes:
        done: Files that are complete.
    """

    def __init__(self, targets: Mapping[Path, Path], labels: Sequence[str], every: int) -> None:
        self._every = every
        self._targets = targets
        self._labels = labels
        self._open = contextlib.ExitStack()
        self._video: tuple[Path, VideoWriter] | None = None
        self.done: list[Path] = []

    def add(self, still: Still, result: Detected) -> None:
        """Draw the boxes of an image or a frame, and write it."""
        target = self._targets.get(still.source.path)
        if target is None:
            return
        if self._video is not None and self._video[0] != target:
            self._finish()
        with writing(target, within=target.parent, hint=SAVE_HINT):
            target.parent.mkdir(parents=True, exist_ok=True)
            if still.frame is None:
                drawn = draw(result.image, result.detections, self._labels)
                write_atomically(target, encode_image(drawn, target))
                self.done.append(target)
                return
        if self._video is None:
            writer = self._open.enter_context(video_writer(target, hint=SAVE_HINT))
            self._video = (target, writer)
        drawn = draw(result.image, result.detections, self._labels)
        self._video[1].add(drawn, still.frame.time_s, still.frame.rate_hz / self._every)

    def wrote(self) -> str:
        """The files that are complete, in words."""
        if len(self.done) == 1:
            return f"wrote {self.done[0]}"
        return f"wrote {counted(len(self.done), 'file')}" + (
            f", {self.done[0]} first" if self.done else ""
        )

    def _finish(self) -> None:
        self._open.close()
        if self._video is not None:
            self.done.append(self._video[0])
        self._video = None

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._finish()
        else:
            self._open.__exit__(*error)
