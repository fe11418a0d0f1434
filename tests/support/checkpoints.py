"""Images of different sizes, and small seeded checkpoints of the real architectures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.artifact import Artifact, Store
from seatrial.models.import_checkpoint import import_transformers
from tiny_networks import LABELS, build_network, save_snapshot

KINDS = ("detr", "rt_detr", "rt_detr_v2", "d_fine")


@pytest.fixture(scope="session")
def cell_images(
    tmp_path_factory: pytest.TempPathFactory,
    picture: Callable[..., Image.Image],
    encode: Callable[..., bytes],
) -> Path:
    """Folder of six images of coloured cells, each of another shape, with COCO labels."""
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
def large_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of noise images larger than the canvas: when shrunk, pixels equal PIL's exactly."""
    folder = tmp_path_factory.mktemp("large")
    chance = np.random.default_rng(0)
    for height, width in ((240, 300), (310, 200), (200, 200)):
        coarse = chance.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
        pixels = coarse.repeat(20, axis=0).repeat(20, axis=1)
        Image.fromarray(pixels).save(folder / f"{height}x{width}.png")
    return folder


@pytest.fixture(scope="session")
def network(transformers: Any) -> Callable[[str], Any]:
    """Builds a small network of a kind; random weights from a seed, without ties in its outputs."""
    return lambda kind, seed=0: build_network(transformers, kind, seed)


@pytest.fixture(scope="session")
def snapshots(
    network: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Kind -> checkpoint folder, as downloaded from a hub."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        save_snapshot(network(kind), folder, kind)
        found[kind] = folder
    return found


@pytest.fixture(scope="session")
def checkpoints(
    snapshots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    """Kind -> imported artifact; all in one store."""
    store = Store(tmp_path_factory.mktemp("checkpoints"))
    return {
        kind: import_transformers(
            store, folder, name=kind.replace("_", "-"), uri=f"test:{kind}", licence="mit"
        )
        for kind, folder in snapshots.items()
    }
