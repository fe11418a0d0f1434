"""Labelled sets: missing images, digests, and class names compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coco_labels import coco
from seatrial.datasets import labels
from seatrial.datasets.labels import (
    Category,
    LabelledSet,
    Truth,
    known_categories,
    match_labels,
    some,
    split_named,
)
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset


def test_digest_tells_labels_apart(write_coco: Callable[..., Path]) -> None:
    folder = write_coco()
    first = read_labelled(f"coco:{folder}").digest()
    assert read_labelled(f"coco:{folder}").digest() == first
    moved = coco()
    moved["annotations"][0]["bbox"][0] = 1.5
    (folder / "instances.json").write_text(json.dumps(moved))
    assert read_labelled(f"coco:{folder}").digest() != first


def test_a_digest_tells_areas_apart_where_they_count(write_coco: Callable[..., Path]) -> None:
    """Figures by size differ; an artifact that was trained on the boxes has seen them."""
    folder = write_coco()
    first = read_labelled(f"coco:{folder}")
    other = coco()
    other["annotations"][0]["area"] = 7.5
    (folder / "instances.json").write_text(json.dumps(other))
    second = read_labelled(f"coco:{folder}")
    assert second.digest() == first.digest()
    assert second.digest(areas=True) != first.digest(areas=True)


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


def test_objects_have_the_area_of_their_boxes_and_are_numbered_from_one() -> None:
    truth = Truth.of([0, 0, 1], [0, 1, 0], [[1, 2, 3, 5], [0, 0, 7, 2], [0, 0, 0, 4]])
    assert truth.area.tolist() == [15, 14, 0]
    assert truth.mark.tolist() == [1, 2, 3]
    assert not truth.crowd.any()


def test_a_list_in_a_message_ends_after_five() -> None:
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c, d, e"
    assert some(["a", "b", "c", "d", "e", "f"]) == "a, b, c, d, e and 1 more"


def test_few_pairs_of_names_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    monkeypatch.setattr(
        labels.difflib, "get_close_matches", lambda _, others, **__: compared.append(len(others))
    )
    many = tuple(Category(n, f"c{n}") for n in range(5000))
    found = LabelledSet("x", (), many, Truth.of([], [], []))
    with pytest.raises(InvalidDataset, match="c0x"):
        match_labels([f"c{n}x" for n in range(80)] + ["c1"], found)
    assert sum(compared) <= labels.COMPARED


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Training", "train2017", "TRAIN_2012"]),
        ("val", ["val", "valid", "Validation", "dev", "eval", "val2014", "valid-2020"]),
        ("test", ["test", "testing", "test-dev", "test_dev2017", "Test Dev"]),
        ("", ["", "trainval", "minival", "2017", "train20175", "night", "default", "attest"]),
    ],
)
def test_the_split_that_a_name_says(split: str, names: list[str]) -> None:
    assert {name: split_named(name) for name in names} == dict.fromkeys(names, split)
