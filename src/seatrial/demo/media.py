"""What a person gives: one picture, or a short video as a row of pictures."""

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

from seatrial.detect.decode import decode
from seatrial.detect.detector import MAX_PIXELS
from seatrial.errors import InputTooLarge, UnsupportedImage
from seatrial.video.sources import VideoFrame, video_frames

MAX_BYTES = 200 * 2**20
MAX_FRAMES = 150
MAX_CLIP_S = 30.0
DEFAULT_RATE_HZ = 10.0
CLIP_JPEG_QUALITY = 95
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
CLIPS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
EBML_MAGIC = b"\x1a\x45\xdf\xa3"


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture as a file.

    Attributes:
        name: Of the file; frames of a video are numbered as in the video, from 0.
        data: JPEG, PNG or WebP.
    """

    name: str
    data: bytes

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright."""
        return decode(self.data, max_pixels=MAX_PIXELS)


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or a video.

    Attributes:
        name: As the person's file is called.
        digest: sha256 of the file, in hex.
        frames: One for a picture.
        rate_hz: Frames in a second; None for a picture.
        note: What was left out of it; empty where nothing was.
    """

    name: str
    digest: str
    frames: tuple[Frame, ...]
    rate_hz: float | None = None
    note: str = ""

    @property
    def stem(self) -> str:
        """The name without its suffix, for the names of files made from it."""
        return PurePath(self.name).stem or "picture"


class _Kept(NamedTuple):
    """A frame that is looked at: its number in the video, when it is shown, its JPEG file."""

    number: int
    time_s: float
    data: bytes


def open_media(name: str, data: bytes) -> Media:
    """Read a file that a person gave.

    Args:
        name: Of the file; a folder in front of it is dropped.
        data: The whole file.

    Raises:
        UnsupportedImage: Neither a picture nor a video that is read here.
        InputTooLarge: More bytes or pixels than a demonstration takes.
        InvalidInput: A damaged file; one without any bytes or frames.
        MissingExtra: A video, and PyAV is not installed.
    """
    name = PurePath(name).name or "picture"
    if len(data) > MAX_BYTES:
        raise InputTooLarge(
            f"{name} has {len(data) / 2**20:.0f} MiB, over the limit of {MAX_BYTES / 2**20:.0f}",
            hint="give a smaller picture or a shorter video",
        )
    digest = hashlib.sha256(data).hexdigest()
    if _is_clip(data[:16]):
        frames, rate_hz, note = _read_clip(PurePath(name).stem, data)
        return Media(name, digest, frames, rate_hz, note)
    frame = Frame(name, data)
    try:
        frame.pixels()  # a damaged picture is refused here, not when it is drawn
    except UnsupportedImage as error:
        raise UnsupportedImage(
            f"{name} is neither a picture nor a video that is read here",
            hint="give a JPEG, PNG or WebP picture, or an MP4, MOV, WebM, MKV or AVI video",
        ) from error
    return Media(name, digest, (frame,))


def preview(name: str, data: bytes) -> NDArray[np.uint8]:
    """The picture, or the first frame of the video.

    Args:
        name: Of the file.
        data: The whole file.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        SeatrialError: As `open_media`.
    """
    if not _is_clip(data[:16]):
        return Frame(name, data).pixels()
    return next(video_frames(io.BytesIO(data), PurePath(name).stem)).rgb()


def _is_clip(head: bytes) -> bool:
    """By the first bytes: ISO base media (MP4, MOV), Matroska (WebM), AVI."""
    quicktime = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return quicktime or head[:4] == EBML_MAGIC or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def _read_clip(stem: str, data: bytes) -> tuple[tuple[Frame, ...], float, str]:
    """Frames evenly over the video, at most `MAX_FRAMES`, of its first `MAX_CLIP_S` seconds."""
    kept: list[_Kept] = []
    stride, seen, cut = 1, 0, False
    for frame in video_frames(io.BytesIO(data), stem):
        index, time_s = frame.number, frame.time_s
        if time_s >= MAX_CLIP_S:
            cut = True
            break
        if index == 1:  # the rate is known from the second on
            expected = min(frame.announced, MAX_CLIP_S / time_s if time_s > 0 else MAX_FRAMES)
            stride = max(1, math.ceil(expected / MAX_FRAMES))
        seen = index + 1
        if index % stride:
            continue
        kept.append(_Kept(index, time_s, _jpeg(frame)))
        if len(kept) > MAX_FRAMES:  # it was longer than it said
            kept, stride = kept[::2], stride * 2
    frames = tuple(Frame(f"{stem}-{one.number:06d}.jpg", one.data) for one in kept)
    return frames, _rate_hz(kept), _left_out(seen, stride, cut)


def _jpeg(frame: VideoFrame) -> bytes:
    # Colour at half the resolution, as nearly every video has it already.
    return bytes(
        simplejpeg.encode_jpeg(frame.rgb(), quality=CLIP_JPEG_QUALITY, colorsubsampling="420")
    )


def _rate_hz(kept: Sequence[_Kept]) -> float:
    """By the frames' own times: what a recording's header says is often a guess."""
    length_s = kept[-1].time_s - kept[0].time_s
    rate_hz = (len(kept) - 1) / length_s if length_s > 0 else DEFAULT_RATE_HZ
    return min(max(rate_hz, 0.1), 60.0)


def _left_out(seen: int, stride: int, cut: bool) -> str:
    parts = [f"One of every {stride} of {seen} frames was looked at."] if stride > 1 else []
    parts += [f"Only the first {MAX_CLIP_S:.0f} seconds were read."] if cut else []
    return " ".join(parts)
