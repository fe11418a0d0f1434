"""Videos that are written: H.264 in MP4, through PyAV (the extra ``video``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from seatrial.errors import InvalidInput
from seatrial.system.extras import require
from seatrial.system.files import staged_file, writing

SUFFIXES = (".mp4", ".mov", ".mkv")
CODECS = ("libx264", "libopenh264", "mpeg4")  # the first that FFmpeg was built with
TICKS_HZ = 90_000  # the clock of MPEG


class VideoWriter:
    """Encodes frames with the times at which they are shown; from `video_writer`.

    Args:
        container: PyAV's container, open for writing.
        codec: FFmpeg's name of the encoder.
    """

    def __init__(self, container: Any, codec: str) -> None:
        self._container = container
        self._codec = codec
        self._stream: Any = None
        self._last = -1

    def add(self, image: NDArray[np.uint8], time_s: float, rate_hz: float) -> None:
        """Append a frame.

        Args:
            image: (H, W, 3) uint8 RGB. A frame of another size than the first is scaled to that.
            time_s: When it is shown; later than the frame before.
            rate_hz: Frames in a second, for the header.
        """
        av = require("av", extra="video", purpose="writing videos")
        image = _even(image)
        if self._stream is None:
            self._stream = self._container.add_stream(
                self._codec, rate=Fraction(rate_hz).limit_denominator(1001)
            )
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, TICKS_HZ)
        size = (self._stream.width, self._stream.height)
        if size != image.shape[1::-1]:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        self._last = max(self._last + 1, round(time_s * TICKS_HZ))
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS_HZ)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


@contextlib.contextmanager
def video_writer(path: Path, *, hint: str) -> Iterator[VideoWriter]:
    """A writer of a video file, which appears whole or not at all. It has no sound.

    Args:
        path: File with one of `SUFFIXES`.
        hint: What to do where the file cannot be written.

    Raises:
        InvalidInput: The name has another suffix.
        NotWritable: The file cannot be written.
        MissingExtra: PyAV is not installed.
    """
    av = require("av", extra="video", purpose="writing videos")
    check_suffix(path)
    # The index before the frames: players begin before they have the whole file.
    options = {} if path.suffix.lower() == ".mkv" else {"movflags": "faststart"}
    codec = next(name for name in CODECS if name in av.codecs_available)
    with (
        writing(path, within=path.parent, hint=hint),
        staged_file(path) as part,
        av.open(str(part), "w", options=options) as container,
    ):
        writer = VideoWriter(container, codec)
        yield writer
        writer.finish()


def check_suffix(path: Path) -> None:
    """Check that a name is that of a video that can be written.

    Raises:
        InvalidInput: It has another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"videos are written as MP4, not as {path.name}", hint="name it .mp4")


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with even sides, as H.264 with colour at half the resolution needs them."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(image)
