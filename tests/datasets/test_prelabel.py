"""Labels by a model: gaps are filled, flickers dropped, and both files for review are right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.check import check
from seatrial.datasets.prelabel import PrelabelOptions, Teacher, prelabel
from seatrial.datasets.read import read_labelled
from seatrial.deployment import Thresholds
from seatrial.detect.decode import EXTRANEOUS, decode
from seatrial.detect.detections import Detections
from seatrial.detect.detector import Detected
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from square_videos import paint, write_video

pytest.importorskip("av", reason="PyAV is not installed: seatrial[video]")
pytest.importorskip("scipy", reason="SciPy is not installed: seatrial[video]")


def detect(data: bytes, options: Thresholds) -> Detected:
    """Sees bright squares; the brighter, the surer. Larger ones are of another class."""
    odd: list[str] = []
    image = decode(data, max_pixels=10**6, on_warning=odd.append)
    mask = (image.min(2) > 120).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    rows = []
    for left, top, width, height, area in stats[1:count].tolist():
        if area > 60:
            level = float(image[top + height // 2, left + width // 2].mean())
            rows.append(([left, top, left + width, top + height], (level - 110) / 140, width > 30))
    rows = [row for row in rows if row[1] >= options.confidence]
    found = Detections(
        np.array([box for box, *_ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([kind for *_, kind in rows], np.int64),
    )
    return Detected(image, found, {}, 1, warnings=tuple(odd))


TEACHER = Teacher("squares", ("small", "large", "never"), detect, 2)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A square that is weak for a while and then hidden, one that flickers, one that stands."""
    frames = []
    for n in range(20):
        level = 135 if 4 <= n < 7 else 230
        moving = [] if 8 <= n < 12 else [(8 + 4 * n, 10, 20, level)]
        flicker = [(130, 70, 16, 230)] if n == 10 else []
        frames.append([*moving, *flicker, (20, 50, 40, 230)])
    return write_video(tmp_path / "clip.mp4", frames)


def test_tracks_fill_gaps_and_drop_flickers(clip: Path, tmp_path: Path) -> None:
    made = prelabel(clip, tmp_path / "out", TEACHER, PrelabelOptions(every=5))
    assert (made.looked_at, made.images, made.tracks) == (20, 4, 2)
    assert made.origins == {"detected": 6, "weak": 1, "interpolated": 1}
    assert made.classes == {"small": 4, "large": 4}
    document = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert document["info"]["description"] == "labels by squares, not checked by anybody"
    names = {row["id"]: row["file_name"] for row in document["images"]}
    assert list(names.values()) == [f"clip-{n:06d}.jpg" for n in (0, 5, 10, 15)]
    small = [row for row in document["annotations"] if row["category_id"] == 1]
    assert [row["origin"] for row in small] == ["detected", "weak", "interpolated", "detected"]
    assert len({row["track_id"] for row in small}) == 1
    for row, n in zip(small, (0, 5, 10, 15), strict=True):
        np.testing.assert_allclose(row["bbox"], [8 + 4 * n, 10, 20, 20], atol=1.5)
        assert 0 < row["score"] <= 1


def test_what_is_written_is_a_sound_dataset(clip: Path, tmp_path: Path) -> None:
    prelabel(clip, tmp_path / "out", TEACHER, PrelabelOptions(every=10))
    found = check(tmp_path / "out")
    assert found.count("error") == 0
    assert [(facts.format, facts.images) for facts in found.splits] == [("coco", 2)]
    assert [c.name for c in read_labelled(f"coco:{tmp_path / 'out'}").categories] == [
        "small",
        "large",
    ]


def test_label_studio_gets_the_same_boxes(clip: Path, tmp_path: Path) -> None:
    prelabel(clip, tmp_path / "out", TEACHER, PrelabelOptions(every=5))
    tasks = json.loads((tmp_path / "out" / "label_studio.json").read_text())
    regions = [region for task in tasks for region in task["predictions"][0]["result"]]
    document = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert len(tasks) == len(document["images"])
    assert [region["score"] for region in regions] == [
        row["score"] for row in document["annotations"]
    ]
    assert tasks[0]["data"]["image"].endswith("?d=out/images/clip-000000.jpg")
    assert tasks[0]["predictions"][0]["model_version"] == "squares"


def test_boxes_are_in_the_order_of_their_confidence_and_clipped(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    squares = [(-6, 10, 20, 180), (150, 60, 20, 230), (60, 20, 20, 200)]
    image = np.full((96, 160, 3), 60, np.uint8)
    for left, top, side, level in squares:
        image[top : top + side, max(0, left) : left + side] = level
    Image.fromarray(image).save(source / "a.png")

    def over_the_border(data: bytes, thresholds: Thresholds) -> Detected:
        """Boxes that reach beyond the image, and one that is nearly outside."""
        found = Detections(
            np.array([[-6, 10, 14, 30], [150, 60, 170, 80], [60, 20, 80, 40], [158.5, 0, 190, 9]],
                     np.float32),
            np.array([0.5, 0.9, 0.7, 0.8], np.float32),
            np.array([2, 0, 0, 1], np.int64),
        )  # fmt: skip
        return Detected(image, found, {}, 1)

    teacher = Teacher("border", ("small", "large", "odd"), over_the_border, 1)
    made = prelabel(source, tmp_path / "out", teacher, PrelabelOptions())
    document = json.loads((tmp_path / "out" / "instances.json").read_text())
    rows = document["annotations"]
    assert [row["bbox"] for row in rows] == [[150, 60, 10, 20], [60, 20, 20, 20], [0, 10, 14, 20]]
    assert [row["score"] for row in rows] == [0.9, 0.7, 0.5]
    # Only classes that occur, numbered from 1.
    assert document["categories"] == [{"id": 1, "name": "small"}, {"id": 2, "name": "odd"}]
    assert [row["category_id"] for row in rows] == [1, 1, 2]
    assert made.classes == {"small": 2, "odd": 1}


def test_short_tracks_are_left_out(clip: Path, tmp_path: Path) -> None:
    made = prelabel(clip, tmp_path / "out", TEACHER, PrelabelOptions(every=5, shortest=17))
    assert (made.tracks, made.classes) == (1, {"large": 4})
    made = prelabel(clip, tmp_path / "all", TEACHER, PrelabelOptions(every=5, shortest=1))
    assert made.tracks == 3


def test_a_gap_that_is_too_long_is_not_filled(clip: Path, tmp_path: Path) -> None:
    options = PrelabelOptions(every=5, longest_gap_s=0.3)  # three frames; the gap has four
    made = prelabel(clip, tmp_path / "out", TEACHER, options)
    assert "interpolated" not in made.origins
    assert made.tracks == 3


def test_without_tracks_only_what_is_sure_counts(clip: Path, tmp_path: Path) -> None:
    made = prelabel(clip, tmp_path / "out", TEACHER, PrelabelOptions(every=5, track=False))
    assert made.tracks is None
    assert made.origins == {"detected": 7}  # with the flicker, without the weak one and the gap


def test_frames_between_may_be_left_out(clip: Path, tmp_path: Path) -> None:
    made = prelabel(clip, tmp_path / "out", TEACHER, PrelabelOptions(every=4, detect_every=2))
    assert (made.looked_at, made.images) == (10, 5)


def test_only_the_classes_that_are_wanted(clip: Path, tmp_path: Path) -> None:
    made = prelabel(clip, tmp_path / "out", TEACHER, PrelabelOptions(classes=("Large",)))
    assert made.classes == {"large": 2}
    with pytest.raises(InvalidConfig, match="has no class 'cat'") as caught:
        prelabel(clip, tmp_path / "other", TEACHER, PrelabelOptions(classes=("cat",)))
    assert "small, large, never" in caught.value.hint
    assert not (tmp_path / "other").exists()


def test_a_folder_of_pictures_each_for_itself(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    (source / "more").mkdir(parents=True)
    Image.fromarray(paint([(8, 10, 20, 230)])).save(source / "a.png")
    Image.fromarray(paint([])).save(source / "more" / "b.png")
    (source / "c.jpg").write_bytes(b"broken")
    made = prelabel(source, tmp_path / "out", TEACHER, PrelabelOptions())
    assert (made.images, made.tracks, made.classes) == (2, None, {"small": 1})
    assert [name.split(":")[0] for name in made.skipped] == ["c.jpg"]
    found = read_labelled(f"coco:{tmp_path / 'out'}")
    assert [image.name for image in found.images] == ["a.png", "more/b.png"]
    assert found.images[0].path.read_bytes() == (source / "a.png").read_bytes()


def test_no_image_is_written_over_another(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    (source / "a").mkdir(parents=True)
    names = ["a/b.png", "a_b.png", "c.bmp", "c.gif", "c.png", "c.gif.png"]
    for number, name in enumerate(names):
        Image.fromarray(paint([(8, 10 * number, 20, 230)])).save(source / name)
    made = prelabel(source, tmp_path / "out", TEACHER, PrelabelOptions())
    assert (made.images, made.skipped) == (6, ())
    found = read_labelled(f"coco:{tmp_path / 'out'}")  # which refuses an image with two rows
    assert {image.name for image in found.images} == {
        *("a/b.png", "a_b.png", "c.bmp.png", "c.gif.png.png", "c.gif.png", "c.png")
    }
    assert len({image.path for image in found.images}) == 6
    tops = [round(top / 10) for top in found.truth.xywh[:, 1]]
    assert sorted(tops) == list(range(6))


def test_images_that_cannot_be_read_are_named_and_odd_ones_noted(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    Image.fromarray(paint([(8, 10, 20, 230)])).save(source / "a.jfif", "JPEG")
    data = (source / "a.jfif").read_bytes()
    (source / "b.jpg").write_bytes(data[:-2] + bytes(20) + data[-2:])
    (source / "c.dng").write_bytes(b"II*\0")
    (source / "d.bmp").write_bytes(b"BM cut off")
    (source / "e.gif").mkdir()
    made = prelabel(source, tmp_path / "out", TEACHER, PrelabelOptions())
    assert made.images == 2
    assert made.notes == (f"1 image: each {EXTRANEOUS}",)
    first, second = made.skipped
    assert first == "c.dng: .dng files are not read: convert it to JPEG or PNG"
    assert second.startswith("d.bmp: the image")
    names = [image.name for image in read_labelled(f"coco:{tmp_path / 'out'}").images]
    assert names == ["a.jfif", "b.jpg"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda path: None, InvalidDataset, "does not exist"),
        (lambda path: path.mkdir(), InvalidDataset, "holds no images"),
        (os.mkfifo, InvalidDataset, "is neither a file nor a folder"),
        (lambda path: path.write_bytes(b"no video"), InvalidInput, "cannot be read"),
    ],
)
def test_a_source_without_pictures_leaves_nothing_behind(
    tmp_path: Path, make: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    make(tmp_path / "source")
    with pytest.raises(error, match=message):
        prelabel(tmp_path / "source", tmp_path / "out", TEACHER, PrelabelOptions())
    assert {path.name for path in tmp_path.iterdir()} <= {"source"}


@pytest.mark.parametrize(
    "options",
    [
        {"every": 10, "detect_every": 4},
        {"every": 0},
        {"every": 0, "detect_every": 0},
        {"confidence": 0.2, "weakest": 0.3},
        {"weakest": 0.0},
        {"confidence": 1.1},
        {"shortest": 0},
        {"longest_gap_s": -0.1},
    ],
)
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(InvalidConfig):
        PrelabelOptions(**options)


@pytest.mark.parametrize(
    "given",
    [
        {"every": 0}, {"detect_every": 0}, {"every": 3, "detect_every": 2}, {"shortest": 0},
        {"longest_gap_s": -0.1}, {"weakest": 0.0}, {"confidence": 1.1},
        {"weakest": 0.6, "confidence": 0.5},
    ],
)  # fmt: skip
def test_options_that_cannot_be_carried_out(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig):
        PrelabelOptions(**{"every": 6, **given})


def test_the_least_that_can_be_asked_for() -> None:
    PrelabelOptions(every=1, detect_every=1, shortest=1, longest_gap_s=0.0)
    PrelabelOptions(every=1, weakest=1.0, confidence=1.0)
