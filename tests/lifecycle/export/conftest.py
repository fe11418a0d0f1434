"""Pictures of different sizes, and small seeded checkpoints of the real architectures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.artifact import Artifact, Store
from seatrial.lifecycle.checkpoints import import_transformers

LABELS = ("red", "green", "blue")
KINDS = ("detr", "rt_detr", "rt_detr_v2", "d_fine")
SIZE = {"height": 128, "width": 160}
EDGES = {"shortest_edge": 96, "longest_edge": 160}


@pytest.fixture(scope="session")
def pictures(
    tmp_path_factory: pytest.TempPathFactory,
    picture: Callable[..., Image.Image],
    encode: Callable[..., bytes],
) -> Path:
    """Six pictures of coloured cells, no two of one shape, and their labels in COCO's format."""
    folder = tmp_path_factory.mktemp("pictures")
    truth: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(LABELS)],
    }
    shapes = [(8, 8), (6, 8), (8, 6), (7, 9), (9, 6), (6, 9)]
    for number, (rows, columns) in enumerate(shapes, 1):
        cells = {(2, 2): "red", (rows - 2, columns - 2): "blue", (2, columns - 2): "green"}
        name = f"{number:02}.png"
        image = picture(cells, cells_hw=(rows, columns))
        (folder / name).write_bytes(encode(image, "PNG"))
        truth["images"].append(
            {"id": number, "file_name": name, "width": image.width, "height": image.height}
        )
        for (row, column), colour in cells.items():
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": LABELS.index(colour) + 1,
                    "bbox": [column * 16 - 8, row * 16 - 8, 32, 32],
                    "area": 1024,
                    "iscrowd": 0,
                }
            )
    (folder / "instances.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="session")
def large_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, larger than the canvas each way: made smaller, pixels are PIL's to the last bit."""
    folder = tmp_path_factory.mktemp("large")
    chance = np.random.default_rng(0)
    for height, width in ((240, 300), (310, 200), (200, 200)):
        coarse = chance.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
        pixels = coarse.repeat(20, axis=0).repeat(20, axis=1)
        Image.fromarray(pixels).save(folder / f"{height}x{width}.png")
    return folder


@pytest.fixture(scope="session")
def network(transformers: Any) -> Callable[[str], Any]:
    """Builds a small network of a kind; weights drawn with a seed, wide enough apart not to tie."""
    import torch

    def build(kind: str, seed: int = 0) -> Any:
        model = _model(transformers, kind)
        chance = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                noise = torch.randn(weight.shape, generator=chance)
                if weight.ndim >= 2:
                    weight.copy_(noise * 1.2 / weight[0].numel() ** 0.5)
                else:
                    weight.copy_(noise * 0.1 + (0 if name.endswith("bias") else 1))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def snapshots(
    network: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Kind -> folder as a hub has it."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        network(kind).save_pretrained(folder)
        normalised = {"do_normalize": True, "size": EDGES}
        plain = {"do_normalize": False, "size": SIZE, "resample": 2}
        settings = normalised if kind == "detr" else plain
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        found[kind] = folder
    return found


@pytest.fixture(scope="session")
def checkpoints(
    snapshots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    """Kind -> artifact, in a store of their own."""
    store = Store(tmp_path_factory.mktemp("checkpoints"))
    return {
        kind: import_transformers(
            store, folder, name=kind.replace("_", "-"), uri=f"test:{kind}", licence="mit"
        )
        for kind, folder in snapshots.items()
    }


def _model(library: Any, kind: str) -> Any:
    labels = {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {name: number for number, name in enumerate(LABELS)},
    }
    residual = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
    if kind == "detr":
        backbone = library.ResNetConfig(**residual, layer_type="basic", out_features=["stage4"])
        return library.DetrForObjectDetection(
            library.DetrConfig(
                backbone_config=backbone, d_model=32, encoder_layers=2, decoder_layers=2,
                encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
                decoder_ffn_dim=64, num_queries=20, **labels,
            )
        )  # fmt: skip
    three = ["stage2", "stage3", "stage4"]
    common = {
        "encoder_hidden_dim": 32, "feat_strides": [8, 16, 32], "encoder_ffn_dim": 64,
        "encoder_attention_heads": 2, "d_model": 32, "num_queries": 20, "num_denoising": 0,
        "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 64, "decoder_layers": 2,
        "decoder_attention_heads": 2, **labels,
    }  # fmt: skip
    if kind == "d_fine":
        backbone = library.HGNetV2Config(
            hidden_sizes=[16, 32, 48, 64], stem_channels=[3, 8, 8],
            stage_in_channels=[8, 16, 32, 48], stage_mid_channels=[8, 8, 16, 16],
            stage_out_channels=[16, 32, 48, 64], stage_num_blocks=[1, 1, 1, 1],
            stage_numb_of_layers=[2, 2, 2, 2], out_features=three,
        )  # fmt: skip
        return library.DFineForObjectDetection(
            library.DFineConfig(
                backbone_config=backbone, encoder_in_channels=[32, 48, 64],
                decoder_n_points=[2, 2, 2], **common,
            )
        )  # fmt: skip
    backbone = library.RTDetrResNetConfig(**residual, layer_type="basic", out_features=three)
    second = kind == "rt_detr_v2"
    settings = library.RTDetrV2Config if second else library.RTDetrConfig
    build = library.RTDetrV2ForObjectDetection if second else library.RTDetrForObjectDetection
    return build(
        settings(
            backbone_config=backbone, encoder_in_channels=[24, 32, 48], decoder_n_points=2,
            **common,
        )
    )  # fmt: skip
