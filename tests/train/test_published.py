"""Published values: complete, each with a source, and the reference page has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.train.published import PUBLISHED, sources
from seatrial.train.read_recipe import read_recipe
from seatrial.train.recipe import USED_BY

FAMILIES = sorted(PUBLISHED)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recipe.md"


@pytest.mark.parametrize("family", FAMILIES)
def test_published_values_are_complete_and_have_a_source(family: str) -> None:
    recipe = read_recipe(None, family)
    found = sources(family, msgspec.to_builtins(recipe))
    tables = {"optimiser", "schedule", "ema", "augmentation"}
    plain: dict[str, Any] = msgspec.to_builtins(recipe)
    wanted = {f"{table}.{key}" for table in tables for key in plain[table]}
    unused = {f"augmentation.{key}" for key, families in USED_BY.items() if family not in families}
    assert (wanted | {"epochs", "batch", "patience"}) - unused <= set(found)
    assert unused.isdisjoint(found)
    assert all(found.values())


def test_values_that_were_given_have_no_source() -> None:
    recipe = read_recipe(None, "rt_detr", {"epochs": 7})
    found = sources("rt_detr", msgspec.to_builtins(recipe))
    assert "epochs" not in found
    assert "batch" in found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_has_the_source_of_every_default(family: str) -> None:
    part = PAGE.read_text().partition(f"`{family}`: {PUBLISHED[family].source}\n")[2]
    rows = part.partition("\n\n`")[0]
    for key, note in PUBLISHED[family].notes.items():
        assert f"| `{key}` | {note} |" in rows
