"""Labelled sets: missing images, digests, and class names compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coco_labels import changed, coco
from seatrial.datasets.labels import known_categories, match_labels, read_labelled
from seatrial.errors import InvalidDataset, InvalidInput


def test_digest_tells_labels_apart(write_coco: Callable[..., Path]) -> None:
    folder = write_coco()
    first = read_labelled(f"coco:{folder}").digest()
    assert read_labelled(f"coco:{folder}").digest() == first
    moved = coco()
    moved["annotations"][0]["bbox"][0] = 1.5
    (folder / "instances.json").write_text(json.dumps(moved))
    assert read_labelled(f"coco:{folder}").digest() != first


def test_missing_picture_is_an_error_unless_it_is_left_out_by_name(
    write_coco: Callable[..., Path],
) -> None:
    folder = write_coco(changed("annotations", 1, image_id=3), names="b")
    with pytest.raises(InvalidDataset, match=r"1 of 2 pictures .* are not in .*: a.png") as caught:
        read_labelled(f"coco:{folder}")
    assert "--skip-missing" in caught.value.hint
    found = read_labelled(f"coco:{folder}", skip_missing=True)
    assert found.skipped == ("a.png",)
    assert [image.id for image in found.images] == [7]
    assert found.truth.image.tolist() == [0]  # the other object went with its picture
    assert found.truth.category.tolist() == [2]


def test_a_folder_with_none_of_the_pictures_is_an_error_even_so(
    write_coco: Callable[..., Path],
) -> None:
    folder = write_coco(names="")
    with pytest.raises(InvalidDataset, match="none of the 2 pictures"):
        read_labelled(f"coco:{folder}", skip_missing=True)


@pytest.mark.parametrize("spec", ["kitti:.", "coco", "coco:", "."])
def test_unknown_format_is_refused(spec: str) -> None:
    with pytest.raises(InvalidInput, match="does not name a labelled set") as caught:
        read_labelled(spec)
    assert "yolo:FOLDER" in caught.value.hint


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="nowhere does not exist"):
        read_labelled(f"coco:{tmp_path}/nowhere")


def test_classes_match_by_name_not_by_number(write_coco: Callable[..., Path]) -> None:
    found = read_labelled(f"coco:{write_coco()}")
    labels = ["Blue", "N/A", " red", "green", ""]
    assert match_labels(labels, found).tolist() == [2, -1, 0, 1, -1]


def test_label_that_the_dataset_does_not_know_is_an_error_with_a_guess(
    write_coco: Callable[..., Path],
) -> None:
    found = read_labelled(f"coco:{write_coco()}")
    with pytest.raises(InvalidDataset, match="not have classes of the model: 'gren'") as caught:
        match_labels(["red", "gren", "blue"], found)
    assert "'gren' and 'green'" in caught.value.hint
    assert match_labels(["red", "gren", "blue"], found, unmatched="ignore").tolist() == [0, -1, 2]


def test_objects_that_the_model_does_not_know_are_an_error(write_coco: Callable[..., Path]) -> None:
    found = read_labelled(f"coco:{write_coco()}")
    with pytest.raises(InvalidDataset, match="that the model does not have: 'blue'"):
        match_labels(["red", "green"], found)
    matched = match_labels(["red", "green"], found, unmatched="ignore")
    assert known_categories(matched, found).truth.category.tolist() == [0]
    # Green has no objects: to know nothing of it costs nothing.
    assert match_labels(["red", "blue"], found).tolist() == [0, 2]


def test_no_common_class_is_an_error_even_where_mismatches_are_ignored(
    write_coco: Callable[..., Path],
) -> None:
    found = read_labelled(f"coco:{write_coco()}")
    with pytest.raises(InvalidDataset, match="no label of the model is a category") as none:
        match_labels(["cat", "dog"], found, unmatched="ignore")
    assert "--unmatched" not in none.value.hint  # it would not help
    with pytest.raises(InvalidDataset, match="two labels of the model are named 'RED'"):
        match_labels(["red", "RED", "blue"], found)
