"""Videos as a row of frames, decoded by FFmpeg through PyAV (the extra ``video``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from seatrial.detect.detector import MAX_PIXELS
from seatrial.errors import InputTooLarge, InvalidInput
from seatrial.system.extras import require
from seatrial.system.files import open_file

SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
# FFmpeg reads playlists too, which name other files and hosts: only containers are let in.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
DEFAULT_RATE_HZ = 25.0


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame, decoded but not yet in RGB.

    Attributes:
        number: In the video, from 0.
        time_s: When it is shown.
        rate_hz: Frames in a second, as the file says.
        announced: Frames that the file says it has; 0 where it does not say.
        raw: PyAV's frame.
    """

    number: int
    time_s: float
    rate_hz: float
    announced: int
    raw: Any

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, C-contiguous, upright.

        Raises:
            InputTooLarge: It has more pixels than are detected in.
        """
        if self.raw.width * self.raw.height > MAX_PIXELS:
            raise InputTooLarge(
                f"the video's frames are {self.raw.width} x {self.raw.height}, over the limit of "
                f"{MAX_PIXELS} pixels"
            )
        image: NDArray[np.uint8] = self.raw.to_ndarray(format="rgb24")
        # A phone that was held upright records sideways, with the rotation in the file.
        matrix = self.raw.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return image
        return _displayed(image, np.frombuffer(matrix, np.int32, 9).reshape(3, 3))


def video_frames(source: Path | BinaryIO, name: str = "") -> Iterator[VideoFrame]:
    """Decode a video from its beginning. One that was cut off ends where it was cut.

    Args:
        source: A file, or an open one that can be sought in.
        name: For messages, where the source is no path.

    Raises:
        InvalidInput: It cannot be read, or has no frames.
        MissingExtra: PyAV is not installed.
    """
    av = require("av", extra="video", purpose="reading videos")
    shown = name or str(source)
    if isinstance(source, Path) and source.is_file() and not source.stat().st_size:
        raise InvalidInput(f"the video {shown} is empty (0 bytes)")
    number = -1
    try:
        if isinstance(source, Path):
            open_file(source).close()  # FFmpeg would wait for who writes to a pipe
        with av.open(_opened(source), options={"format_whitelist": CONTAINERS}) as container:
            if not container.streams.video:
                raise InvalidInput(f"{shown} has sound and no frames", hint="give a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate_hz = float(stream.average_rate or DEFAULT_RATE_HZ)
            for number, raw in enumerate(container.decode(stream)):
                time_s = number / rate_hz if raw.time is None else float(raw.time)
                yield VideoFrame(number, time_s, rate_hz, stream.frames, raw)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if number < 0:
            raise InvalidInput(
                f"the video {shown} cannot be read: {getattr(error, 'strerror', '') or error}",
                hint="give an MP4 (H.264), WebM or AVI video",
            ) from error
    if number < 0:
        raise InvalidInput(f"the video {shown} has no frames")


def _displayed(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The image turned and mirrored by quarters, as its display matrix is nearest to.

    Args:
        image: (H, W, 3) uint8.
        matrix: (3, 3), ISO/IEC 14496-12, 8.3.2: the row (x, y, 1) times it is where a pixel goes.
    """
    (x_to_x, x_to_y), (y_to_x, y_to_y) = matrix[:2, :2].tolist()
    if abs(x_to_x) + abs(y_to_y) < abs(x_to_y) + abs(y_to_x):
        image, x_to_x, y_to_y = image.transpose(1, 0, 2), y_to_x, x_to_y
    image = image[:: -1 if y_to_y < 0 else 1, :: -1 if x_to_x < 0 else 1]
    return np.ascontiguousarray(image)


def _opened(source: Path | BinaryIO) -> str | BinaryIO:
    return str(source) if isinstance(source, Path) else source
