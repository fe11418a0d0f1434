"""Splits: seeded, by group, even in every class."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seatrial.datasets.check import check
from seatrial.datasets.convert import SplitOptions
from seatrial.datasets.convert import split as split_dataset
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.datasets.near_duplicates import fingerprints
from seatrial.datasets.split import _improve, assign, group_names, grouped
from seatrial.errors import InvalidConfig, InvalidDataset

Sound = Callable[[str], Path]
Tree = Callable[[Path], dict[str, str]]
THIRDS = {"train": 0.6, "val": 0.2, "test": 0.2}


def pictures(names: list[str], classes: list[list[int]] | None = None) -> LabelledSet:
    """Pictures with objects of the classes given."""
    labels = classes or [[0]] * len(names)
    rows = [(image, category) for image, own in enumerate(labels) for category in own]
    return LabelledSet(
        "test",
        tuple(LabelledImage(i, name, Path(name), 64, 48) for i, name in enumerate(names)),
        tuple(Category(c, f"class {c}") for c in range(1 + max(c for _, c in rows))),
        Truth.of([i for i, _ in rows], [c for _, c in rows], [[1, 1, 5, 5]] * len(rows)),
    )


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("bikes-0007.jpg", "bikes"),
        ("cam 2_frame_00013.png", "cam 2"),
        ("frame_0001.jpg", "frame"),
        ("a/shop.12.jpg", "a/shop"),
        ("IMG_1234.JPG", "IMG_1234.JPG"),
        ("000000000139.jpg", "000000000139.jpg"),
        ("astronaut.jpg", "astronaut.jpg"),
        # Augmented copies of Roboflow, and uploads of Label Studio.
        ("photo-a_jpg.rf.0000000000000000756158cae84d4f99.jpg", "photo-a"),
        ("train/photo-a_PNG.rf.00000000000000001b119000fefce840.jpg", "photo-a"),
        ("IMG_1234_jpeg.rf.9AbcDef0123456789xyz.jpg", "IMG_1234"),
        ("shop-0001_jpg.rf.00000000000000001b119000fefce840.jpg", "shop"),
        ("photo.rf.00000000000000001b119000fefce840.png", "photo"),
        ("car.rf.x.jpg", "car.rf.x.jpg"),
        ("1a2b3c4d-shop-0001.jpg", "shop"),
        ("5e6f7a8b-shop-0002.jpg", "shop"),
        ("20210601-0001.jpg", "20210601"),
    ],
)
def test_frames_of_a_clip_share_a_name_and_serial_names_say_nothing(name: str, group: str) -> None:
    assert group_names(pictures([name]), "frames") == [group]


def test_other_rules_for_groups() -> None:
    found = pictures(["site1/b-2.jpg", "site2/b-3.jpg"])
    assert group_names(found, "none") == ["site1/b-2.jpg", "site2/b-3.jpg"]
    assert group_names(found, "folder") == ["site1", "site2"]
    assert group_names(found, r"^site(\d)") == ["1", "2"]
    assert group_names(found, "b") == ["b", "b"]
    with pytest.raises(InvalidConfig, match=r"does not match the name 'site1/b-2\.jpg'"):
        group_names(found, "camera")
    with pytest.raises(InvalidConfig, match="not a regular expression"):
        group_names(found, "(")


def test_a_long_clip_is_cut_into_runs_in_the_order_of_its_frames() -> None:
    found = pictures([f"clip-{number}.jpg" for number in (10, 9, 1, 2, 30)])
    assert group_names(found, "frames", block=2) == [
        *("clip, part 2", "clip, part 2", "clip, part 1", "clip, part 1", "clip, part 3")
    ]


def test_no_group_is_in_two_splits_and_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    names = [f"clip{rng.integers(25)}-{number}.jpg" for number in range(300)]
    classes = [rng.integers(0, 4, rng.integers(1, 5)).tolist() for _ in names]
    found = pictures(names, classes)
    groups = grouped(group_names(found, "frames"), [None] * 300)
    assert len(groups.names) == 25
    chosen = assign(found, groups, THIRDS, seed=0)
    for group in range(25):
        assert len(set(chosen[groups.of == group].tolist())) == 1
    assert chosen.tolist() == assign(found, groups, THIRDS, seed=0).tolist()
    assert chosen.tolist() != assign(found, groups, THIRDS, seed=1).tolist()


def test_every_class_is_shared_out_evenly_rare_ones_too() -> None:
    rng = np.random.default_rng(1)
    # Class 5 is in ten pictures of 400, class 0 in nearly all.
    classes = [
        [0] * int(rng.integers(0, 6)) + [1 + int(rng.integers(4))] + [5] * (number < 10)
        for number in range(400)
    ]
    found = pictures([f"{number}.jpg" for number in range(400)], classes)
    groups = grouped(group_names(found, "none"), [None] * 400)
    chosen = assign(found, groups, THIRDS, seed=0)
    assert np.bincount(chosen).tolist() == [240, 80, 80]
    table = np.zeros((3, 6), int)
    np.add.at(table, (chosen[found.truth.image], found.truth.category), 1)
    assert table[:, 5].tolist() == [6, 2, 2]
    np.testing.assert_allclose(table / table.sum(0), [[0.6] * 6, [0.2] * 6, [0.2] * 6], atol=0.02)


def test_pictures_that_are_alike_stay_together(photos: dict[str, Path]) -> None:
    """Frames that bear no name in common are told by what they show."""
    paths = [photos[name] for name in ("bikes-0119", "bikes-0135", "chelsea", "coffee")]
    seen = fingerprints([*paths, paths[2]])
    groups = grouped(["a", "b", "c", "d", "e"], [seen[p] for p in [*paths, paths[2]]])
    assert groups.of[2] == groups.of[4]
    assert len({groups.of[index] for index in (0, 2, 3)}) == 3
    apart = grouped(["c, part 1", "c, part 2"], [seen[paths[2]]] * 2, clips=["c", "c"])
    assert apart.of.tolist() == [0, 1]


def test_each_split_has_a_group_even_where_one_is_very_large() -> None:
    found = pictures([*(f"long-{number}.jpg" for number in range(50)), "b.jpg", "c.jpg"])
    groups = grouped(group_names(found, "frames"), [None] * 52)
    assert sorted(np.bincount(assign(found, groups, THIRDS, 0)).tolist()) == [1, 1, 50]


def test_one_clip_cannot_be_split() -> None:
    found = pictures([f"clip-{number}.jpg" for number in range(9)])
    groups = grouped(group_names(found, "frames"), [None] * 9)
    with pytest.raises(InvalidDataset, match="1 group cannot be split into 3: clip") as caught:
        assign(found, groups, THIRDS, 0)
    assert "--block" in caught.value.hint


def test_a_split_keeps_its_last_group_however_small_its_fraction_is() -> None:
    found = pictures([f"{number}.jpg" for number in range(12)])
    groups = grouped(group_names(found, "none"), [None] * 12)
    for seed in range(4):
        chosen = assign(found, groups, {"train": 0.98, "val": 0.01, "test": 0.01}, seed)
        assert np.bincount(chosen, minlength=3).tolist() == [10, 1, 1]


def test_the_number_of_images_weighs_as_much_as_all_classes_together() -> None:
    """Of eleven images five and six, although four and seven share the classes more evenly."""
    objects = {"a": [[4], [4, 0], [3], []], "b": [[4], [0]],
               "c": [[1, 2], [4], []], "d": [[2, 0], [4, 4]]}  # fmt: skip
    names = [f"{clip}-{number}.jpg" for clip, own in objects.items() for number in range(len(own))]
    found = pictures(names, [own for clip in objects.values() for own in clip])
    groups = grouped(group_names(found, "frames"), [None] * 11)
    for seed in range(4):
        chosen = assign(found, groups, {"train": 0.5, "val": 0.5}, seed)
        assert sorted(np.bincount(chosen).tolist()) == [5, 6]


def distance(found: LabelledSet, fractions: dict[str, float], chosen: np.ndarray) -> float:
    """Squared distance of the shares of classes and images from the fractions."""
    classes = len(found.categories)
    of_classes = np.zeros((len(fractions), classes))
    np.add.at(of_classes, (chosen[found.truth.image], found.truth.category), 1)
    of_images = np.bincount(chosen, minlength=len(fractions))
    wanted = np.array(list(fractions.values()))
    of_classes = of_classes / np.maximum(of_classes.sum(0), 1) - wanted[:, None]
    of_images = of_images / of_images.sum() - wanted
    return float((of_classes**2).sum() + classes * (of_images**2).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fractions", [THIRDS, {"train": 0.9, "val": 0.05, "test": 0.05}])
def test_no_move_and_no_exchange_comes_nearer_to_the_fractions(
    fractions: dict[str, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = [f"clip{clip}-{n}.jpg" for clip in range(7) for n in range(int(rng.integers(1, 9)))]
    found = pictures(names, [rng.integers(0, 3, rng.integers(1, 4)).tolist() for _ in names])
    groups = grouped(group_names(found, "frames"), [None] * len(names))
    chosen = assign(found, groups, fractions, seed)
    own = [int(chosen[groups.of == group][0]) for group in range(7)]
    assert {*own} == {0, 1, 2}
    others = [[*own[:g], split, *own[g + 1 :]] for g in range(7) for split in range(3)]
    for one, other in itertools.combinations(range(7), 2):
        exchanged = own.copy()
        exchanged[one], exchanged[other] = own[other], own[one]
        others.append(exchanged)
    reached = distance(found, fractions, chosen)
    for choice in others:
        if {*choice} == {0, 1, 2}:
            assert distance(found, fractions, np.array(choice)[groups.of]) > reached - 1e-9


def test_the_last_group_of_a_split_is_not_moved_away_however_many_went_before() -> None:
    """Nine groups of one image, eight in the first split, which is to have none."""
    amounts, chosen = np.ones((9, 1)), np.array([0] * 8 + [1])
    have = np.array([[8.0], [1.0]])
    wanted = np.array([[0.0], [9.0]])
    _improve(chosen, amounts, have, wanted, np.ones(1), np.random.default_rng(0))
    assert np.bincount(chosen, minlength=2).tolist() == [1, 8]
    assert have.ravel().tolist() == [1.0, 8.0]


def test_augmented_copies_are_one_group_and_check_knows_them(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = []
    (tmp_path / "set" / "train").mkdir(parents=True)
    for photo in range(6):
        for _ in range(3):  # copies look like one another as little as photos do
            name = f"photo-{'abcdef'[photo]}_jpg.rf.{draw.bytes(16).hex()}.jpg"
            blocks = draw.integers(0, 256, (6, 8, 3), np.uint8)
            Image.fromarray(blocks).resize((64, 48)).save(tmp_path / "set" / "train" / name)
            rows.append(name)
    (tmp_path / "set" / "train" / "_annotations.coco.json").write_text(json.dumps({
        "images": [{"id": n, "file_name": name, "width": 64, "height": 48}
                   for n, name in enumerate(rows, 1)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 30, 20]}
                        for n in range(1, len(rows) + 1)],
        "categories": [{"id": 1, "name": "cat"}],
    }))  # fmt: skip
    options = SplitOptions(fractions=(0.5, 0.5, 0))
    written = split_dataset(tmp_path / "set", tmp_path / "out", options)
    assert [one.groups for one in written.splits] == [3, 3]
    assert not [i for i in check(tmp_path / "out").issues if i.kind == "near-leak"]
    torn = SplitOptions(fractions=(0.5, 0.5, 0), group="none")
    split_dataset(tmp_path / "set", tmp_path / "torn", torn)
    leaks = [i for i in check(tmp_path / "torn").issues if i.kind == "near-leak"]
    assert leaks
    assert all("by its name a copy of one of train" in leak.message for leak in leaks)


@pytest.mark.usefixtures("time_limit")
def test_a_name_of_many_digits_is_read_over_once() -> None:
    name = f"{'1' * 500_000}x.jpg"
    images = (LabelledImage(0, name, Path("a.jpg"), 9, 9),)
    found = LabelledSet("x", images, (), Truth.of([], [], []))
    assert group_names(found, "frames") == [name]


def test_a_name_of_many_marks_is_read_over_once() -> None:
    """A regular expression tried all ways to share them out: minutes for one name."""
    name = "-" * 5000
    images = tuple(
        LabelledImage(n, f"{name}{end}.jpg", Path("a.jpg"), 9, 9)
        for n, end in enumerate(("a", "x-07"))
    )
    found = LabelledSet("x", images, (), Truth.of([], [], []))
    assert group_names(found, "frames") == [f"{name}a.jpg", f"{name}x"]
