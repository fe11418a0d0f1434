"""Reading a recipe: unknown keys, defaults of the family, values that go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seatrial.errors import InvalidConfig
from seatrial.train.read_recipe import read_recipe
from seatrial.train.recipe import Recipe


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
        ("[augmentation]\nmulti_scale = [1.2, 0.8]", "detr", "not a range"),
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
    "text",
    [
        "[augmentation]\nmulti_scale = [0.5, 8.01]",
        "[augmentation]\nmulti_scale = [0.0, 1.0]",
        "epochs = 0",
        "batch = -1",
        'precision = "f64"',
        "[ema]\ndecay = 1.0",
        "epochs = ",
    ],
)
def test_values_out_of_range_are_errors(read: Any, text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"recipe\.toml"):
        read(text)
