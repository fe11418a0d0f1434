"""The images and videos that paths name: files, folders, patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from seatrial.errors import InvalidInput
from seatrial.system.files import read_bytes
from seatrial.system.images import SUFFIXES as IMAGE_SUFFIXES
from seatrial.system.images import files_below, image_files
from seatrial.video.sources import SUFFIXES, VideoFrame, video_frames

GIVE = "give images, videos, or folders of them"
STREAMS = ("http://", "https://", "rtsp://", "rtsps://", "rtmp://", "srt://", "tcp://", "udp://")


@dataclass(frozen=True, slots=True)
class Input:
    """An image or a video file.

    Attributes:
        path: The file.
        name: Path below the folder that was named, or the file's name.
        video: Whether it is a video, by its suffix.
    """

    path: Path
    name: str
    video: bool


@dataclass(frozen=True, slots=True)
class Still:
    """An image, or a frame of a video.

    Attributes:
        source: The file that it comes from.
        data: The bytes of an image file, or (H, W, 3) uint8 RGB of a frame; the error where it
            cannot be read.
        frame: The frame; None for an image.
    """

    source: Input
    data: Any
    frame: VideoFrame | None = None


def find_inputs(words: Sequence[str]) -> list[Input]:
    """The images and videos that words name, in the order of the words, each once.

    Args:
        words: Files, folders (with their subfolders) and patterns such as ``day/*.jpg``.

    Raises:
        InvalidInput: A word names nothing, or a folder holds neither images nor videos.
    """
    found: dict[Path, Input] = {}
    several = len(words) > 1
    for word in words:
        for one in _of_word(word, several=several):
            found.setdefault(one.path.resolve(), one)
    return list(found.values())


def stills(inputs: Sequence[Input], *, every: int = 1) -> Iterator[Still]:
    """The images, and the frames of the videos, one by one. A file that cannot be read is one.

    Args:
        inputs: The files.
        every: One of so many frames of a video is taken, the first one and so on.
    """
    for one in inputs:
        try:
            if not one.video:
                yield Still(one, read_bytes(one.path))
                continue
            for frame in video_frames(one.path):
                if frame.number % every == 0:
                    yield Still(one, frame.rgb(), frame)
        except InvalidInput as error:
            yield Still(one, error)


def _of_word(word: str, *, several: bool) -> list[Input]:
    if is_stream(word):
        raise no_stream(word)
    path = Path(word).expanduser()
    if path.is_dir():
        files = sorted({*image_files(path), *_videos(path)})
        if not files:
            raise InvalidInput(f"{path} holds neither images nor videos", hint=GIVE)
        home = Path(path.resolve().name if several else "")
        return [_input(file, str(home / file.relative_to(path))) for file in files]
    if path.exists() or not glob.has_magic(word):
        return [_input(path, path.name)]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
    matches = [match for match in matches if match.is_file()]
    if not matches:
        raise InvalidInput(f"no file fits the pattern {word}", hint=GIVE)
    return [_input(match, match.name) for match in matches]


def is_stream(word: str) -> bool:
    """Whether a word is the number of a camera or an address, and not a file."""
    return (word.lower().startswith(STREAMS) or word.isdigit()) and not Path(word).exists()


def no_stream(word: str) -> InvalidInput:
    """The error for a camera, a stream or an address."""
    if word.isdigit():
        return InvalidInput(
            f"{word} is not a file, and cameras are not read",
            hint="record a file (on Linux: ffmpeg -f v4l2 -t 60 -i "
            f"/dev/video{word} clip.mp4), or take a photo in a page: seatrial demo gradio",
        )
    if PurePosixPath(urlsplit(word).path).suffix.lower() in IMAGE_SUFFIXES:
        return InvalidInput(
            f"{word} is not a file, and nothing is downloaded",
            hint=f"download it, and give the file: curl -O '{word}'",
        )
    return InvalidInput(
        f"{word} is not a file, and streams are not read",
        hint=f"record a minute of it, and give the file: ffmpeg -t 60 -i '{word}' -c copy clip.mp4",
    )


def _videos(folder: Path) -> Iterator[Path]:
    return (path for path in files_below(folder) if path.suffix.lower() in SUFFIXES)


def _input(path: Path, name: str) -> Input:
    return Input(path, name, path.suffix.lower() in SUFFIXES)
