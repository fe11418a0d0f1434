"""A small sound dataset in every format, to be read, broken and written again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coco_labels import coco
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.datasets.writing import write_dataset

SIZE = (64, 48)  # width, height of every picture
COUNTS = {"train": 4, "val": 2}
CATEGORIES = (Category(1, "red"), Category(2, "green"))
# Objects of each picture: category index and box.
OBJECTS = [(0, [4, 6, 20, 10]), (1, [30.5, 20, 24, 25.25])]


def paint(path: Path, seed: int, size: tuple[int, int] = SIZE) -> Path:
    """A picture of coloured blocks, like no other of another seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def labelled(folder: Path, split: str, count: int) -> LabelledSet:
    """Pictures with two objects each; they are painted into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    images = tuple(
        LabelledImage(number + 1, name, paint(folder / name, 100 * len(split) + number), *SIZE)
        for number, name in enumerate(f"{split}{number}.jpg" for number in range(count))
    )
    return LabelledSet(
        source=split,
        images=images,
        categories=CATEGORIES,
        truth=Truth.of(
            np.repeat(np.arange(count), len(OBJECTS)),
            [category for category, _ in OBJECTS] * count,
            [box for _, box in OBJECTS] * count,
        ),
    )


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LabelledSet]:
    """Two splits, four pictures and two."""
    home = tmp_path_factory.mktemp("images")
    return {split: labelled(home / split, split, count) for split, count in COUNTS.items()}


@pytest.fixture
def sound(tmp_path: Path, sets: dict[str, LabelledSet]) -> Callable[[str], Path]:
    """Writes the dataset in a format; gives the folder."""

    def write(kind: str) -> Path:
        folder = tmp_path / kind
        write_dataset(folder, sets, kind)
        return folder

    return write


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    """All files below a folder and digests of what is in them."""

    def read(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return read


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Writes a COCO folder with its pictures; gives the folder."""

    def write(labels: Any = None, *, pictures: str = "images", names: str = "ab") -> Path:
        folder = tmp_path / "set"
        (folder / pictures).mkdir(parents=True)
        text = labels if isinstance(labels, str) else json.dumps(labels or coco())
        (folder / "instances.json").write_text(text)
        for name in names:
            Image.new("RGB", (40, 30)).save(folder / pictures / f"{name}.png")
        return folder

    return write
