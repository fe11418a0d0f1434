"""The digits set on disk: one folder that trainers for COCO's and for YOLO's layout read.

images/train/000000.jpg ...        pictures of each split
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

from seatrial.config import decode_json
from seatrial.datasets import coco, yolo
from seatrial.datasets.digits import (
    CATEGORIES,
    Background,
    DigitsRecipe,
    Layout,
    Picture,
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

"""Called with the pictures done and the pictures in all."""


class _Photo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A photo that was pasted on, and the splits that it is in."""

    name: str
    licence: str
    splits: tuple[str, ...]


class _Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the folder says of itself.

    Attributes:
        sha256: Over the names and the bytes of all other files.
    """

    recipe: DigitsRecipe
    layout: Layout
    backgrounds: str
    licence: str
    photos: tuple[_Photo, ...]
    sha256: str


def write_digits(
    folder: Path,
    recipe: DigitsRecipe,
    backgrounds: Sequence[Background],
    *,
    layout: Layout = "both",
    on_progress: Progress = silent,
) -> bool:
    """Make the set. The folder appears whole or not at all.

    Args:
        folder: Not there, empty, or the work of an earlier call with the same arguments.
        recipe: What to make.
        backgrounds: Photos to paste on.
        layout: Labels in COCO's format, in YOLO's, or both.
        on_progress: Told after each picture.

    Returns:
        False if the folder was there already, whole: nothing was written.

    Raises:
        InvalidDataset: The folder holds something else.
        InvalidConfig: See `render`.
        NotWritable: It cannot be written.
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
        sources = _Sources(recipe, layout, marks, LICENCE, photos, _digest(staged))
        text = msgspec.json.format(msgspec.json.encode(sources), indent=2)
        (staged / SOURCES).write_bytes(text + b"\n")
    return True


def _marks(backgrounds: Sequence[Background]) -> str:
    """sha256 over the photos."""
    digest = hashlib.sha256()
    for background in backgrounds:
        digest.update(f"{background.name} {background.group} {background.image.shape}\0".encode())
        digest.update(background.image.tobytes())
    return digest.hexdigest()


def _present(folder: Path) -> _Sources | None:
    """What a folder of digits that is whole says of itself."""
    try:
        sources = decode_json((folder / SOURCES).read_bytes(), _Sources, origin=SOURCES)
    except (InvalidInput, OSError):
        return None
    return sources if _digest(folder) == sources.sha256 else None


def _digest(folder: Path) -> str:
    """sha256 over names and bytes, without what trainers leave there (``labels/train.cache``)."""
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
) -> tuple[_Photo, ...]:
    made: dict[str, list[tuple[str, Picture]]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True)
    for done, (split, number, picture) in enumerate(render(recipe, backgrounds), 1):
        name = f"{number:06d}.jpg"
        _, data = cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (folder / "images" / split / name).write_bytes(data.tobytes())
        made[split].append((name, picture))
        on_progress("drawing images", done, recipe.count)
    for split in SPLITS:
        _label(folder, split, made[split], layout)
    if layout != "coco":
        (folder / "data.yaml").write_text(yolo.config_text(CATEGORIES, SPLITS))
    return _photos(made)


def _label(
    folder: Path, split: str, pictures: Sequence[tuple[str, Picture]], layout: Layout
) -> None:
    labels = labelled_set(folder / "images" / split, split, pictures)
    if layout != "yolo":
        file = folder / "annotations" / f"{coco.PREFIX}{split}.json"
        file.parent.mkdir(exist_ok=True)
        info = {"description": f"handwritten digits on photos, {split}", "contributor": LICENCE}
        file.write_bytes(coco.encode(labels, info))
    if layout != "coco":
        home = folder / "labels" / split
        home.mkdir(parents=True)
        for image, text in zip(labels.images, yolo.label_texts(labels), strict=True):
            (home / image.name).with_suffix(".txt").write_text(text)


def _photos(made: dict[str, list[tuple[str, Picture]]]) -> tuple[_Photo, ...]:
    used = {
        picture.background.name: picture.background
        for pictures in made.values()
        for _, picture in pictures
    }
    return tuple(
        _Photo(
            name,
            used[name].licence,
            tuple(
                split for split in SPLITS if any(p.background.name == name for _, p in made[split])
            ),
        )
        for name in sorted(used)
    )
