"""A small COCO document, and variants of it."""

from __future__ import annotations

from typing import Any

CATEGORIES = [{"id": 1, "name": "red"}, {"id": 5, "name": "green"}, {"id": 9, "name": "blue"}]


def coco(**changes: Any) -> dict[str, Any]:
    """Two pictures, not in the order of their ids; the first without an object."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "bbox": [1, 2, 10, 20], "area": 150.5,
             "segmentation": [[1, 2, 11, 2, 11, 22]]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
        "categories": CATEGORIES[::-1],
        **changes,
    }  # fmt: skip


def changed(what: str, number: int, **values: Any) -> dict[str, Any]:
    """The document with other values in one row of a section."""
    labels = coco()
    labels[what][number] |= values
    return labels


def two_images(**changes: Any) -> dict[str, Any]:
    """Two images with an object each; the changes replace sections."""
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30},
                   {"id": 2, "file_name": "b.png", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 8]},
                        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [3, 4, 5, 6]}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        **changes,
    }  # fmt: skip
