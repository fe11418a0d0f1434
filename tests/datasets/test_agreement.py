"""Images and labels that agree: what does not is told once, and left out where it may be."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from seatrial.datasets import agreement
from seatrial.datasets.agreement import agreed, image_place, inspect_sets, present_paths
from seatrial.datasets.inspection import InspectedImage
from seatrial.datasets.issues import LabelIssue, refuse
from seatrial.datasets.labels import Category, LabelledImage, LabelledSet, Truth
from seatrial.errors import InvalidDataset

RED, GREEN = Category(1, "red"), Category(2, "green")
Box = list[float]  # left, top, width, height
SEEN = {Path(f"{name}.jpg"): InspectedImage(size=(64, 48)) for name in "abc"}


def labelled(
    *boxes: tuple[int, int, Box],
    names: str = "abc",
    categories: tuple[Category, ...] = (RED, GREEN),
    labels: str | None = None,
    source: str = "coco:x",
) -> LabelledSet:
    """Images of 64 x 48 and boxes: index of the image, index of the category, box."""
    return LabelledSet(
        source,
        tuple(
            LabelledImage(
                number, f"{name}.jpg", Path(f"{name}.jpg"), 64, 48, labels and Path(labels)
            )
            for number, name in enumerate(names, 1)
        ),
        categories,
        Truth.of([b[0] for b in boxes], [b[1] for b in boxes], [b[2] for b in boxes]),
    )


def told(
    own: LabelledSet, seen: dict[Path, InspectedImage] = SEEN
) -> tuple[LabelledSet, list[LabelIssue]]:
    issues: list[LabelIssue] = []
    return agreed({"val": own}, seen, issues.append)["val"], issues


def test_what_agrees_stays_as_it_is_and_has_measured_sizes() -> None:
    own = labelled((0, 0, [1, 2, 3, 4]), (2, 1, [0, 0, 64, 48]))
    found, issues = told(own)
    assert issues == []
    assert found.notes == ()
    assert {(i.width, i.height, i.measured) for i in found.images} == {(64, 48, True)}
    np.testing.assert_array_equal(found.truth.xywh, own.truth.xywh)


@pytest.mark.parametrize(
    ("seen", "kind", "message"),
    [
        (InspectedImage(size=(48, 64)), "size-differs", "labelled as 64 x 48: turned by its EXIF"),
        (InspectedImage(size=(65, 48)), "size-differs", r"65 x 48, labelled as 64 x 48$"),
        (InspectedImage(error="cut off"), "broken-image", "^cut off$"),
    ],
)
def test_an_image_that_disagrees_is_left_out_with_its_boxes(
    seen: InspectedImage, kind: str, message: str
) -> None:
    own = labelled((0, 0, [1, 2, 3, 4]), (1, 1, [5, 5, 5, 5]), (2, 0, [9, 9, 9, 9]))
    found, (issue,) = told(own, {**SEEN, Path("b.jpg"): seen})
    assert issue.kind == kind
    assert re.search(message, issue.message)
    with pytest.raises(InvalidDataset, match=re.escape(issue.message)) as caught:
        agreed({"val": own}, {**SEEN, Path("b.jpg"): seen}, refuse)
    assert "seatrial data check lists all issues" in caught.value.hint
    assert [image.name for image in found.images] == ["a.jpg", "c.jpg"]
    assert found.truth.xywh.tolist() == [[1, 2, 3, 4], [9, 9, 9, 9]]
    assert found.truth.image.tolist() == [0, 1]


def test_a_missing_image_stays_for_the_caller_to_judge() -> None:
    found, (issue,) = told(labelled(names="az"))
    assert (issue.kind, issue.message) == ("missing-image", "z.jpg is not there")
    assert len(found.images) == 2


@pytest.mark.parametrize("size", [(None, None), (0, 0), (64, None)])
def test_sizes_that_labels_do_not_say_are_those_of_the_files(
    size: tuple[int | None, int | None],
) -> None:
    own = labelled(names="a")
    (image,) = own.images
    bare = msgspec.structs.replace(image, width=size[0], height=size[1])
    found, issues = told(LabelledSet("x", (bare,), own.categories, own.truth))
    assert issues == []
    assert (found.images[0].width, found.images[0].height) == (64, 48)


PART, WHOLE, CORNER = [0.25, 0.5, 0.1, 0.2], [0, 0, 1, 1], [0, 0, 0.5, 1]


@pytest.mark.parametrize(
    ("boxes", "left"),
    [
        ([PART, WHOLE, CORNER], 0),
        ([PART, [10.5, 5, 9, 9]], 1),  # some tools wrote fractions, some pixels
        ([WHOLE], 1),  # the first pixel, as far as one box can tell
        ([[-0.75, -0.5, 1.1, 1.2]], 0),  # VOC, whose pixels count from 1
        ([[0.5, 0.5, 1, 1]], 1),
        ([[-5, -5, 5.5, 5.5]], 1),  # over the border: another fault
        ([[0, 0, 0, 0]], 1),
    ],
)
def test_boxes_in_the_first_pixel_are_fractions(boxes: list[Box], left: int) -> None:
    found, issues = told(labelled(*((0, 0, box) for box in boxes)))
    assert len(found.truth) == left
    assert {issue.kind for issue in issues} <= {"box-fractions"}
    assert len(issues) == len(boxes) - left


@pytest.mark.parametrize(("side", "fractions"), [(2, 0), (3, 1)])
def test_in_an_image_of_two_pixels_no_box_is_a_fraction(side: int, fractions: int) -> None:
    own = labelled((0, 0, [0.25, 0.25, 0.5, 0.5]), names="a")
    (image,) = own.images
    small = LabelledSet(
        "x",
        (msgspec.structs.replace(image, width=side, height=side),),
        own.categories,
        own.truth,
    )
    issues = told(small, {Path("a.jpg"): InspectedImage(size=(side, side))})[1]
    assert [issue.kind for issue in issues] == ["box-fractions"] * fractions


def test_an_image_that_is_labelled_twice_names_both_places() -> None:
    found, issues = told(labelled((0, 0, [1, 1, 5, 5]), names="aab", labels="x.json"))
    assert [(issue.kind, issue.where) for issue in issues] == [
        ("image-twice", "x.json, image 1"),
        ("image-twice", "x.json, image 2"),
    ]
    assert issues[0].message == "labels a.jpg, which is labelled by x.json, image 2 too"
    assert [image.name for image in found.images] == ["b.jpg"]  # whose boxes they are is unknown
    assert len(found.truth) == 0


def test_images_that_share_a_label_file_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    found, (issue,) = told(labelled(names="ab", labels=str(tmp_path / "a.txt")))
    assert (issue.kind, issue.where) == ("labels-shared", str(tmp_path / "a.txt"))
    assert issue.message == "holds the labels of a.jpg and of b.jpg"
    assert [image.name for image in found.images] == ["a.jpg"]
    # No labels are no shared labels, and all images of COCO share their file.
    assert told(labelled(names="ab", labels=str(tmp_path / "gone.txt")))[1] == []
    (tmp_path / "all.json").write_text("")
    assert told(labelled(names="ab", labels=str(tmp_path / "all.json")))[1] == []


TWINS = (Category(0, "cars"), Category(1, "cars"), Category(2, "red"))


@pytest.mark.parametrize(
    ("used", "kinds", "ids", "categories"),
    [
        ([1, 1, 2], ["class-unused"], [1, 2], [0, 0, 1]),  # Roboflow's root
        ([0, 2], ["class-unused"], [0, 2], [0, 1]),
        ([], ["class-unused"], [0, 2], []),
        ([0, 1, 2], ["class-twice"], [0, 2], [0, 0, 1]),
    ],
)
def test_classes_of_one_name_are_one(
    used: list[int], kinds: list[str], ids: list[int], categories: list[int]
) -> None:
    boxes = [(0, category, [1.0, 1.0, 5.0, 5.0 + n]) for n, category in enumerate(used)]
    found, issues = told(labelled(*boxes, categories=TWINS))
    assert [issue.kind for issue in issues] == kinds
    assert [category.id for category in found.categories] == ids
    assert found.truth.category.tolist() == categories
    assert bool(found.notes) == (kinds == ["class-unused"])


def test_a_class_that_another_split_uses_stays_in_all() -> None:
    one = labelled((0, 1, [1, 1, 5, 5]), categories=TWINS)
    other = labelled(categories=TWINS)
    found = agreed({"train": one, "val": other}, SEEN, refuse)
    assert [[c.id for c in own.categories] for own in found.values()] == [[1, 2], [1, 2]]


def test_numbers_that_two_splits_name_otherwise_are_no_twins() -> None:
    one = labelled((0, 0, [1, 1, 5, 5]))
    other = labelled((0, 0, [1, 1, 5, 5]), categories=(Category(1, "green"), Category(2, "red")))
    found = agreed({"train": one, "val": other}, SEEN, refuse)
    assert [own.categories for own in found.values()] == [one.categories, other.categories]


def test_what_is_odd_about_whole_images_is_told_and_noted() -> None:
    odd = InspectedImage(size=(64, 48), warnings=(("misnamed-image", "holds PNG"),))
    found, (issue,) = told(labelled(names="a"), {Path("a.jpg"): odd})
    assert (issue.severity, issue.where, issue.message) == ("warning", "a.jpg", "holds PNG")
    assert found.notes == ("images in another format than their name says: 1",)


def test_only_sizes_that_are_not_known_to_be_the_files_are_measured(
    sets: dict[str, LabelledSet],
) -> None:
    own = sets["val"]
    known = tuple(msgspec.structs.replace(image, measured=True) for image in own.images[:1])
    mixed = {"val": LabelledSet("x", (*known, *own.images[1:]), own.categories, own.truth)}
    assert present_paths(mixed) == [image.path for image in own.images]
    assert list(inspect_sets(mixed, pixels=False)) == [own.images[1].path]
    assert len(inspect_sets(mixed, pixels=True)) == 2
    lost = labelled(names="z")
    assert present_paths({"val": lost}) == []


def test_the_place_of_an_image_is_its_label_file_or_its_id_in_the_json() -> None:
    path = Path("a.jpg")
    assert image_place(LabelledImage(7, "a", path, 1, 1, Path("x.json"))) == "x.json, image 7"
    assert image_place(LabelledImage(7, "a", path, 1, 1, Path("x.txt"))) == "x.txt"


def test_an_image_that_is_labelled_many_times_names_few_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named: list[object] = []
    monkeypatch.setattr(agreement, "image_place", lambda image: str(named.append(image)))
    issues = told(labelled(names="a" * 500, labels="x.json"))[1]
    assert len(issues) == 500
    assert len(named) <= 4 * 500
    assert issues[9].message.endswith(" and 497 more too")
