"""The boxes drawn on the image, or on each frame of the video, as a file for browsers."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seatrial.demo.workbench import View
from seatrial.detect.draw import annotated_jpeg, draw
from seatrial.system.extras import require

CODEC = "libx264"
CODEC_OPTIONS = {"preset": "veryfast", "crf": "23"}
# With the index at the start of the file, browsers play while they load.
CONTAINER_OPTIONS = {"movflags": "+faststart"}


def annotated(view: View) -> bytes:
    """The boxes of a view, drawn: a JPEG for an image, an MP4 (H.264) for a video.

    Raises:
        MissingExtra: PyAV, for a video, is not installed.
    """
    if view.media.rate_hz is None:
        return annotated_jpeg(view.media.frames[0].pixels(), view.shown[0], view.model.labels)
    # A file and not memory: FFmpeg reads it again to move the index to the start.
    with tempfile.NamedTemporaryFile(prefix="seatrial-", suffix=".mp4") as file:
        _write_video(view, view.media.rate_hz, file.name)
        return Path(file.name).read_bytes()


def annotated_name(view: View) -> str:
    """Name of the file with the boxes."""
    return f"{view.media.stem}-boxes.{'jpg' if view.media.rate_hz is None else 'mp4'}"


def _write_video(view: View, rate_hz: float, path: str) -> None:
    av = require("av", extra="demo", purpose="writing videos")
    with av.open(path, "w", format="mp4", options=CONTAINER_OPTIONS) as container:
        rate = Fraction(rate_hz).limit_denominator(1000)
        stream = container.add_stream(CODEC, rate=rate, options=CODEC_OPTIONS)
        stream.pix_fmt = "yuv420p"  # what every browser plays
        frames = zip(view.media.frames, view.shown, strict=True)
        for number, (frame, detections) in enumerate(frames):
            image = _even(draw(frame.pixels(), detections, view.model.labels))
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image without the last of an odd number of rows or columns: colour has half of them."""
    height, width = image.shape[0] & ~1, image.shape[1] & ~1
    return np.ascontiguousarray(image[:height, :width])
