"""Reads a recipe, fills in the defaults of the family and checks that its values go together."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seatrial.config import flag, from_options, read_toml
from seatrial.errors import InvalidConfig
from seatrial.system.text import read_text
from seatrial.train.published import PUBLISHED
from seatrial.train.recipe import USED_BY, Recipe


def read_recipe(
    path: Path | None, family: str, overrules: Mapping[str, Any] | None = None
) -> Recipe:
    """Read a recipe and fill in the published values of the family.

    Args:
        path: TOML file; None for the published values alone.
        family: Key of `PUBLISHED`.
        overrules: Values that replace those of the file, in its tables.

    Raises:
        InvalidConfig: The file cannot be read; a key is unknown or not for this family; values
            are out of range or do not go together.
    """
    given: dict[str, Any] = {}
    if path is not None:
        read_toml(path, Recipe)  # unknown keys and wrong values are named here
        given = tomllib.loads(read_text(path, error=InvalidConfig))
    given = _merged(given, overrules or {})
    values = _merged(PUBLISHED[family].values, given)
    if "learning_rate" in given.get("optimiser", {}):
        values["optimiser"] |= _rates_by_hand(given["optimiser"], PUBLISHED[family].values)
    recipe = from_options(values, Recipe, flag)
    check(recipe, family, frozenset(given.get("augmentation", {})))
    return recipe


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        found[key] = _merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


def _rates_by_hand(given: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    """Values that follow from a learning rate in the recipe: optimiser and backbone's rate."""
    usual = published["optimiser"]
    follows: dict[str, Any] = {}
    if "kind" not in given and usual["kind"] == "auto":
        follows["kind"] = "adamw"
    if "backbone_learning_rate" not in given:
        ratio = usual["backbone_learning_rate"] / usual["learning_rate"]
        follows["backbone_learning_rate"] = given["learning_rate"] * ratio
    return follows


def check(recipe: Recipe, family: str, varied: frozenset[str] = frozenset()) -> None:
    """Check that values go together.

    Args:
        recipe: Complete recipe.
        family: Family of the model.
        varied: Keys of ``augmentation`` in the file.

    Raises:
        InvalidConfig: They do not; the hint has values that do.
    """
    for key in sorted(varied):
        if family not in USED_BY.get(key, {family}):
            raise InvalidConfig(
                f"augmentation.{key} is not for {family}",
                hint=f"it is for {', '.join(sorted(USED_BY[key]))}",
            )
    shares = recipe.compute.processes * recipe.accumulate
    if recipe.batch % shares:
        raise InvalidConfig(
            f"a batch of {recipe.batch} cannot be shared by {recipe.compute.processes} processes "
            f"in {recipe.accumulate} parts",
            hint=f"use a multiple of {shares}: batch counts the images of all processes",
        )
    if recipe.precision == "f16" and recipe.compute.device == "cpu":
        raise InvalidConfig("training in f16 needs a GPU", hint='precision = "bf16", or "f32"')
    sides = (recipe.image_size,) if isinstance(recipe.image_size, int) else recipe.image_size
    if recipe.image_size != 0 and not all(32 <= side <= 4096 for side in sides):
        raise InvalidConfig(f"image_size {recipe.image_size}", hint="use 32 to 4096 pixels")
    low, high = recipe.augmentation.multi_scale
    if low > high:
        raise InvalidConfig(
            f"augmentation.multi_scale [{low:g}, {high:g}] is not a range",
            hint="write the smaller number first",
        )
    if family != "yolo" and recipe.optimiser.kind in ("auto", "musgd"):
        raise InvalidConfig(
            f"optimiser.kind {recipe.optimiser.kind!r} is Ultralytics' own",
            hint="use adamw or sgd",
        )
    if family == "yolo":
        _check_yolo(recipe)


def _check_yolo(recipe: Recipe) -> None:
    low, high = recipe.augmentation.multi_scale
    if abs((1 - low) - (high - 1)) > 1e-6:
        raise InvalidConfig(
            f"augmentation.multi_scale [{low:g}, {high:g}]: Ultralytics' range is symmetric",
            hint="for example [0.75, 1.25]",
        )
    if isinstance(recipe.image_size, tuple):
        raise InvalidConfig("Ultralytics trains on squares", hint="image_size = 640")
    if recipe.schedule.kind not in ("linear", "cosine"):
        raise InvalidConfig(
            f"Ultralytics has no schedule {recipe.schedule.kind!r}", hint="use linear or cosine"
        )
    if recipe.compute.processes > 1 and recipe.compute.device == "cpu":
        raise InvalidConfig(
            "Ultralytics shares a batch among GPUs only",
            hint='compute.processes = 1, or device = "cuda"',
        )
    if recipe.ema.decay == 0:
        raise InvalidConfig("Ultralytics always averages the weights", hint="ema.decay over 0")
    if recipe.optimiser.learning_rate > 1:
        raise InvalidConfig(
            f"optimiser.learning_rate {recipe.optimiser.learning_rate:g}",
            hint="Ultralytics takes learning rates up to 1",
        )
    if recipe.optimiser.clip_norm != 10.0:
        raise InvalidConfig("Ultralytics always clips gradients at 10", hint="leave out clip_norm")
