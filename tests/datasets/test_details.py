"""Labels beyond boxes: what a format has no place for comes back, and figures with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.accuracy.evaluate import score
from seatrial.accuracy.matching import Predictions
from seatrial.datasets import details
from seatrial.datasets.convert import convert
from seatrial.datasets.labels import Category, Details, LabelledImage, LabelledSet, Truth
from seatrial.datasets.read import read_labelled
from seatrial.datasets.splits import read_dataset
from seatrial.errors import InvalidDataset

SIZE = (400, 320)


def outlined(folder: Path) -> Path:
    """Outlines whose areas fall in other size classes than their boxes; crowds, and keys of all."""
    draw = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for number in range(60):
        left, top = draw.uniform(0, 150, 2).round(3)
        width, height = draw.uniform(20, 49 if number % 2 else 149, 2).round(3)
        rows.append({
            "id": 1000 + number, "image_id": 7 + number % 3, "category_id": (3, 90)[number % 2],
            "bbox": [left, top, width, height], "area": round(width * height * 0.45, 4),
            "iscrowd": int(number % 20 == 0), "segmentation": [[left, top, left + width, top + 1]],
            "keypoints": [1, 2, 2],
        })  # fmt: skip
    folder.mkdir(parents=True)
    for name in "abc":
        pixels = np.random.default_rng(ord(name)).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name} 1.png")
    (folder / "instances.json").write_text(json.dumps({
        "info": {"year": 2026}, "licenses": [{"id": 1, "name": "CC BY"}],
        "images": [{"id": 7 + n, "file_name": f"{name} 1.png", "width": SIZE[0],
                    "height": SIZE[1], "license": 1} for n, name in enumerate("abc")],
        "annotations": rows,
        "categories": [{"id": 3, "name": "car", "supercategory": "vehicle"},
                       {"id": 90, "name": "tooth [/brush]", "supercategory": "indoor"}],
    }))  # fmt: skip
    return folder


def found_by(truth: LabelledSet) -> Predictions:
    """Detections that overlap the objects more or less, the same for the same objects."""
    draw = np.random.default_rng(1)
    order = np.lexsort((*truth.truth.xywh.T, truth.truth.image))
    boxes = truth.truth.xywh[order] * draw.uniform(0.9, 1.1, (len(order), 4))
    return Predictions(
        truth.truth.image[order], truth.truth.category[order], boxes, draw.uniform(0, 1, len(order))
    )


def figures(truth: LabelledSet, found: Predictions) -> list[float]:
    scores = score(truth, found)[1].figures
    return [scores.ap, scores.ap_small, scores.ap_medium, scores.ap_large]


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_ap_by_size_is_that_of_the_original(tmp_path: Path, kind: Any) -> None:
    source = outlined(tmp_path / "coco")
    original = read_labelled(f"coco:{source}")
    wanted = figures(original, found_by(original))
    notes = convert(source, tmp_path / "out", kind).notes
    assert any("60 outlines" in note and "60 areas" in note for note in notes)
    moved = [note for note in notes if "change between small, medium and large" in note]
    assert len(moved) == 1
    again = read_labelled(f"{kind}:{tmp_path / 'out'}", split="train")
    assert figures(again, found_by(original)) == pytest.approx(wanted, abs=1e-12)
    (tmp_path / "out" / "details.json").unlink()
    bare = read_labelled(f"{kind}:{tmp_path / 'out'}", split="train")
    assert figures(bare, found_by(original)) != pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_every_key_comes_back_to_coco(tmp_path: Path, kind: Any) -> None:
    source = outlined(tmp_path / "coco")
    convert(source, tmp_path / "out", kind)
    convert(tmp_path / "out", tmp_path / "back", "coco")
    before = json.loads((source / "instances.json").read_text())
    (file,) = [*(tmp_path / "back").rglob("instances*.json")]
    after = json.loads(file.read_text())
    assert (after["info"], after["licenses"]) == (before["info"], before["licenses"])
    assert [(c["name"], c["supercategory"]) for c in after["categories"]] == [
        ("car", "vehicle"), ("tooth [/brush]", "indoor"),
    ]  # fmt: skip
    assert [(i["file_name"], i["license"]) for i in after["images"]] == [
        (f"{name} 1.png", 1) for name in "abc"
    ]
    for row, own in zip(
        before["annotations"], sorted(after["annotations"], key=lambda r: r["id"]), strict=True
    ):
        assert own["bbox"] == pytest.approx(row["bbox"], abs=1e-6)
        same = {"id", "area", "iscrowd", "segmentation", "keypoints"}
        assert {k: own[k] for k in same} == {k: row[k] for k in same}


def test_labels_that_a_person_corrects_go_before_the_details(tmp_path: Path) -> None:
    convert(outlined(tmp_path / "coco"), tmp_path / "out", "yolo")
    file = tmp_path / "out" / "labels" / "train" / "a 1.txt"
    first, second, *others = file.read_text().splitlines()
    moved = f"{first.split()[0]} 0.5 0.5 0.1 0.1"
    assert first[0] != second[0]
    renamed = f"{first[0]}{second[1:]} "
    file.write_text("\n".join([moved, *others, renamed]))
    found = read_labelled(f"yolo:{tmp_path / 'out'}", split="train")
    assert found.notes[-1] == "details.json: 2 objects are not in the labels any more"
    (index,) = np.flatnonzero(np.isclose(found.truth.xywh, [180, 144, 40, 32]).all(1))
    assert found.truth.area[index] == pytest.approx(1280)


def test_an_image_that_is_removed_takes_its_details_along(tmp_path: Path) -> None:
    convert(outlined(tmp_path / "coco"), tmp_path / "out", "yolo")
    (tmp_path / "out" / "images" / "train" / "a 1.png").unlink()
    (tmp_path / "out" / "labels" / "train" / "a 1.txt").unlink()
    found = read_labelled(f"yolo:{tmp_path / 'out'}", split="train")
    assert len(found.images) == 2
    assert "20 objects are not in the labels" in found.notes[-1]


def test_a_plain_set_has_no_such_file(tmp_path: Path, sound: Callable[[str], Path]) -> None:
    for kind in ("yolo", "voc"):
        assert convert(sound("coco"), tmp_path / f"{kind}-out", kind).notes == ()
        assert not (tmp_path / f"{kind}-out" / "details.json").exists()
        shutil.rmtree(tmp_path / "coco")


def test_a_file_of_that_name_from_another_tool_is_left_alone(
    sound: Callable[[str], Path],
) -> None:
    folder = sound("yolo")
    (folder / "details.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert read_dataset(folder).kind == "yolo"
    (folder / "details.json").write_text('{"format": "seatrial details 1", "splits": 3}')
    with pytest.raises(InvalidDataset, match=r"details\.json cannot be read") as told:
        read_dataset(folder)
    assert "convert again" in told.value.hint


def test_coco_val_of_the_shared_data(tmp_path: Path) -> None:
    source = Path(__file__).parents[2].parent / "shared" / "data" / "coco-val"
    if not source.is_dir():
        pytest.skip("no ../shared")
    original = read_labelled(f"coco:{source}")
    for kind in ("yolo", "voc"):
        written = convert(source, tmp_path / kind, kind, )  # fmt: skip
        assert any("82 of 442 change" in note for note in written.notes)
        again = read_labelled(f"{kind}:{tmp_path / kind}", split="train")
        wanted = figures(original, found_by(original))
        # Images go by name there, and by id here.
        names = {image.name: number for number, image in enumerate(again.images)}
        order = np.array([names[Path(image.name).name] for image in original.images])
        moved = found_by(original)
        moved = Predictions(order[moved.image], moved.category, moved.xywh, moved.score)
        assert figures(again, moved) == pytest.approx(wanted, abs=1e-9)


def test_each_object_is_compared_with_few_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image can have thousands of objects, and details of every second one."""
    count, side = 600, 5.0
    places = [[n % 30 * 6.0, n // 30 * 6.0, side, side] for n in range(count)]
    areas = [25.0 - n % 2 * 16 for n in range(count)]
    found = LabelledSet(
        "x",
        (LabelledImage(1, "a.jpg", Path("a.jpg"), 400, 320),),
        (Category(0, "cat"),),
        Truth.of([0] * count, [0] * count, places, area=areas),
    )
    (tmp_path / "out").mkdir()
    details.write(tmp_path / "out", {"": found}, "voc")
    compared: list[object] = []
    monkeypatch.setattr(details, "np", Counting(compared))
    turned = found.truth.take(np.arange(count)[::-1])
    plain = Truth.of(turned.image, turned.category, turned.xywh)
    again = details.restored(replace(found, truth=plain), tmp_path / "out", "", "voc")
    assert again.truth.area.tolist() == found.truth.area[::-1].tolist()
    assert again.notes == ()
    assert len(compared) <= count


def boxes(lefts: list[float], areas: list[float] | None = None) -> LabelledSet:
    """Objects of one class on one image, that differ by their left side."""
    places = [[left, 10.02, 5.02, 5.02] for left in lefts]
    return LabelledSet(
        "x",
        (LabelledImage(1, "a.jpg", Path("a.jpg"), 400, 320),),
        (Category(0, "cat"),),
        Truth.of([0] * len(lefts), [0] * len(lefts), places, area=areas),
    )


@pytest.mark.parametrize(
    ("moved_px", "area", "notes"),
    [
        (0.009, 9.0, ()),
        (-0.009, 9.0, ()),
        (0.011, 5.02**2, ("details.json: 1 object is not in the labels any more",)),
    ],
)
def test_a_box_is_that_of_a_label_within_a_hundredth_of_a_pixel(
    tmp_path: Path, moved_px: float, area: float, notes: tuple[str, ...]
) -> None:
    details.write(tmp_path, {"": boxes([20.0], [9.0])}, "voc")
    again = details.restored(boxes([20.0 + moved_px]), tmp_path, "", "voc")
    assert again.truth.area.tolist() == pytest.approx([area])
    assert again.notes == notes


def test_of_labels_that_are_as_near_the_first_is_the_first(tmp_path: Path) -> None:
    side = 5 * details.CELL_PX  # between two cells
    details.write(tmp_path, {"": boxes([side, side], [9.0, 16.0])}, "voc")
    again = details.restored(boxes([side + 0.001, side - 0.001]), tmp_path, "", "voc")
    assert again.truth.area.tolist() == [9.0, 16.0]


def test_what_labels_say_goes_before_what_was_kept(tmp_path: Path) -> None:
    def own(source: str, **more: str) -> LabelledSet:
        keys = {"source": source, **more}
        return replace(boxes([20.0]), details=Details((keys,), (keys,), keys))

    details.write(tmp_path, {"": own("kept", author="me")}, "voc")
    found = details.restored(own("labels"), tmp_path, "", "voc").details
    wanted = {"source": "labels", "author": "me"}
    assert found == Details((wanted,), (wanted,), wanted)


class Counting:
    """NumPy, with a list of the calls of `abs`."""

    def __init__(self, calls: list[object]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def abs(self, values: Any) -> Any:
        self._calls.append(values)
        return np.abs(values)


@pytest.mark.parametrize("name", [[], {}, None, 3])
def test_categories_of_a_damaged_file_are_left_out(
    tmp_path: Path, sound: Callable[[str], Path], name: Any
) -> None:
    folder = sound("yolo")
    split = {"file": {}, "categories": [{"name": name}], "images": {}, "objects": {}}
    content = {"format": "seatrial details 1", "splits": {"train": split}}
    (folder / "details.json").write_text(json.dumps(content))
    assert convert(folder, tmp_path / "out", "coco").notes == ()
