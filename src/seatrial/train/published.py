"""The training that each family was published with: a recipe's defaults, and their sources."""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.train.recipe import USED_BY


class Published(msgspec.Struct, frozen=True):
    """The training that a family's published weights come from.

    Attributes:
        source: Source of most values.
        values: Values, in the tables of a recipe.
        notes: Key (``table.key`` in a table) -> source of this value, or how it differs.
    """

    source: str
    values: dict[str, Any]
    notes: dict[str, str] = {}


_PLAIN = {
    "hue": 0.0, "saturation": 0.0, "brightness": 0.0, "contrast": 0.0, "colour": 0.0,
    "zoom_out": 0.0, "crop": 0.0, "translate": 0.0, "scale": 0.0, "mosaic": 0.0,
    "vertical_flip": 0.0, "multi_scale": [1.0, 1.0], "plain_epochs": 0,
}  # fmt: skip
# torchvision's RandomPhotometricDistort, RandomZoomOut and RandomIoUCrop with their defaults.
_RT_DETR_AUGMENTATION = _PLAIN | {
    "flip": 0.5, "colour": 0.5, "hue": 0.05, "saturation": 0.5, "brightness": 0.125,
    "contrast": 0.5, "zoom_out": 0.5, "crop": 0.8, "multi_scale": [0.75, 1.25],
}  # fmt: skip
# What the transformers share; the batch is over all devices.
_TRANSFORMER: dict[str, Any] = {
    "batch": 16,
    "patience": 0,
    "optimiser": {
        "kind": "adamw", "learning_rate": 1e-4, "backbone_learning_rate": 1e-5,
        "weight_decay": 1e-4, "momentum": 0.9, "clip_norm": 0.1,
    },
    "schedule": {
        "kind": "constant", "warmup_steps": 0, "warmup_epochs": 0.0, "final": 1.0, "step_at": 1.0,
    },
    "ema": {"decay": 0.9999, "warmup_steps": 2000},
    "augmentation": _RT_DETR_AUGMENTATION,
}  # fmt: skip
_NO_PATIENCE = {"patience": "none published"}


def _transformer(**changes: Any) -> dict[str, Any]:
    """The values that the transformers share, with a family's own; in a table, key by key."""
    return _TRANSFORMER | {
        key: _TRANSFORMER[key] | value if isinstance(value, dict) else value
        for key, value in changes.items()
    }


PUBLISHED = {
    "detr": Published(
        "github.com/facebookresearch/detr, main.py",
        _transformer(
            epochs=300,
            schedule={"kind": "step", "final": 0.1, "step_at": 2 / 3},
            ema={"decay": 0.0, "warmup_steps": 0},
            augmentation=_PLAIN | {"flip": 0.5, "crop": 0.5, "multi_scale": [0.6, 1.0]},
        ),
        _NO_PATIENCE | {
            "batch": "README: 2 on each of 8 GPUs",
            "schedule.step_at": "main.py: lr_drop 200 of 300 epochs",
            "augmentation.multi_scale": "datasets/coco.py: shorter edge 480 to 800",
            "augmentation.crop": "datasets/coco.py; there of 384 to 600 pixels, here by IoU",
        },
    ),
    "rt_detr": Published(
        "github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/configs/rtdetr/include",
        _transformer(epochs=72),
        _NO_PATIENCE | {
            "schedule.kind": "optimizer.yml: its milestone lies behind the last epoch",
            "augmentation.multi_scale": "zoo/rtdetr: 480 to 800 of 640",
        },
    ),
    "rt_detr_v2": Published(
        "github.com/lyuwenyu/RT-DETR, rtdetrv2_pytorch/configs/rtdetrv2/include",
        _transformer(
            epochs=72, schedule={"warmup_steps": 2000}, augmentation={"plain_epochs": 1}
        ),
        _NO_PATIENCE | {
            "schedule.kind": "optimizer.yml: its milestone lies behind the last epoch",
            "augmentation.multi_scale": "dataloader.yml: 480 to 800 of 640",
            "augmentation.plain_epochs": "dataloader.yml: stop_epoch 71 of 72",
        },
    ),
    "d_fine": Published(
        "github.com/Peterande/D-FINE, configs/dfine/dfine_hgnetv2_l_coco.yml",
        _transformer(
            epochs=80,
            batch=32,
            optimiser={
                "learning_rate": 2.5e-4, "backbone_learning_rate": 1.25e-5, "weight_decay": 1.25e-4,
            },
            schedule={"warmup_steps": 500},
            ema={"warmup_steps": 1000},
            augmentation={"plain_epochs": 8},
        ),
        _NO_PATIENCE | {
            "batch": "README, Customizing Batch Size",
            "optimiser.backbone_learning_rate": "of D-FINE-L; D-FINE-S has half the learning rate",
            "schedule.kind": "include/optimizer.yml: its milestone lies behind the last epoch",
            "schedule.warmup_steps": "include/optimizer.yml",
            "ema.warmup_steps": "include/optimizer.yml",
            "augmentation.multi_scale": "include/dataloader.yml: 480 to 800 of 640",
            "augmentation.plain_epochs": "the policy ends at epoch 72 of 80",
        },
    ),
    "yolo": Published(
        "Ultralytics, cfg/default.yaml",
        {
            "epochs": 100,
            "batch": 16,
            "patience": 100,
            "optimiser": {
                "kind": "auto", "learning_rate": 0.01, "backbone_learning_rate": 0.01,
                "weight_decay": 5e-4, "momentum": 0.937, "clip_norm": 10.0,
            },
            "schedule": {
                "kind": "linear", "warmup_steps": 0, "warmup_epochs": 3.0, "final": 0.01,
                "step_at": 1.0,
            },
            "ema": {"decay": 0.9999, "warmup_steps": 2000},
            "augmentation": _PLAIN | {
                "flip": 0.5, "hue": 0.015, "saturation": 0.7, "brightness": 0.4,
                "translate": 0.1, "scale": 0.5, "mosaic": 1.0, "plain_epochs": 10,
            },
        },
        {
            "batch": "a step is taken after each: its nbs of 64 would add up 4 of them",
            "optimiser.kind": "chooses AdamW or MuSGD, and the learning rate, by steps and classes",
            "optimiser.clip_norm": "engine/trainer.py, optimizer_step",
            "ema.decay": "utils/torch_utils.py, ModelEMA",
            "ema.warmup_steps": "utils/torch_utils.py, ModelEMA",
            "augmentation.plain_epochs": "close_mosaic: only the mosaic is left out",
        },
    ),
}  # fmt: skip


def sources(family: str, recipe: dict[str, Any]) -> dict[str, str]:
    """Sources of a recipe's values, by key as `Recipe.to_toml` takes comments.

    Args:
        family: Key of `PUBLISHED`.
        recipe: Complete recipe, as builtins; a value that is not the published one has no source.
    """
    published = PUBLISHED[family]
    found = {}
    for key, value in published.values.items():
        table = value if isinstance(value, dict) else {"": value}
        own = recipe[key] if isinstance(value, dict) else {"": recipe[key]}
        for name, usual in table.items():
            given = list(own[name]) if isinstance(usual, list) else own[name]
            path = f"{key}.{name}" if name else key
            used = key != "augmentation" or family in USED_BY.get(name, {family})
            if given == usual and used:
                found[path] = published.notes.get(path, published.source)
    return found
