"""What is settled before a training: classes, head, canvas, the two sets."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from seatrial.artifact import Artifact
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from seatrial.manifest import Preprocessing
from seatrial.train.plan import (
    Base,
    Data,
    TrainingPlan,
    base_of,
    canvas,
    read_plan,
    read_sets,
    scratch_base,
    settle,
    write_plan,
)
from seatrial.train.read_recipe import read_recipe

STRETCHED = Preprocessing((96, 96), "stretch", 0)
EDGES = Preprocessing((160, 160), "shortest_edge", 0, edges_px=(96, 160))


def base(labels: tuple[str, ...] = (), **changes: object) -> Base:
    plain = Base("base", "rt_detr", "somewhere", labels=labels, preprocessing=STRETCHED)
    return msgspec.structs.replace(plain, **changes)


def settled(cells: str, given: Base, **recipe: object) -> TrainingPlan:
    asked = msgspec.structs.replace(read_recipe(None, given.family), **recipe)
    return settle("transformers", given, Data(cells), asked, read_sets(cells, None))


def test_the_same_labels_keep_the_head_and_its_order(cells: str) -> None:
    plan = settled(cells, base(("Blue", "red", "GREEN")))
    assert not plan.new_head
    assert plan.labels == ("Blue", "red", "GREEN")
    assert plan.classes == (1, 2, 0)  # of red, green, blue


@pytest.mark.parametrize("labels", [("red", "green"), ("red", "green", "blue", "grey"), ()])
def test_other_labels_replace_the_head(cells: str, labels: tuple[str, ...]) -> None:
    plan = settled(cells, base(labels))
    assert plan.new_head
    assert plan.labels == ("red", "green", "blue")
    assert plan.classes == (0, 1, 2)


def test_the_canvas_is_the_bases_unless_the_recipe_says_so(cells: str) -> None:
    assert canvas(settled(cells, base())).size_hw == (96, 96)
    assert canvas(settled(cells, base(), image_size=128)).size_hw == (128, 128)
    assert canvas(settled(cells, base(), image_size=(64, 128))).size_hw == (64, 128)
    edges = canvas(settled(cells, base(preprocessing=EDGES, family="detr"), image_size=48))
    assert (edges.edges_px, edges.size_hw) == ((48, 80), (80, 80))
    yolo = base(preprocessing=None, family="yolo")
    assert canvas(settled(cells, yolo)).size_hw == (640, 640)
    with pytest.raises(InvalidConfig, match="image_size 100"):
        settled(cells, yolo, image_size=100)


def test_a_plan_is_read_back(cells: str, tmp_path: Path) -> None:
    plan = settled(cells, base(("red",)))
    assert read_plan(tmp_path) is None
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path) == plan


def test_pictures_in_both_sets_are_an_error(cells: str, tmp_path: Path) -> None:
    images = Path(cells.removeprefix("yolo:")) / "images" / "train"
    names = json.dumps(["red", "green", "blue"])
    (tmp_path / "data.yaml").write_text(f"train: {images}\nval: {images}\nnames: {names}\n")
    with pytest.raises(InvalidDataset, match="24 images are in the training and in"):
        read_sets(f"yolo:{tmp_path}", None)


@pytest.mark.parametrize("turned", ["train", "val"])
def test_labels_of_the_unturned_picture_are_refused_in_either_set(
    tmp_path: Path, turned: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for seed, split in enumerate(("train", "val")):
        (tmp_path / split).mkdir()
        Image.effect_noise((64, 48), 50 + seed).convert("RGB").save(
            tmp_path / split / "a.jpg", exif=exif if split == turned else b""
        )
        document = {
            "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20]}],
            "categories": [{"id": 1, "name": "red"}],
        }
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(document))
    with pytest.raises(InvalidDataset, match=r"48 x 64, labelled as 64 x 48: turned by") as caught:
        read_sets(f"coco:{tmp_path}", None)
    assert f"/{turned}/" in caught.value.message
    assert "make one with" not in caught.value.hint


def test_a_set_to_validate_on_is_asked_for(cells: str, tmp_path: Path) -> None:
    images = Path(cells.removeprefix("yolo:")) / "images" / "train"
    (tmp_path / "data.yaml").write_text(f"train: {images}\nnames: [red, green, blue]\n")
    with pytest.raises(InvalidDataset, match="no validation set") as caught:
        read_sets(f"yolo:{tmp_path}", None)
    assert "seatrial data split" in caught.value.hint
    assert len(read_sets(f"yolo:{tmp_path}", cells)[1].images) == 8


def test_an_artifact_without_weights_cannot_be_trained(tiny_artifact: Artifact) -> None:
    with pytest.raises(InvalidInput, match="no weights that --trainer lightning can train"):
        base_of(tiny_artifact, "lightning")


def test_an_architecture_is_a_folder_or_one_of_ultralytics(tmp_path: Path) -> None:
    yolo = scratch_base("yolo11n.yaml", "ultralytics")
    assert (yolo.path, yolo.family, yolo.scratch, yolo.digest) == ("yolo11n", "yolo", True, None)
    assert yolo.licence.startswith("AGPL-3.0")
    with pytest.raises(InvalidInput, match=r"not a folder with a config\.json"):
        scratch_base(str(tmp_path), "transformers")


def test_a_plan_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"trainer": "lightning", "colour": 1}')
    with pytest.raises(InvalidConfig, match="begun by another version") as caught:
        read_plan(tmp_path)
    assert "--restart" in caught.value.hint


def test_a_set_without_images_is_an_error(cells: str, tmp_path: Path) -> None:
    images = Path(cells.removeprefix("yolo:")) / "images" / "train"
    (tmp_path / "none").mkdir()
    for empty in ("train", "val"):
        lines = {"train": images, "val": images, empty: tmp_path / "none"}
        text = "".join(f"{split}: {folder}\n" for split, folder in lines.items())
        (tmp_path / "data.yaml").write_text(f"{text}names: [red, green, blue]\n")
        with pytest.raises(InvalidDataset, match=r"none|no images|no images|image"):
            read_sets(f"yolo:{tmp_path}", None)
