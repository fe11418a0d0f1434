"""Labelled scenes for the tiny detector: a plugin, for the accuracy and its command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COLOURS = ("red", "green", "blue")
# Cells with an object, by picture: (row, column) -> colour.
SCENES: list[dict[tuple[int, int], str]] = [
    {(2, 3): "red", (5, 5): "green"},
    {(4, 2): "red"},
    {},
    {(2, 2): "blue", (2, 5): "blue", (5, 2): "red"},
]


@pytest.fixture
def scenes(tmp_path: Path, picture: Callable[..., Any], box_of: Callable[..., list[float]]) -> Path:
    """A COCO folder whose labels are what the tiny detector sees."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    labels: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 10 * n + 5, "name": name} for n, name in enumerate(COLOURS[::-1])],
    }
    ids = {row["name"]: row["id"] for row in labels["categories"]}
    for number, scene in enumerate(SCENES):
        name = f"{number}.png"
        picture(scene).save(folder / name)
        labels["images"].append({"id": number, "file_name": name, "width": 128, "height": 128})
        for (row, column), colour in scene.items():
            left, top, right, bottom = box_of(row, column)
            box = [left, top, right - left, bottom - top]
            labels["annotations"].append(
                {"image_id": number, "category_id": ids[colour], "bbox": box}
            )
    (folder / "instances.json").write_text(json.dumps(labels))
    return folder
