"""The digits set on disk: one folder for trainers that read COCO and for those that read YOLO.

images/train/000000.jpg ...        images of each split
annotations/instances_train.json   COCO: boxes of each split
labels/train/000000.txt ...        YOLO: the same boxes
data.yaml                          YOLO: where the splits are, names of the classes
SOURCES.json                       recipe, photos and their licences, digest of all files
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec

from seatrial.config import decode_json, encode_json
from seatrial.datasets import coco, yolo
from seatrial.datasets.digits import (
    Background,
    DigitsLabels,
    DigitsRecipe,
    Layout,
    labelled_set,
    render,
)
from seatrial.datasets.labels import SPLITS
from seatrial.datasets.samples import JPEG_QUALITY, SOURCES
from seatrial.errors import InvalidDataset, InvalidInput
from seatrial.progress import Progress, silent
from seatrial.system.files import staged_folder

OURS = frozenset({".jpg", ".json", ".txt", ".yaml"})
LICENCE = "digits: CC BY 4.0, UCI Machine Learning Repository, doi 10.24432/C50P49"


class _PastedPhoto(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A background photo, and the splits that it is in."""

    name: str
    licence: str
    splits: tuple[str, ...]


class _DigitsSources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of SOURCES.json.

    Attributes:
        recipe: How the images were made.
        layout: Formats of the labels.
        backgrounds: sha256 over the background photos.
        licence: Licence of the digits.
        photos: The background photos.
        sha256: Hash over the names and bytes of all other files.
    """

    recipe: DigitsRecipe
    layout: Layout
    backgrounds: str
    licence: str
    photos: tuple[_PastedPhoto, ...]
    sha256: str


def write_digits(
    folder: Path,
    recipe: DigitsRecipe,
    backgrounds: Sequence[Background],
    *,
    layout: Layout = "both",
    on_progress: Progress = silent,
) -> bool:
    """Write the set. The folder appears whole or not at all.

    Args:
        folder: New, empty, or written by an earlier call with the same arguments.
        recipe: What to make.
        backgrounds: Photos to paste on.
        layout: Format of the labels: COCO, YOLO, or both.
        on_progress: Called after each image.

    Returns:
        False if the whole set was there already and nothing was written.

    Raises:
        InvalidDataset: The folder holds digits of another recipe.
        InvalidInput: The folder holds other files.
        InvalidConfig: See `render`.
        NotWritable: The folder cannot be written.
        MissingExtra: scikit-learn is not installed.
    """
    marks = _marks(backgrounds)
    present = _present(folder)
    if present is not None and (present.recipe, present.layout, present.backgrounds) == (
        recipe,
        layout,
        marks,
    ):
        return False
    if present is not None:
        raise InvalidDataset(
            f"{folder} holds digits of another recipe", hint="name another folder, or remove it"
        )
    with staged_folder(folder) as staged:
        photos = _fill(staged, recipe, backgrounds, layout, on_progress)
        sources = _DigitsSources(
            recipe=recipe,
            layout=layout,
            backgrounds=marks,
            licence=LICENCE,
            photos=photos,
            sha256=_digest(staged),
        )
        (staged / SOURCES).write_bytes(encode_json(sources))
    return True


def _marks(backgrounds: Sequence[Background]) -> str:
    """sha256 over the background photos."""
    digest = hashlib.sha256()
    for background in backgrounds:
        digest.update(f"{background.name} {background.group} {background.image.shape}\0".encode())
        digest.update(background.image.tobytes())
    return digest.hexdigest()


def _present(folder: Path) -> _DigitsSources | None:
    """SOURCES.json of a folder whose files are all as they were written, else None."""
    try:
        sources = decode_json((folder / SOURCES).read_bytes(), _DigitsSources, origin=SOURCES)
    except (InvalidInput, OSError):
        return None
    return sources if _digest(folder) == sources.sha256 else None


def _digest(folder: Path) -> str:
    """sha256 over names and bytes, without files of trainers (``labels/train.cache``)."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in OURS and path.name != SOURCES:
            digest.update(f"{path.relative_to(folder)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _fill(
    folder: Path,
    recipe: DigitsRecipe,
    backgrounds: Sequence[Background],
    layout: Layout,
    on_progress: Progress,
) -> tuple[_PastedPhoto, ...]:
    made: dict[str, list[tuple[str, DigitsLabels]]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
    for done, (split, number, one) in enumerate(render(recipe, backgrounds), 1):
        name = f"{number:06d}.jpg"
        _, data = cv2.imencode(".jpg", one.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (folder / "images" / split / name).write_bytes(data.tobytes())
        made[split].append((name, one.labels()))  # the pixels are not kept
        on_progress("drawing images", done, recipe.count)
    sets = {
        split: labelled_set(folder / "images" / split, split, LICENCE, made[split])
        for split in SPLITS
    }
    if layout != "yolo":
        coco.write(folder, sets)
    if layout != "coco":
        yolo.write(folder, sets)
    used = {split: {one.background for _, one in made[split]} for split in SPLITS}
    licences = {background.name: background.licence for background in backgrounds}
    return tuple(
        _PastedPhoto(
            name=name,
            licence=licences[name],
            splits=tuple(split for split in SPLITS if name in used[split]),
        )
        for name in sorted(set().union(*used.values()))
    )
