"""The plan of a finetuning: everything that decides its result, for the training processes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import msgspec

from seatrial.artifact import Artifact
from seatrial.config import decode_json, encode_json
from seatrial.datasets.issues import ALL_ISSUES
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.detect.families import huggingface
from seatrial.detect.families.ultralytics import PAD_VALUE
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from seatrial.manifest import Preprocessing
from seatrial.system.files import write_atomically
from seatrial.train.recipe import Recipe

PLAN = "plan.json"
SCRATCH = "scratch:"
DEFAULT_PX = 640  # of an architecture of Ultralytics without weights
Trainer = Literal["transformers", "lightning", "ultralytics"]
TRAINERS: tuple[str, ...] = get_args(Trainer)
LIBRARY = {
    "transformers": "transformers",
    "lightning": "transformers",
    "ultralytics": "ultralytics",
}
"""Trainer -> format of the checkpoints that it starts from."""


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that a training starts from.

    Attributes:
        name: Name for messages and reports.
        family: Key of `PUBLISHED`.
        path: Folder of a transformers checkpoint, or an Ultralytics ``.pt``; from scratch, a folder
            with ``config.json``, or the name of one of Ultralytics' architectures.
        scratch: True for random weights: only the architecture is taken.
        digest: Digest of the artifact; None from scratch.
        labels: Classes that it detects; none from scratch.
        preprocessing: Preprocessing of its images; None for an architecture of Ultralytics.
        licence: Licence, as the manifest states it.
    """

    name: str
    family: str
    path: str
    scratch: bool = False
    digest: str | None = None
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    licence: str = "unknown"


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The labelled sets of a training.

    Attributes:
        train: Spec of the training set, as `read_labelled` takes it.
        val: Spec of the validation set; None for the split ``val`` of `train`.
        train_digest: Digest of the training labels.
        val_digest: Digest of the validation labels.
    """

    train: str
    val: str | None = None
    train_digest: str = ""
    val_digest: str = ""


class TrainingPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides the result of a run.

    Attributes:
        trainer: Library that trains.
        base: Model that the training starts from.
        data: Training and validation set.
        recipe: Complete recipe.
        labels: Classes of the result, by index.
        classes: Class of each category of the training set.
        new_head: True where the base detects other classes: its classification head starts anew.
    """

    trainer: Trainer
    base: Base
    data: Data
    recipe: Recipe
    labels: tuple[str, ...]
    classes: tuple[int, ...]
    new_head: bool


def write_plan(plan: TrainingPlan, run: Path) -> None:
    """Write the plan into a run's folder, atomically."""
    write_atomically(run / PLAN, encode_json(plan))


def read_plan(run: Path) -> TrainingPlan | None:
    """The plan of a run's folder; None where there is none.

    Raises:
        InvalidConfig: The plan is of another version.
    """
    file = run / PLAN
    if not file.is_file():
        return None
    try:
        return decode_json(file.read_bytes(), TrainingPlan, origin=str(file))
    except InvalidConfig as error:
        raise InvalidConfig(
            f"the run was begun by another version: {error.message}",
            hint="begin anew with --restart, or finish it with the version that began it",
        ) from error


def base_of(artifact: Artifact, trainer: Trainer) -> Base:
    """The checkpoint of an artifact, as the base of a training.

    Raises:
        InvalidInput: The artifact has no checkpoint, or one of another library.
    """
    manifest, library = artifact.manifest, LIBRARY[trainer]
    if library not in manifest.formats:
        have = ", ".join(manifest.formats)
        others = [t for t in TRAINERS if LIBRARY[t] in manifest.formats]
        raise InvalidInput(
            f"{manifest.name} has no weights that --trainer {trainer} can train; it has: {have}",
            hint=f"--trainer {others[0]}"
            if others
            else "start from the checkpoint that the graph was exported from",
        )
    family = "yolo"
    path = artifact.file(library)
    if library == "transformers":
        path = artifact.path
        family = read_facts(path).model_type
    return Base(
        name=manifest.name,
        family=family,
        path=str(path),
        digest=artifact.digest,
        labels=manifest.labels,
        preprocessing=manifest.preprocessing,
        licence=manifest.licence,
    )


def scratch_base(architecture: str, trainer: Trainer) -> Base:
    """An architecture with random weights, as the base of a training.

    Args:
        architecture: Folder with ``config.json``, or one of Ultralytics' names (``yolo11n``).
        trainer: Library that trains.

    Raises:
        InvalidInput: There is no such folder.
        InvalidArtifact: The folder describes no known detector.
    """
    if LIBRARY[trainer] == "ultralytics":
        return Base(
            name=architecture,
            family="yolo",
            path=architecture.removesuffix(".yaml"),
            scratch=True,
            licence="AGPL-3.0 License (https://ultralytics.com/license)",
        )
    folder = Path(architecture).expanduser()
    if not (folder / huggingface.CONFIG).is_file():
        raise InvalidInput(
            f"{folder} is not a folder with a {huggingface.CONFIG}",
            hint=f"--trainer {trainer} takes the architecture from a folder like a hub's, with "
            "or without weights",
        )
    facts = read_facts(folder)
    return Base(
        name=folder.name,
        family=facts.model_type,
        path=str(folder.resolve()),
        scratch=True,
        preprocessing=facts.preprocessing,
    )


def read_facts(folder: Path) -> huggingface.CheckpointFacts:
    """The facts in a folder's ``config.json`` and ``preprocessor_config.json``.

    Raises:
        InvalidArtifact: See `seatrial.detect.families.huggingface.read`.
    """
    preprocessor = folder / huggingface.PREPROCESSOR
    return huggingface.read(
        (folder / huggingface.CONFIG).read_bytes(),
        preprocessor.read_bytes() if preprocessor.is_file() else None,
    )


def read_sets(train: str, val: str | None, *, look: bool = True) -> tuple[LabelledSet, LabelledSet]:
    """Read the training and the validation set.

    Args:
        train: Spec of the training set, its split ``train``.
        val: Spec of the validation set, its split ``val``; None for that of `train`.
        look: Whether to read the headers of the images; not where this was done before.

    Raises:
        InvalidDataset: A set cannot be read or has no images, or both have images in common.
    """
    training = read_labelled(train, split="train", look=look)
    try:
        validation = read_labelled(val or train, split="val", look=look)
    except InvalidDataset as error:
        if ALL_ISSUES in error.hint:  # there is one, and it has an error
            raise
        hint = error.hint if val else "make one with seatrial data split, or name one with --val"
        raise InvalidDataset(f"no validation set: {error.message}", hint=hint) from error
    if val is not None and val != train:
        return training, validation
    both = {image.path.resolve() for image in training.images} & {
        image.path.resolve() for image in validation.images
    }
    if both:
        raise InvalidDataset(
            f"{len(both)} images are in the training and in the validation set, "
            f"{min(both).name} first",
            hint="split them: seatrial data split",
        )
    return training, validation


def settle(
    trainer: Trainer, base: Base, data: Data, recipe: Recipe, sets: tuple[LabelledSet, LabelledSet]
) -> TrainingPlan:
    """Decide on classes and canvas.

    Args:
        trainer: Library that trains.
        base: Model that the training starts from.
        data: Specs of the sets.
        recipe: Complete but for the size of the canvas.
        sets: Training and validation set.

    Raises:
        InvalidConfig: The canvas does not suit the family.
    """
    names = tuple(category.name for category in sets[0].categories)
    index = {_plain(label): number for number, label in enumerate(base.labels)}
    known = sorted(map(_plain, names)) == sorted(map(_plain, base.labels))
    return TrainingPlan(
        trainer=trainer,
        base=base,
        data=msgspec.structs.replace(
            data, train_digest=sets[0].digest(), val_digest=sets[1].digest()
        ),
        recipe=msgspec.structs.replace(recipe, image_size=_image_size(recipe, base)),
        labels=base.labels if known else names,
        classes=tuple(index[_plain(name)] if known else i for i, name in enumerate(names)),
        new_head=not known,
    )


def _plain(name: str) -> str:
    return name.casefold().strip()


def _image_size(recipe: Recipe, base: Base) -> int | tuple[int, int]:
    size = recipe.image_size
    own = base.preprocessing
    if not size:
        if own is None:
            return DEFAULT_PX
        if own.edges_px is not None:
            return own.edges_px[0]
        height, width = own.size_hw
        return height if height == width else (height, width)
    if base.family == "yolo" and any(s % 32 for s in ([size] if isinstance(size, int) else size)):
        raise InvalidConfig(f"image_size {size} for a YOLO", hint="use a multiple of 32")
    return size


def canvas(plan: TrainingPlan) -> Preprocessing:
    """Preprocessing of the model that is trained."""
    own, size = plan.base.preprocessing, plan.recipe.image_size
    side_hw = (size, size) if isinstance(size, int) else size
    if own is None:
        return Preprocessing(side_hw, "letterbox", PAD_VALUE)
    if own.edges_px is None:
        return msgspec.structs.replace(own, size_hw=side_hw)
    shortest, longest = own.edges_px
    edges = (min(side_hw), round(min(side_hw) * longest / shortest))
    grown = edges[1] / longest
    size_hw = (round(own.size_hw[0] * grown), round(own.size_hw[1] * grown))
    return msgspec.structs.replace(own, size_hw=size_hw, edges_px=edges)
