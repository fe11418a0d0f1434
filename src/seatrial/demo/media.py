"""The input of a page: an image, or a short video as a row of images."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from seatrial.detect.decode import as_served, decode, format_of
from seatrial.detect.detector import MAX_PIXELS
from seatrial.errors import InputTooLarge, UnsupportedImage
from seatrial.video.sources import VideoFrame, video_frames

MAX_BYTES = 200 * 2**20
MAX_FRAMES = 150
MAX_VIDEO_S = 30.0
DEFAULT_RATE_HZ = 10.0
FRAME_JPEG_QUALITY = 95
EBML_MAGIC = b"\x1a\x45\xdf\xa3"


@dataclass(frozen=True, slots=True)
class MediaFrame:
    """An image, or a frame of a video, as a file.

    Attributes:
        name: File name; a frame has its number in the video, from 0.
        data: JPEG, PNG or WebP.
    """

    name: str
    data: bytes

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright."""
        return decode(self.data, max_pixels=MAX_PIXELS)


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a video.

    Attributes:
        name: Name of the file that was given.
        digest: sha256 of the file, in hex.
        frames: The frames of a video; the image itself for an image.
        rate_hz: Frames in a second; None for an image.
        note: What was left out of the video; empty where nothing was.
    """

    name: str
    digest: str
    frames: tuple[MediaFrame, ...]
    rate_hz: float | None = None
    note: str = ""

    @property
    def stem(self) -> str:
        """The name without its suffix, for the names of files that are made from it."""
        return PurePath(self.name).stem or "picture"


class _Kept(NamedTuple):
    """A frame that is kept: its number in the video, its time, its JPEG file."""

    number: int
    time_s: float
    data: bytes


def open_media(name: str, data: bytes) -> Media:
    """Read a file that was given to a page.

    Args:
        name: File name; folders in front of it are dropped.
        data: The whole file.

    Raises:
        UnsupportedImage: The file is neither an image nor a video in a supported format.
        InputTooLarge: The file has too many bytes or pixels for a demonstration.
        InvalidInput: The file is damaged, or has no frames.
        MissingExtra: PyAV, for a video, is not installed.
    """
    name = PurePath(name).name or "picture"
    if len(data) > MAX_BYTES:
        raise InputTooLarge(
            f"{name} has {len(data) / 2**20:.0f} MiB, over the limit of {MAX_BYTES / 2**20:.0f}",
            hint="give a smaller image or a shorter video",
        )
    digest = hashlib.sha256(data).hexdigest()
    if _is_video(data[:16]):
        frames, rate_hz, note = _read_video(PurePath(name).stem, data)
        return Media(name, digest, frames, rate_hz, note)
    try:
        image = MediaFrame(name, as_served(data, max_pixels=MAX_PIXELS))
        image.pixels()  # a damaged image is refused here and not when it is drawn
    except UnsupportedImage as error:
        raise UnsupportedImage(
            f"{name} is neither an image nor a video in a supported format",
            hint="give a JPEG, PNG or WebP image, or an MP4, MOV, WebM, MKV or AVI video",
        ) from error
    return Media(name, digest, (image,))


def preview(name: str, data: bytes) -> NDArray[np.uint8]:
    """The image, or the first frame of the video.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        SeatrialError: See `open_media`.
    """
    if not _is_video(data[:16]):
        return MediaFrame(name, as_served(data, max_pixels=MAX_PIXELS)).pixels()
    return next(video_frames(io.BytesIO(data), PurePath(name).stem)).rgb()


def _is_video(head: bytes) -> bool:
    """Whether a file begins as ISO base media (MP4, MOV), Matroska (WebM) or AVI."""
    if format_of(head) in ("AVIF", "HEIF"):  # images in the container of ISO base media
        return False
    quicktime = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return quicktime or head[:4] == EBML_MAGIC or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def _read_video(stem: str, data: bytes) -> tuple[tuple[MediaFrame, ...], float, str]:
    """At most `MAX_FRAMES` of the first `MAX_VIDEO_S` seconds, evenly; their rate; a note."""
    kept: list[_Kept] = []
    stride, seen, cut = 1, 0, False
    for frame in video_frames(io.BytesIO(data), stem):
        index, time_s = frame.number, frame.time_s
        if time_s >= MAX_VIDEO_S:
            cut = True
            break
        if index == 1:  # from the second frame on, the rate is known
            expected = min(frame.announced, MAX_VIDEO_S / time_s if time_s > 0 else MAX_FRAMES)
            stride = max(1, math.ceil(expected / MAX_FRAMES))
        seen = index + 1
        if index % stride:
            continue
        kept.append(_Kept(index, time_s, _jpeg(frame)))
        if len(kept) > MAX_FRAMES:  # the video is longer than its header says
            kept, stride = kept[::2], stride * 2
    frames = tuple(MediaFrame(f"{stem}-{one.number:06d}.jpg", one.data) for one in kept)
    return frames, _rate_hz(kept), _left_out(seen, stride, cut)


def _jpeg(frame: VideoFrame) -> bytes:
    # Colour at half the resolution, as in nearly every video.
    return bytes(
        simplejpeg.encode_jpeg(frame.rgb(), quality=FRAME_JPEG_QUALITY, colorsubsampling="420")
    )


def _rate_hz(kept: Sequence[_Kept]) -> float:
    """The rate by the times of the frames: that in the header is often a guess."""
    length_s = kept[-1].time_s - kept[0].time_s
    rate_hz = (len(kept) - 1) / length_s if length_s > 0 else DEFAULT_RATE_HZ
    return min(max(rate_hz, 0.1), 60.0)


def _left_out(seen: int, stride: int, cut: bool) -> str:
    parts = [f"One of every {stride} of {seen} frames was used."] if stride > 1 else []
    parts += [f"Only the first {MAX_VIDEO_S:.0f} seconds were read."] if cut else []
    return " ".join(parts)
