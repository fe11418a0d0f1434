"""A finetuning, settled: what the processes that train are told, and what a run is known by."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import msgspec

from seatrial.artifact import Artifact, Preprocessing
from seatrial.config import decode_json
from seatrial.datasets.labels import LabelledSet, read_labelled
from seatrial.detect.families import huggingface, yolo
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from seatrial.train.recipe import Recipe

PLAN = "plan.json"
SCRATCH = "scratch:"
DEFAULT_PX = 640  # of an architecture of Ultralytics that has seen no picture yet
Trainer = Literal["transformers", "lightning", "ultralytics"]
TRAINERS: tuple[str, ...] = get_args(Trainer)
LIBRARY = {
    "transformers": "transformers",
    "lightning": "transformers",
    "ultralytics": "ultralytics",
}
"""Trainer -> format of the checkpoints that it begins with."""


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a training begins with.

    Attributes:
        name: In words.
        family: Key of `PUBLISHED`.
        path: Folder of a transformers checkpoint, an Ultralytics ``.pt``; from scratch, a folder
            with ``config.json`` or the name of one of Ultralytics' architectures.
        scratch: Random weights: the architecture alone is taken.
        digest: Of the artifact; None from scratch.
        labels: What it detects; none from scratch.
        preprocessing: Of its pictures; None for an architecture of Ultralytics.
        licence: As the manifest states it.
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
    """Where the pictures are: specs as `read_labelled` takes them, and digests of the labels."""

    train: str
    val: str | None = None  # None: of `train`, its split val
    train_digest: str = ""
    val_digest: str = ""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that decides the result of a run.

    Attributes:
        labels: Of the result; the index is the class.
        classes: For each category of the training set, its class.
        new_head: The base detects other things: its classification head begins anew.
    """

    trainer: Trainer
    base: Base
    data: Data
    recipe: Recipe
    labels: tuple[str, ...]
    classes: tuple[int, ...]
    new_head: bool


def write_plan(plan: Plan, run: Path) -> None:
    """Write the plan into a run's folder, whole or not at all."""
    part = run / f".{PLAN}"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1))
    os.replace(part, run / PLAN)


def read_plan(run: Path) -> Plan | None:
    """The plan of a run's folder; None where there is none.

    Raises:
        InvalidConfig: It is of another version.
    """
    file = run / PLAN
    return decode_json(file.read_bytes(), Plan, origin=str(file)) if file.is_file() else None


def base_of(artifact: Artifact, trainer: Trainer) -> Base:
    """A checkpoint to begin with.

    Raises:
        InvalidInput: It has no checkpoint, or one of another library.
    """
    manifest, library = artifact.manifest, LIBRARY[trainer]
    if library not in manifest.formats:
        have = ", ".join(manifest.formats)
        others = [t for t in TRAINERS if LIBRARY[t] in manifest.formats]
        raise InvalidInput(
            f"{manifest.name} has no weights that --trainer {trainer} can train; it has: {have}",
            hint=f"--trainer {others[0]}"
            if others
            else "begin with the checkpoint that the graph was exported from",
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
    """An architecture to begin with, its weights drawn at random.

    Args:
        architecture: A folder with ``config.json``, or one of Ultralytics' (``yolo11n``).
        trainer: Which trains it.

    Raises:
        InvalidInput: There is no such folder.
        InvalidArtifact: It describes no detector that is known.
    """
    if LIBRARY[trainer] == "ultralytics":
        return Base(
            name=architecture, family="yolo", path=architecture.removesuffix(".yaml"), scratch=True,
            licence="AGPL-3.0 License (https://ultralytics.com/license)",
        )  # fmt: skip
    folder = Path(architecture).expanduser()
    if not (folder / huggingface.CONFIG).is_file():
        raise InvalidInput(
            f"{folder} is no folder with a {huggingface.CONFIG}",
            hint=f"--trainer {trainer} takes the architecture from a folder like a hub's, "
            "weights or not",
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
    """What a folder's ``config.json`` and ``preprocessor_config.json`` say.

    Raises:
        InvalidArtifact: See `seatrial.detect.families.huggingface.read`.
    """
    preprocessor = folder / huggingface.PREPROCESSOR
    return huggingface.read(
        (folder / huggingface.CONFIG).read_bytes(),
        preprocessor.read_bytes() if preprocessor.is_file() else None,
    )


def read_sets(train: str, val: str | None) -> tuple[LabelledSet, LabelledSet]:
    """Read the two sets, and see that they can be told one from the other.

    Args:
        train: Spec of the training set, its split ``train``.
        val: Spec of the validation set, its split ``val``; None for that of `train`.

    Raises:
        InvalidDataset: A set cannot be read, or the two share pictures.
    """
    training = read_labelled(train, split="train")
    try:
        validation = read_labelled(val or train, split="val")
    except InvalidDataset as error:
        hint = error.hint if val else "make one with seatrial data split, or name one with --val"
        raise InvalidDataset(f"no validation set: {error.message}", hint=hint) from error
    if val is not None and val != train:
        return training, validation
    both = {image.path.resolve() for image in training.images} & {
        image.path.resolve() for image in validation.images
    }
    if both:
        raise InvalidDataset(
            f"{len(both)} pictures are in the training and in the validation set, "
            f"{min(both).name} first",
            hint="split them: seatrial data split",
        )
    return training, validation


def settle(
    trainer: Trainer, base: Base, data: Data, recipe: Recipe, sets: tuple[LabelledSet, LabelledSet]
) -> Plan:
    """Decide on classes and canvas.

    Args:
        trainer: Which trains.
        base: What it begins with.
        data: Where the sets are.
        recipe: Complete, but for the size of the canvas.
        sets: Training and validation.

    Raises:
        InvalidConfig: The canvas does not suit the family.
    """
    names = tuple(category.name for category in sets[0].categories)
    order = {_plain(label): number for number, label in enumerate(base.labels)}
    known = sorted(map(_plain, names)) == sorted(map(_plain, base.labels))
    labels = base.labels if known else names
    classes = tuple(order[_plain(name)] for name in names) if known else tuple(range(len(names)))
    data = msgspec.structs.replace(data, train_digest=sets[0].digest(), val_digest=sets[1].digest())
    recipe = msgspec.structs.replace(recipe, image_size=_image_size(recipe, base))
    return Plan(trainer, base, data, recipe, labels, classes, new_head=not known)


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


def canvas(plan: Plan) -> Preprocessing:
    """How pictures go into the model that is trained."""
    own, size = plan.base.preprocessing, plan.recipe.image_size
    side_hw = (size, size) if isinstance(size, int) else size
    if own is None:
        return Preprocessing(side_hw, "letterbox", yolo.PAD_VALUE)
    if own.edges_px is None:
        return msgspec.structs.replace(own, size_hw=side_hw)
    shortest, longest = own.edges_px
    edges = (min(side_hw), round(min(side_hw) * longest / shortest))
    grown = edges[1] / longest
    size_hw = (round(own.size_hw[0] * grown), round(own.size_hw[1] * grown))
    return msgspec.structs.replace(own, size_hw=size_hw, edges_px=edges)
