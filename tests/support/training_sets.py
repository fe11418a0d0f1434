"""Small labelled sets, and small networks of the real architectures to train on them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import torchvision_operators
from packages import skip_without
from seatrial.train.plan import (
    Data,
    Trainer,
    TrainingPlan,
    read_sets,
    scratch_base,
    settle,
    write_plan,
)
from seatrial.train.read_recipe import read_recipe
from training_processes import Trainings

SIDE_PX = 96
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 230)}


def build_images(
    folder: Path, counts: dict[str, int], *, sides_px: tuple[int, int] = (18, 34), seed: int = 0
) -> Path:
    """Squares of three colours on noise, as a YOLO folder.

    Args:
        folder: New folder of the set.
        counts: Split -> number of images.
        sides_px: Shortest and longest side of a square, at most 48.
        seed: Seed of all random numbers.
    """
    for number, (split, count) in enumerate(counts.items()):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(count):
            draw = np.random.default_rng([seed, number, index])
            pixels = draw.integers(90, 140, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
            rows = []
            # One square in each quarter that is drawn, so that none covers another.
            for quarter in draw.permutation(4)[: draw.integers(2, 4)].tolist():
                kind = int(draw.integers(3))
                side = int(draw.integers(sides_px[0], sides_px[1] + 1))
                left = (quarter % 2) * 48 + int(draw.integers(0, 49 - side))
                top = (quarter // 2) * 48 + int(draw.integers(0, 49 - side))
                pixels[top : top + side, left : left + side] = list(COLOURS.values())[kind]
                box = [left + side / 2, top + side / 2, side, side]
                rows.append(" ".join([str(kind), *(f"{value / SIDE_PX:.6f}" for value in box)]))
            Image.fromarray(pixels).save(images / f"{index:03}.png")
            (labels / f"{index:03}.txt").write_text("\n".join(rows) + "\n")
    splits = "".join(f"{split}: images/{split}\n" for split in counts)
    (folder / "data.yaml").write_text(f"{splits}names: {json.dumps(list(COLOURS))}\n")
    return folder


def build_networks(library: Any, folder: Path) -> dict[str, Path]:
    """Kind -> folder with the ``config.json`` of a small network, without weights."""
    residual = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
    labels = {
        "id2label": dict(enumerate(COLOURS)),
        "label2id": {c: i for i, c in enumerate(COLOURS)},
    }
    three = ["stage2", "stage3", "stage4"]
    shared = {
        "encoder_hidden_dim": 32, "feat_strides": [8, 16, 32], "encoder_ffn_dim": 64,
        "encoder_attention_heads": 2, "d_model": 32, "num_queries": 12, "num_denoising": 0,
        "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 64, "decoder_layers": 2,
        "decoder_attention_heads": 2, **labels,
    }  # fmt: skip
    configs = {
        "detr": library.DetrConfig(
            backbone_config=library.ResNetConfig(
                **residual, layer_type="basic", out_features=["stage4"]
            ),
            d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=12,
            dropout=0.0, **labels,
        ),
        "rt_detr": library.RTDetrConfig(
            backbone_config=library.RTDetrResNetConfig(
                **residual, layer_type="basic", out_features=three
            ),
            encoder_in_channels=[24, 32, 48], decoder_n_points=2, freeze_backbone_batch_norms=False,
            **shared,
        ),
        "rt_detr_v2": library.RTDetrV2Config(
            backbone_config=library.RTDetrResNetConfig(
                **residual, layer_type="basic", out_features=three
            ),
            encoder_in_channels=[24, 32, 48], decoder_n_points=2, freeze_backbone_batch_norms=False,
            **shared,
        ),
        "d_fine": library.DFineConfig(
            backbone_config=library.HGNetV2Config(
                hidden_sizes=[16, 32, 48, 64], stem_channels=[3, 8, 8],
                stage_in_channels=[8, 16, 32, 48], stage_mid_channels=[8, 8, 16, 16],
                stage_out_channels=[16, 32, 48, 64], stage_num_blocks=[1, 1, 1, 1],
                stage_numb_of_layers=[2, 2, 2, 2], out_features=three,
            ),
            encoder_in_channels=[32, 48, 64], decoder_n_points=[2, 2, 2],
            freeze_backbone_batch_norms=False, **shared,
        ),
    }  # fmt: skip
    plain = {"do_normalize": False, "size": {"height": SIDE_PX, "width": SIDE_PX}, "resample": 2}
    edges = {"do_normalize": True, "size": {"shortest_edge": SIDE_PX, "longest_edge": 160}}
    found = {}
    for kind, config in configs.items():
        found[kind] = folder / kind
        config.save_pretrained(found[kind])
        text = json.dumps(edges if kind == "detr" else plain)
        (found[kind] / "preprocessor_config.json").write_text(text)
    return found


@pytest.fixture(scope="session")
def trainings() -> Trainings:
    """Starts trainings in separate processes."""
    skip_without("torch", "transformers", "accelerate", "lightning", extra="train")
    return Trainings()


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 training and 8 validation images, as `--data` takes them."""
    return f"yolo:{build_images(tmp_path_factory.mktemp('cells') / 'set', {'train': 24, 'val': 8})}"


@pytest.fixture(scope="session")
def networks(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> folder with the configuration of a small network."""
    return build_networks(transformers, tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def settle_plan(
    cells: str, networks: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TrainingPlan]:
    """Settles a plan: ``settle_plan("lightning", "rt_detr", "epochs = 3")``."""

    def make(trainer: Trainer, kind: str, recipe: str, data: str = cells) -> TrainingPlan:
        file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
        file.write_text(recipe)
        base = scratch_base(str(networks[kind]), trainer)
        asked = read_recipe(file, base.family)
        return settle(trainer, base, Data(data), asked, read_sets(data, None))

    return make


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TrainingPlan], Path]:
    """Makes a run's folder with a plan in it."""

    def make(plan: TrainingPlan) -> Path:
        run = tmp_path_factory.mktemp("run")
        write_plan(plan, run)
        return run

    return make


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    """16 training images, and copies of them to validate on."""
    folder = build_images(tmp_path_factory.mktemp("few") / "set", {"train": 16}, sides_px=(38, 46))
    for kind in ("images", "labels"):
        shutil.copytree(folder / kind / "train", folder / kind / "val")
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(f"{text}val: images/val\n")
    return f"yolo:{folder}"


def support_environment() -> dict[str, str]:
    """Environment in which other Pythons find torchvision's operators."""
    paths = [*torchvision_operators.for_children(), *(p for p in sys.path if p)]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


@pytest.fixture(scope="session")
def support_path() -> dict[str, str]:
    """See `support_environment`."""
    return support_environment()
