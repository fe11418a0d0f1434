"""The family of a model file, by what the file says and what a person says."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec

from seatrial.config import flag
from seatrial.detect.families.base import UNNAMED, Recognition
from seatrial.detect.families.coco import COCO_CATEGORY_IDS, COCO_NAMES
from seatrial.detect.families.registry import families, possible
from seatrial.errors import InvalidArtifact, InvalidConfig, InvalidInput, UnknownFamily
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Preprocessing, TensorSpec
from seatrial.models import description
from seatrial.models.facts import ModelFacts, Triple
from seatrial.report.numbers import counted
from seatrial.system.text import numbered_names, read_text

LABELS_FILE = "labels.txt"
COCO = "coco"
SPARSE = COCO_CATEGORY_IDS[-1] + 1  # columns where the number of a class is its category id
BACKGROUND = "background_column"
SIDES_PX = range(1, 16_385)


def recognise(graph: GraphSignature, path: Path, told: ModelFacts) -> tuple[str, Recognition]:
    """Find the family of a model file, by what the file and a person say.

    Args:
        graph: Signature of the file, with the descriptions beside it in its metadata.
        path: The file.
        told: What a person says.

    Returns:
        Name of the family; and the facts, with the labels of all classes.

    Raises:
        UnknownFamily: No family supports the layout, or several do and nobody says which.
        InvalidArtifact: A family supports the layout and the file cannot be served, its classes
            have no names, or the names are of another number.
        InvalidConfig: A stated fact is out of its range, or does not go with the others.
    """
    graph = _sized(graph, told.imgsz)
    command = f"seatrial models import {shlex.quote(str(path))}"
    stated = "".join(f" {flag(key)} {_word(value)}" for key, value in told.given().items())
    own = description.read(graph) if told.family is None else None
    found = [own] if own else possible(graph, origin=path.name, family=told.family)
    name, facts = found[0]
    if told.family is None and not facts.certain:
        ways = [
            f"{command} --family {name}{_labels_option(facts, graph, told)}{stated}"
            for name, facts in found
        ]
        raise UnknownFamily(
            f"{path.name} does not say what kind of detector it is; by its outputs it may be "
            f"{' or '.join(name for name, _ in found)}",
            hint=f"say it: {'; or '.join(ways)}",
        )
    labels = _labels(facts, graph, told)
    if not labels:
        raise InvalidArtifact(
            f"{path.name} is of the family {name} and does not name its classes",
            hint=f"say them: {command}{_labels_option(facts, graph, told)}{stated}",
        )
    facts = msgspec.structs.replace(_changed(facts, told), **_numbered(labels, facts, path.name))
    _check(facts, path.name)
    return name, facts


def other_families(path: Path, name: str) -> str:
    """The hint for a file that is not of the family that it was taken for: how to say another."""
    others = ", ".join(other for other in families() if other != name)
    return (
        f"say what it is: seatrial models import {shlex.quote(str(path))} --family NAME "
        f"({others}); or export it again"
    )


def step_config(facts: Recognition, told: ModelFacts) -> dict[str, Any]:
    """Configuration of the import, for the manifest's step."""
    plain: dict[str, Any] = {"scale": facts.scale, **facts.facts}
    if facts.mean_std is not None:
        plain |= {"mean": facts.mean_std[0], "std": facts.mean_std[1]}
    return plain | {"channels": facts.channels} | ({"told": told.given()} if told.given() else {})


def _check(facts: Recognition, name: str) -> None:
    """Check what no type of a description checks.

    Raises:
        InvalidArtifact: A size or a grey level is out of range, or a class has a blank name.
    """
    rules = facts.preprocessing
    sides = (*rules.size_hw, *(rules.edges_px or ()))
    if not all(side in SIDES_PX for side in sides):
        raise InvalidArtifact(
            f"{name} says that images are fitted to {' x '.join(map(str, sides))} pixels",
            hint=f"a side has {SIDES_PX[0]} to {SIDES_PX[-1]} pixels: correct its description",
        )
    if rules.pad_value not in range(256):
        raise InvalidArtifact(
            f"{name} says that images are padded with {rules.pad_value}, not 0-255"
        )
    if blank := [number for number, label in enumerate(facts.labels) if not label.strip()]:
        raise InvalidArtifact(
            f"{name} has no name for class {blank[0]}", hint="name it; N/A for a class without one"
        )


def _sized(graph: GraphSignature, imgsz: tuple[int, int] | None) -> GraphSignature:
    """The signature on a stated canvas.

    Raises:
        InvalidConfig: The graph is fixed to another one.
    """
    if imgsz is None or not graph.inputs:
        return graph
    image, *others = graph.inputs
    fixed = graph.image_hw()
    if fixed not in (None, imgsz):
        raise InvalidConfig(
            f"--imgsz {imgsz[0]}x{imgsz[1]}: the model takes images of {fixed[0]}x{fixed[1]} alone"
        )
    shape = (*image.shape[:2], *imgsz) if image.dtype != "uint8" else image.shape
    first = TensorSpec(image.name, image.dtype, shape, image.layout)
    return msgspec.structs.replace(graph, inputs=(first, *others))


def _labels(facts: Recognition, graph: GraphSignature, told: ModelFacts) -> tuple[str, ...]:
    """The stated names, else the file's, else those in ``labels.txt`` beside it; or none."""
    if told.labels == COCO:
        return coco_labels(facts.classes)
    if told.labels is not None:
        names = numbered_names(read_text(Path(told.labels).expanduser()), origin=told.labels)
        if not names:
            raise InvalidInput(f"{told.labels} holds no names", hint="write one name a line")
        return names
    listed = graph.metadata.get(LABELS_FILE, "")
    return facts.labels or numbered_names(listed, origin=LABELS_FILE, error=InvalidArtifact)


def coco_labels(classes: int | None) -> tuple[str, ...]:
    """COCO's class names: the 80 that have objects, or for 91 classes those by ``category_id``."""
    if classes != SPARSE:
        return COCO_NAMES
    by_id = dict(zip(COCO_CATEGORY_IDS, COCO_NAMES, strict=True))
    return tuple(by_id.get(number, UNNAMED) for number in range(classes))


def _numbered(labels: tuple[str, ...], facts: Recognition, name: str) -> dict[str, Any]:
    """The labels of all classes, and the column that was taken for the background.

    RF-DETR's weights on COCO have a column for each category id and leave column 0 empty. One that
    is trained on categories numbered from 0 has its background in the last column, see
    https://rfdetr.roboflow.com/latest/exports/onnx/.

    Returns:
        Changes to the facts.

    Raises:
        InvalidArtifact: They are of another number than the outputs have classes.
    """
    if facts.classes is None or len(labels) == facts.classes:
        return {"labels": labels}
    if facts.background and facts.classes == SPARSE and _are_cocos(labels):
        return _background(coco_labels(SPARSE), 0, facts)
    if facts.background and len(labels) == facts.classes - 1:
        return _background((*labels, UNNAMED), len(labels), facts)
    raise InvalidArtifact(
        f"{name} has {counted(facts.classes, 'class', 'classes')} and the labels are "
        f"{len(labels)}, {labels[0]!r} first",
        hint="give the names that it was trained with (--labels FILE), one a line, class 0 first",
    )


def _are_cocos(labels: tuple[str, ...]) -> bool:
    """Whether the labels are COCO's 80 names, or those of its category ids from 1 to 90."""
    if len(labels) == COCO_CATEGORY_IDS[-1]:
        labels = tuple(labels[number - 1] for number in COCO_CATEGORY_IDS)
    return labels == COCO_NAMES


def _background(labels: tuple[str, ...], column: int, facts: Recognition) -> dict[str, Any]:
    return {"labels": labels, "facts": {**facts.facts, BACKGROUND: str(column)}}


def background_note(config: dict[str, Any]) -> str:
    """The column that an import took for the background, in words; empty where it took none.

    Args:
        config: Configuration of the import, see `step_config`.
    """
    if BACKGROUND not in config:
        return ""
    column = config[BACKGROUND]
    why = "its names are COCO's" if column == "0" else "the names begin at class 0"
    return (
        f"column {column} of its scores is taken as the background, {why}; where another column "
        f"is, import it again with --labels FILE: one name for each column, {UNNAMED} for the "
        "background"
    )


def _labels_option(facts: Recognition, graph: GraphSignature, told: ModelFacts) -> str:
    if told.labels or _labels(facts, graph, told):
        return ""
    known = (len(COCO_NAMES), SPARSE)
    return f" --labels {COCO if facts.classes in known else 'FILE'}"


def _changed(facts: Recognition, told: ModelFacts) -> Recognition:
    """The facts with those that a person states.

    Raises:
        InvalidConfig: A mean without a deviation, a deviation of 0, or values of another range.
    """
    changes: dict[str, Any] = {}
    if told.channels is not None:
        changes["channels"] = told.channels
    if told.mean is not None or told.std is not None:
        changes |= {"scale": 1.0, "mean_std": _mean_std(told.mean, told.std)}
    if told.resize is not None:
        old = facts.preprocessing
        resize, align = told.resize, "center"
        if told.resize == "letterbox-top-left":
            resize, align = "letterbox", "top_left"
        # Where the family stretches antialiased, a letterbox is antialiased too.
        changes["preprocessing"] = Preprocessing(
            old.size_hw,
            resize,  # type: ignore[arg-type]
            old.pad_value,
            antialias=old.antialias,
            align=align,  # type: ignore[arg-type]
            interpolation=old.interpolation,
        )
    return msgspec.structs.replace(facts, **changes)


def _mean_std(mean: Triple | None, std: Triple | None) -> tuple[Triple, Triple]:
    if std is None:
        raise InvalidConfig(
            "--mean without --std",
            hint="add --std 1 for a model that takes pixel values less their mean, else its "
            "deviations: 58.395,57.12,57.375 of ImageNet's red, green and blue",
        )
    mean = mean or (0.0, 0.0, 0.0)
    if min(std) <= 0:
        raise InvalidConfig(f"--std {_word(std)}: a deviation must be above 0")
    if max(std) < 1:  # of values from 0 to 1
        times = ",".join(f"{value * 255:g}" for value in mean)
        over = ",".join(f"{value * 255:g}" for value in std)
        raise InvalidConfig(
            f"--std {_word(std)} is of pixel values from 0 to 1; here they go from 0 to 255",
            hint=f"multiply by 255: --mean {times} --std {over}",
        )
    return mean, std


def _word(value: object) -> str:
    if isinstance(value, tuple):
        separator = "x" if all(isinstance(part, int) for part in value) else ","
        return separator.join(f"{part:g}" for part in value)
    return shlex.quote(str(value))
