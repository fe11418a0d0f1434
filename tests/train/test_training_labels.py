"""Labels to train on: which objects, in which order, in which coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.train.training_labels import image_sizes, training_labels

ROTATED = 6  # EXIF orientation: the stored image is turned by a quarter


def labelled(
    rows: list[tuple[int, int, list[float]]],
    *,
    crowd: tuple[int, ...] = (),
    images: tuple[LabelledImage, ...] | None = None,
) -> LabelledSet:
    """A set of rows (image, category, [left, top, width, height]); images are 200 x 100."""
    xywh = np.array([box for *_, box in rows], np.float64).reshape(-1, 4)
    if images is None:
        images = tuple(
            LabelledImage(i, f"{i}.png", Path(f"{i}.png"), width=200, height=100) for i in range(3)
        )
    return LabelledSet(
        source="coco:here",
        images=images,
        categories=(Category(1, "cat"), Category(2, "dog")),
        truth=Truth(
            np.array([image for image, *_ in rows], np.int64),
            np.array([category for _, category, _ in rows], np.int64),
            xywh,
            xywh[:, 2] * xywh[:, 3],
            np.isin(np.arange(len(rows)), crowd),
            np.arange(len(rows)),
        ),
    )


def test_boxes_are_centres_and_sizes_as_fractions_of_their_image() -> None:
    labels = training_labels(labelled([(0, 1, [20, 10, 40, 30])]), classes=(5, 7))
    classes, boxes = labels.of(0)
    assert classes.tolist() == [7]
    assert boxes == pytest.approx(np.array([[0.2, 0.25, 0.2, 0.3]]))


def test_crowds_are_not_trained_on() -> None:
    rows = [(0, 0, [0, 0, 10, 10]), (0, 1, [50, 0, 100, 100]), (1, 1, [0, 0, 200, 100])]
    labels = training_labels(labelled(rows, crowd=(1, 2)), classes=(0, 1))
    assert labels.of(0)[0].tolist() == [0]
    assert len(labels.of(1)[0]) == 0
    assert len(labels.classes) == len(labels.cxcywh) == 1


def test_boxes_are_cut_at_the_border_and_dropped_outside() -> None:
    rows = [(0, 0, [-20, 50, 40, 100]), (0, 0, [200, 0, 10, 10]), (0, 0, [10, 10, 0, 10])]
    labels = training_labels(labelled(rows), classes=(0, 1))
    assert labels.of(0)[1] == pytest.approx(np.array([[0.05, 0.75, 0.1, 0.5]]))


def test_objects_are_sorted_by_image_and_an_image_may_have_none() -> None:
    rows = [(2, 0, [0, 0, 10, 10]), (0, 1, [0, 0, 20, 20]), (2, 1, [0, 0, 30, 30])]
    labels = training_labels(labelled(rows), classes=(0, 1))
    assert len(labels) == 3
    assert [labels.of(image)[0].tolist() for image in range(3)] == [[1], [], [0, 1]]
    assert labels.begin.tolist() == [0, 1, 1, 3]


def test_a_set_without_objects_has_no_rows() -> None:
    labels = training_labels(labelled([]), classes=(0, 1))
    assert [len(labels.of(image)[0]) for image in range(3)] == [0, 0, 0]
    assert labels.cxcywh.shape == (0, 4)


def test_sizes_that_the_labels_do_not_state_are_those_of_the_upright_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    images = (
        LabelledImage(1, "turned.jpg", tmp_path / "turned.jpg", width=None, height=None),
        LabelledImage(2, "b.png", tmp_path / "b.png", width=7, height=9),
    )
    dataset = labelled([(0, 0, [0, 0, 10, 15])], images=images)
    assert image_sizes(dataset) == ((20, 30), (7, 9))
    assert training_labels(dataset, (0, 1)).of(0)[1].tolist() == [[0.25, 0.25, 0.5, 0.5]]
