"""The recipe: unknown keys, what the families were published with, what goes together."""

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


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def from_text(text: str, family: str = "rt_detr", **overrules: Any) -> Recipe:
        file = tmp_path / "recipe.toml"
        file.write_text(text)
        return read_recipe(file, family, overrules)

    return from_text


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("epoch = 3", "epoch", "epochs"),
        ("[optimiser]\nlearning_rat = 0.1", "optimiser.learning_rat", "learning_rate"),
        ("[augmentation]\nmozaic = 1.0", "augmentation.mozaic", "mosaic"),
        ("[early_stopping]\npatience = 3", "early_stopping", None),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    read: Any, text: str, key: str, nearest: str | None
) -> None:
    with pytest.raises(InvalidConfig, match=f"unknown key '{key}'") as caught:
        read(text)
    if nearest is not None:
        assert caught.value.hint == f"did you mean {nearest!r}?"


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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_recipe_is_read_back_from_its_own_text(family: str) -> None:
    recipe = read_recipe(None, family)
    text = recipe.to_toml(sources(family, msgspec.to_builtins(recipe)))
    assert "# " in text
    assert decode_toml(text.encode(), Recipe, origin="") == recipe


def test_values_that_were_given_have_no_source(read: Any) -> None:
    recipe = read("epochs = 7")
    assert "epochs" not in sources("rt_detr", msgspec.to_builtins(recipe))


@pytest.mark.parametrize(
    ("family", "ratio"), [("detr", 0.1), ("rt_detr", 0.1), ("d_fine", 0.05), ("yolo", 1.0)]
)
def test_the_backbones_learning_rate_follows_one_that_was_given(
    read: Any, family: str, ratio: float
) -> None:
    rates = read("[optimiser]\nlearning_rate = 0.003", family).optimiser
    assert rates.backbone_learning_rate == pytest.approx(0.003 * ratio)
    assert rates.kind == "adamw"  # Ultralytics' own choice would not be that rate
    given = "[optimiser]\nlearning_rate = 0.003\nbackbone_learning_rate = 0.0"
    assert read(given, family).optimiser.backbone_learning_rate == 0.0


def test_options_overrule_the_file(read: Any) -> None:
    recipe = read("epochs = 7\n[compute]\nthreads = 2", epochs=3, compute={"processes": 2})
    assert (recipe.epochs, recipe.compute.threads, recipe.compute.processes) == (3, 2, 2)
    with pytest.raises(InvalidConfig, match="epochs"):
        read("", epochs=0)


@pytest.mark.parametrize(
    ("text", "family", "words"),
    [
        ("batch = 6\n[compute]\nprocesses = 4", "detr", "cannot be shared by 4 processes"),
        ("batch = 8\naccumulate = 3", "detr", "in 3 parts"),
        ('precision = "f16"', "detr", "needs a GPU"),
        ("image_size = 16", "detr", "image_size 16"),
        ("[augmentation]\nmosaic = 1.0", "detr", "augmentation.mosaic is not for detr"),
        ("[augmentation]\ncrop = 1.0", "yolo", "augmentation.crop is not for yolo"),
        ("[augmentation]\nmulti_scale = [1.2, 0.8]", "detr", "no range"),
        ("[augmentation]\nmulti_scale = [0.5, 1.2]", "yolo", "symmetric"),
        ('[optimiser]\nkind = "auto"', "detr", "Ultralytics' own"),
        ('[schedule]\nkind = "step"', "yolo", "no schedule 'step'"),
        ("image_size = [320, 640]", "yolo", "squares"),
        ("[compute]\nprocesses = 2", "yolo", "GPUs only"),
        ("[ema]\ndecay = 0.0", "yolo", "averages"),
        ("[optimiser]\nlearning_rate = 2.0", "yolo", "learning_rate 2"),
        ("[optimiser]\nclip_norm = 1.0", "yolo", "clips gradients at 10"),
    ],
)
def test_what_does_not_go_together_is_said_so(
    read: Any, text: str, family: str, words: str
) -> None:
    with pytest.raises(InvalidConfig, match=words):
        read(text, family)


@pytest.mark.parametrize(
    "text", ["epochs = 0", "batch = -1", 'precision = "f64"', "[ema]\ndecay = 1.0", "epochs = "]
)
def test_values_out_of_range_are_errors(read: Any, text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"recipe\.toml"):
        read(text)


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


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_has_the_source_of_every_default(family: str) -> None:
    part = PAGE.read_text().partition(f"`{family}`: {PUBLISHED[family].source}\n")[2]
    rows = part.partition("\n\n`")[0]
    for key, note in PUBLISHED[family].notes.items():
        assert f"| `{key}` | {note} |" in rows
