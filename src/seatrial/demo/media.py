"""What a person gives: one picture, or a short video as a row of pictures."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from seatrial.errors import InputTooLarge, InvalidInput, UnsupportedImage
from seatrial.extras import require
from seatrial.request.decode import decode
from seatrial.request.detector import MAX_PIXELS

MAX_BYTES = 200 * 2**20
MAX_FRAMES = 150
MAX_CLIP_S = 30.0
DEFAULT_RATE_HZ = 10.0
CLIP_JPEG_QUALITY = 95
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
CLIPS = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")
# FFmpeg reads playlists too, which name other files and hosts: only containers are let in.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
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


class _Decoded(NamedTuple):
    """A frame of a video: its number, when it is shown, and PyAV's frame.

    ``announced`` is how many frames the file says it has, 0 where it does not say.
    """

    number: int
    time_s: float
    announced: int
    frame: Any


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
    first = next(_decode_clip(PurePath(name).stem, data), None)
    if first is None:
        raise InvalidInput(f"the video {name} has no frames")
    return _upright(first.frame)


def _is_clip(head: bytes) -> bool:
    """By the first bytes: ISO base media (MP4, MOV), Matroska (WebM), AVI."""
    quicktime = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    return quicktime or head[:4] == EBML_MAGIC or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def _read_clip(stem: str, data: bytes) -> tuple[tuple[Frame, ...], float, str]:
    """Frames evenly over the video, at most `MAX_FRAMES`, of its first `MAX_CLIP_S` seconds."""
    kept: list[_Kept] = []
    stride, seen, cut = 1, 0, False
    for index, time_s, announced, frame in _decode_clip(stem, data):
        if time_s >= MAX_CLIP_S:
            cut = True
            break
        if index == 1:  # the rate is known from the second on
            expected = min(announced, MAX_CLIP_S / time_s if time_s > 0 else MAX_FRAMES)
            stride = max(1, math.ceil(expected / MAX_FRAMES))
        seen = index + 1
        if index % stride:
            continue
        kept.append(_Kept(index, time_s, _jpeg(frame)))
        if len(kept) > MAX_FRAMES:  # it was longer than it said
            kept, stride = kept[::2], stride * 2
    if not kept:
        raise InvalidInput(f"the video {stem} has no frames")
    frames = tuple(Frame(f"{stem}-{one.number:06d}.jpg", one.data) for one in kept)
    return frames, _rate_hz(kept), _left_out(seen, stride, cut)


def _decode_clip(stem: str, data: bytes) -> Iterator[_Decoded]:
    av = require("av", extra="demo", purpose="reading videos")
    index = -1
    try:
        with av.open(io.BytesIO(data), options={"format_whitelist": CONTAINERS}) as container:
            if not container.streams.video:
                raise InvalidInput(f"{stem} has sound and no pictures", hint="give a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate_hz = float(stream.average_rate or DEFAULT_RATE_HZ)
            for index, frame in enumerate(container.decode(stream)):
                time_s = index / rate_hz if frame.time is None else float(frame.time)
                yield _Decoded(index, time_s, stream.frames, frame)
    except av.error.FFmpegError as error:
        if index < 0:
            raise InvalidInput(
                f"the video {stem} cannot be read: {error.strerror or error}",
                hint="give an MP4 (H.264), WebM or AVI video",
            ) from error
        # A recording that was cut off is shown as far as it goes.


def _jpeg(frame: Any) -> bytes:
    # Colour at half the resolution, as nearly every video has it already.
    return bytes(
        simplejpeg.encode_jpeg(_upright(frame), quality=CLIP_JPEG_QUALITY, colorsubsampling="420")
    )


def _upright(frame: Any) -> NDArray[np.uint8]:
    """One of PyAV's frames as (H, W, 3) uint8 RGB, C-contiguous."""
    if frame.width * frame.height > MAX_PIXELS:
        raise InputTooLarge(
            f"the video's frames are {frame.width} x {frame.height}, over the limit of "
            f"{MAX_PIXELS} pixels"
        )
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    # A phone that was held upright says so in the file and records sideways.
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))


def _rate_hz(kept: Sequence[_Kept]) -> float:
    """By the frames' own times: what a recording's header says is often a guess."""
    length_s = kept[-1].time_s - kept[0].time_s
    rate_hz = (len(kept) - 1) / length_s if length_s > 0 else DEFAULT_RATE_HZ
    return min(max(rate_hz, 0.1), 60.0)


def _left_out(seen: int, stride: int, cut: bool) -> str:
    parts = [f"One of every {stride} of {seen} frames was looked at."] if stride > 1 else []
    parts += [f"Only the first {MAX_CLIP_S:.0f} seconds were read."] if cut else []
    return " ".join(parts)
