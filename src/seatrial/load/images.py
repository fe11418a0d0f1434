"""The images that are sent: a seeded sample of a folder; each is decoded once beforehand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from seatrial.errors import InvalidDataset, SeatrialError
from seatrial.system.files import check_folder, odd_kind
from seatrial.system.images import SUFFIXES, files_below, images_digest, only_images


class EncodedImage(msgspec.Struct, frozen=True, gc=False):
    """One file as it lies on disk.

    Attributes:
        name: Path relative to the folder.
        data: Encoded bytes, sent as they are.
        content_type: Type of the bytes, whatever the suffix says.
        width: Width as stored, pixels.
        height: Height as stored, pixels.
    """

    name: str
    data: bytes
    content_type: str
    width: int
    height: int


class SkippedFile(msgspec.Struct, frozen=True):
    """A file with an image suffix that cannot be sent.

    Attributes:
        name: Its name.
        reason: Why it cannot be sent.
    """

    name: str
    reason: str


class ImagesSummary(msgspec.Struct, frozen=True):
    """Summary of the images, for the report.

    Attributes:
        folder: Folder of the images.
        found: Number of files with an image suffix.
        used: Number of files that were sent.
        other_files: Number of files without an image suffix.
        limit: Most files that a run keeps in memory.
        seed: Seed of the sample.
        bytes_mean: Mean size of the files that were sent, bytes.
        bytes_min: Size of the smallest one.
        bytes_max: Size of the largest one.
        width_min: Smallest width, pixels.
        width_max: Largest width.
        height_min: Smallest height, pixels.
        height_max: Largest height.
        megapixels_mean: Mean number of pixels, millions.
        content_types: Number of files of each media type.
        digest: sha256 over names and bytes of the used files, in order: equal digests mean that
            two reports measured the same images.
        skipped_count: Number of files that cannot be sent.
        skipped: The first of these.
    """

    folder: str
    found: int
    used: int
    other_files: int
    limit: int
    seed: int
    bytes_mean: float
    bytes_min: int
    bytes_max: int
    width_min: int
    width_max: int
    height_min: int
    height_max: int
    megapixels_mean: float
    content_types: dict[str, int]
    digest: str
    skipped_count: int
    skipped: tuple[SkippedFile, ...]


class ImageSet(msgspec.Struct, frozen=True):
    """The images of one benchmark, in the order that the seed gave."""

    images: tuple[EncodedImage, ...]
    summary: ImagesSummary


def load_images(
    folder: Path, *, limit: int = 256, seed: int = 0, max_pixels: int | None = None
) -> ImageSet:
    """Read a seeded sample of a folder; subfolders count.

    Files that a service of Seatrial refuses are left out, by its own checks.

    Args:
        folder: Any folder with JPEG, PNG or WebP files, COCO's ``val2017`` for example; or one
            such file.
        limit: Most images kept; they stay in memory while the load runs.
        seed: Seed of the sample and of its order.
        max_pixels: Largest image that the service takes (``limits.image_pixels``), width x height;
            default: `seatrial.client.served_files.MAX_PIXELS`.

    Raises:
        InvalidDataset: No such folder, no image in it, or none that can be decoded.
    """
    odd: list[Path] = []
    if folder.is_file():
        files, root = [folder], folder.parent
    else:
        check_folder(folder, hint="give a folder of JPEG, PNG or WebP files, or one of them")
        files, root = list(files_below(folder, on_odd=odd.append)), folder
    candidates, refused = (
        [path for path in only_images(some) if path.suffix.lower() in SUFFIXES]
        for some in (files, odd)
    )
    others = len(files) - len(candidates)
    order = random.Random(seed).sample(candidates, len(candidates))  # noqa: S311 - no secret
    images: list[EncodedImage] = []
    skipped = [
        SkippedFile(path.relative_to(root).as_posix(), f"it is {odd_kind(path)}, not a file")
        for path in refused
    ]
    for path in order:
        if len(images) == limit:
            break
        loaded = _read(path, path.relative_to(root).as_posix(), max_pixels)
        if isinstance(loaded, SkippedFile):
            skipped.append(loaded)
        else:
            images.append(loaded)
    if not images:
        raise _nothing_to_send(folder, others, skipped)
    found = len(candidates) + len(refused)
    summary = _summarise(images, skipped, folder, found, others, limit, seed)
    return ImageSet(tuple(images), summary)


def _read(path: Path, name: str, max_pixels: int | None) -> EncodedImage | SkippedFile:
    from seatrial.client.served_files import MAX_PIXELS, served_file  # decoders are heavy

    try:
        data = path.read_bytes()
        found = served_file(data, max_pixels=max_pixels or MAX_PIXELS)
    except SeatrialError as error:
        return SkippedFile(name, error.message)
    except OSError as error:
        return SkippedFile(name, str(error) or type(error).__name__)
    return EncodedImage(name, data, found.content_type, found.width, found.height)


def _nothing_to_send(folder: Path, others: int, skipped: Sequence[SkippedFile]) -> InvalidDataset:
    if skipped:
        first = skipped[0]
        message = f"none of the {len(skipped)} images in {folder} can be decoded"
        return InvalidDataset(message, hint=f"the first, {first.name}: {first.reason}")
    message = f"no image in {folder} ({others} other files)"
    return InvalidDataset(message, hint=f"accepted: {', '.join(sorted(SUFFIXES))}")


def _summarise(
    images: Sequence[EncodedImage],
    skipped: Sequence[SkippedFile],
    folder: Path,
    found: int,
    others: int,
    limit: int,
    seed: int,
) -> ImagesSummary:
    sizes = [len(image.data) for image in images]
    return ImagesSummary(
        folder=_printable(str(folder)),
        found=found,
        used=len(images),
        other_files=others,
        limit=limit,
        seed=seed,
        bytes_mean=sum(sizes) / len(sizes),
        bytes_min=min(sizes),
        bytes_max=max(sizes),
        width_min=min(image.width for image in images),
        width_max=max(image.width for image in images),
        height_min=min(image.height for image in images),
        height_max=max(image.height for image in images),
        megapixels_mean=sum(i.width * i.height for i in images) / len(images) / 1e6,
        content_types=dict(sorted(Counter(image.content_type for image in images).items())),
        digest=images_digest((image.name, image.data) for image in images),
        skipped_count=len(skipped),
        skipped=tuple(SkippedFile(_printable(s.name), s.reason) for s in skipped),
    )


def _printable(name: str) -> str:
    # A file name may hold bytes that are not text; JSON cannot carry them as they are.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
