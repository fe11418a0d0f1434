"""The recipe as text and on its reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.config import decode_toml
from seatrial.errors import InvalidConfig
from seatrial.train.published import PUBLISHED, sources
from seatrial.train.read_recipe import read_recipe
from seatrial.train.recipe import USED_BY, Recipe

FAMILIES = sorted(PUBLISHED)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recipe_is_read_back_from_its_own_text(family: str) -> None:
    recipe = read_recipe(None, family)
    text = recipe.to_toml(sources(family, msgspec.to_builtins(recipe)))
    assert "# " in text
    assert decode_toml(text.encode(), Recipe, origin="") == recipe


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recipe.md"
FAMILY_COLUMNS = ("detr", "rt_detr", "rt_detr_v2", "d_fine", "yolo")


def reference() -> dict[str, list[str]]:
    """Key as `sources` has it -> the cells of its row on the page."""
    found: dict[str, list[str]] = {}
    table = ""
    for line in PAGE.read_text().partition("## Sources")[0].splitlines():
        if line.startswith("## `["):
            table = line.removeprefix("## `[").removesuffix("]`") + "."
        if line.startswith("| `"):
            key, *cells = line.strip("| ").split(" | ")
            found[table + key.strip("`")] = cells
    return found


def shown(value: Any) -> str:
    """A value as the page has it."""
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{one:.4g}' for one in value)}]`"
    text = f'"{value}"' if isinstance(value, str) else value
    return f"`{text:.4g}`" if isinstance(value, float) else f"`{text}`"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_has_every_key_with_its_default(family: str) -> None:
    recipe = read_recipe(None, family)
    values: dict[str, Any] = {}
    for name in recipe.__struct_fields__:
        value = getattr(recipe, name)
        if isinstance(value, msgspec.Struct):
            inner = value.__struct_fields__
            values |= {f"{name}.{key}": getattr(value, key) for key in inner}
        else:
            values[name] = value
    unused = {f"augmentation.{key}" for key, families in USED_BY.items() if family not in families}
    column = 1 + FAMILY_COLUMNS.index(family)
    page = {key: cells[column] for key, cells in reference().items()}
    assert page == {key: "-" if key in unused else shown(v) for key, v in values.items()}


@pytest.mark.parametrize(
    ("factor", "allowed"), [(8, True), (8.01, False), (0.01, True), (0, False)]
)
def test_a_canvas_varies_up_to_eightfold(factor: float, allowed: bool) -> None:
    text = f"[augmentation]\nmulti_scale = [1.0, {factor}]"
    try:
        found = decode_toml(text.encode(), Recipe, origin="recipe.toml")
    except InvalidConfig:
        assert not allowed
    else:
        assert allowed
        assert found.augmentation.multi_scale == (1.0, factor)
