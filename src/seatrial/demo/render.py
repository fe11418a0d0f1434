"""The boxes on the picture, or on each frame of the video, as a file that browsers show."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seatrial.demo.workbench import View
from seatrial.detect.answer import Box
from seatrial.detect.detections import Detections
from seatrial.detect.draw import annotated_jpeg, draw
from seatrial.system.extras import require

CODEC = "libx264"
CODEC_OPTIONS = {"preset": "veryfast", "crf": "23"}
# The index in front: browsers play while they load.
CONTAINER_OPTIONS = {"movflags": "+faststart"}


def annotated(view: View) -> bytes:
    """The boxes of a view, drawn: a JPEG, or an MP4 (H.264) for a video.

    Raises:
        MissingExtra: A video, and PyAV is not installed.
    """
    if view.media.rate_hz is not None:
        return _clip(view, view.media.rate_hz)
    boxes = as_detections(view.seen[0].detections)
    return annotated_jpeg(view.media.frames[0].pixels(), boxes, view.model.labels)


def annotated_name(view: View) -> str:
    """What the file is called."""
    return f"{view.media.stem}-boxes.{'jpg' if view.media.rate_hz is None else 'mp4'}"


def as_detections(boxes: Sequence[Box]) -> Detections:
    """Rows of an answer as arrays, in their order."""
    return Detections(
        np.array([box.box for box in boxes], np.float32).reshape(-1, 4),
        np.array([box.confidence for box in boxes], np.float32),
        np.array([box.class_id for box in boxes], np.int64),
    )


def _clip(view: View, rate_hz: float) -> bytes:
    # A file, not memory: FFmpeg reads it again to put the index in front.
    with tempfile.NamedTemporaryFile(prefix="seatrial-", suffix=".mp4") as file:
        _write_clip(view, rate_hz, file.name)
        return Path(file.name).read_bytes()


def _write_clip(view: View, rate_hz: float, path: str) -> None:
    av = require("av", extra="demo", purpose="writing videos")
    with av.open(path, "w", format="mp4", options=CONTAINER_OPTIONS) as container:
        rate = Fraction(rate_hz).limit_denominator(1000)
        stream = container.add_stream(CODEC, rate=rate, options=CODEC_OPTIONS)
        stream.pix_fmt = "yuv420p"  # what every browser plays
        for number, (frame, seen) in enumerate(zip(view.media.frames, view.seen, strict=True)):
            boxes = as_detections(seen.detections)
            image = _even(draw(frame.pixels(), boxes, view.model.labels))
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without the last row or column of an odd number of them: colour has half the resolution."""
    height, width = image.shape[0] & ~1, image.shape[1] & ~1
    return np.ascontiguousarray(image[:height, :width])
