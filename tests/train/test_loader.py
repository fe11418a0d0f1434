"""Batches of transformers' detectors: canvas, normalisation, padding, boxes, objects of a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.manifest import Preprocessing
from seatrial.train.plan import TrainingPlan, read_sets
from seatrial.train.sampler import Draw
from training_runs import UNCHANGED

PLAIN = f"batch = 8{UNCHANGED}"
STRETCHED = Preprocessing((96, 160), "stretch", 0)
EDGES = Preprocessing((160, 160), "shortest_edge", 0, edges_px=(96, 160))


@pytest.fixture(scope="module")
def loading(torch: Any) -> Any:
    from seatrial.train import loader

    return loader


@pytest.fixture
def batches(loading: Any, settle_plan: Callable[..., TrainingPlan]) -> Callable[..., Any]:
    """Builds the batches of a process."""

    def build(text: str, kind: str = "rt_detr", rank: int = 0, masked: bool = False) -> Any:
        from seatrial.train.network import normalisation

        plan = settle_plan("lightning", kind, text)
        sets = read_sets(plan.data.train, None)
        return loading.training_batches(
            sets[0], plan, normalisation(plan), masked=masked, rank=rank
        )

    return build


def test_a_canvas_that_varies_keeps_multiples_of_32(loading: Any) -> None:
    assert loading.scaled(STRETCHED, 1.0) is STRETCHED
    assert loading.scaled(STRETCHED, 1.25).size_hw == (128, 192)
    assert loading.scaled(STRETCHED, 0.1).size_hw == (32, 32)
    assert loading.scaled(EDGES, 0.5).edges_px == (48, 160)


def test_items_without_augmentation_are_the_images_and_their_labels(
    batches: Callable[..., Any],
) -> None:
    from seatrial.detect.decode import decode_file

    images = batches(PLAIN).dataset
    for image in (0, 5):
        item = images[Draw(0, image, 1.0)]
        file = images._labels.paths[image]
        assert np.array_equal(item["pixels"].numpy(), decode_file(file, max_pixels=10**8))
        classes, boxes = images._labels.of(image)
        assert item["class_labels"].tolist() == classes.tolist()
        assert item["boxes"].numpy() == pytest.approx(boxes, abs=1e-6)


def test_boxes_that_are_longer_than_wide_stay_so(
    loading: Any, settle_plan: Callable[..., TrainingPlan], tmp_path: Path
) -> None:
    for number, split in enumerate(("train", "val")):
        for part in ("images", "labels"):
            (tmp_path / part / split).mkdir(parents=True)
        Image.new("RGB", (80, 40), (0, number, 0)).save(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.5 0.4 0.1 0.6\n")
    lines = "train: images/train\nval: images/val\nnames: [red]\n"
    (tmp_path / "data.yaml").write_text(lines)
    plan = settle_plan("lightning", "rt_detr", PLAIN, f"yolo:{tmp_path}")
    images = loading.TrainingImages(read_sets(plan.data.train, None)[0], plan)
    boxes = images[Draw(0, 0, 1.0)]["boxes"].numpy()
    assert boxes == pytest.approx(np.array([[0.5, 0.4, 0.1, 0.6]]), abs=1e-6)


def test_mirrored_images_have_mirrored_boxes(batches: Callable[..., Any]) -> None:
    images = batches(PLAIN.replace("flip = 0.0", "flip = 1.0")).dataset
    item = images[Draw(0, 3, 1.0)]
    _, boxes = images._labels.of(3)
    assert item["boxes"][:, 0].numpy() == pytest.approx(1 - boxes[:, 0], abs=1e-6)
    assert item["boxes"][:, 1:].numpy() == pytest.approx(boxes[:, 1:], abs=1e-6)


def test_a_network_with_a_shortest_edge_gets_the_image_without_padding(
    batches: Callable[..., Any],
) -> None:
    images = batches(PLAIN, "detr").dataset
    # 96 x 96 images: the canvas is 160 x 160, of which the shortest edge takes 96
    assert images[Draw(0, 0, 1.0)]["pixels"].shape == (96, 96, 3)
    assert images[Draw(0, 0, 0.5)]["pixels"].shape == (48, 48, 3)


def test_a_batch_is_padded_to_its_largest_image_and_the_mask_says_where(
    loading: Any, torch: Any
) -> None:
    from seatrial.train.validation import Normalisation

    def item(rows: int, columns: int, objects: int) -> Any:
        return {
            "pixels": torch.full((rows, columns, 3), 51, dtype=torch.uint8),
            "class_labels": torch.zeros(objects, dtype=torch.int64),
            "boxes": torch.zeros(objects, 4),
        }

    normalisation = Normalisation(255.0, ((0.2, 0.1, 0.0), (1.0, 0.5, 0.1)))
    batch = loading.Collate(normalisation, masked=True)([item(2, 5, 1), item(4, 3, 2)])
    assert batch["pixel_values"].shape == (2, 3, 4, 5)
    values = batch["pixel_values"][0, :, 0, 0]  # 51 / 255 = 0.2
    assert values.tolist() == pytest.approx([0.0, 0.2, 2.0], abs=1e-6)
    assert batch["pixel_values"][0, :, 2:].abs().sum() == 0
    assert batch["pixel_mask"].sum(dim=(1, 2)).tolist() == [10, 12]
    assert batch["pixel_mask"][1, :, 3:].sum() == 0
    assert batch["objects"] == 3
    plain = loading.Collate(Normalisation(1.0, None), masked=False)([item(2, 2, 0)])
    assert "pixel_mask" not in plain
    assert plain["pixel_values"].max() == 51.0


def test_the_parts_of_a_step_know_the_objects_of_the_whole_step(
    batches: Callable[..., Any],
) -> None:
    parts = list(batches(PLAIN.replace("batch = 8", "batch = 8\naccumulate = 4")))
    assert len(parts) == 12  # 24 images, 2 at a time
    for step in range(3):
        of_step = parts[4 * step : 4 * step + 4]
        own = [sum(len(one["class_labels"]) for one in part["labels"]) for part in of_step]
        assert [part["objects"] for part in of_step] == [sum(own)] * 4


def test_processes_share_a_step(batches: Callable[..., Any]) -> None:
    two = PLAIN + "[compute]\nprocesses = 2\n"
    shares = [batches(two, rank=rank) for rank in (0, 1)]
    whole = next(iter(batches(PLAIN)))["labels"]
    halves = [next(iter(share))["labels"] for share in shares]
    assert [len(half) for half in halves] == [4, 4]
    joined = [one["boxes"].tolist() for half in halves for one in half]
    assert joined == [one["boxes"].tolist() for one in whole]
