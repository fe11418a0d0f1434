"""Labelled images of any format, and images that are missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coco_labels import changed
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset, InvalidInput


def test_missing_picture_is_an_error_unless_it_is_left_out_by_name(
    write_coco: Callable[..., Path],
) -> None:
    folder = write_coco(changed("annotations", 1, image_id=3), names="b")
    with pytest.raises(
        InvalidDataset, match=r"of 2 images .* name, 1 is not in .*: a.png"
    ) as caught:
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
    with pytest.raises(InvalidDataset, match="name 2 images, of which none is in"):
        read_labelled(f"coco:{folder}", skip_missing=True)


@pytest.mark.parametrize("spec", ["kitti:.", "coco", "coco:", "."])
def test_unknown_format_is_refused(spec: str) -> None:
    with pytest.raises(InvalidInput, match="does not name a labelled set") as caught:
        read_labelled(spec)
    assert "yolo:FOLDER" in caught.value.hint


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="nowhere does not exist"):
        read_labelled(f"coco:{tmp_path}/nowhere")


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("yolo:{}/data.yaml", "yolo:{0} --annotations {0}/data.yaml"),
        ("coco:{}/data.yaml", "coco:FOLDER --annotations {}/data.yaml"),
    ],
)
def test_a_file_that_is_named_for_the_folder_is_given_beside_it(
    tmp_path: Path, spec: str, hint: str
) -> None:
    (tmp_path / "data.yaml").write_text("names: [a]\n")
    with pytest.raises(InvalidDataset, match=r"data\.yaml is not a folder") as refusal:
        read_labelled(spec.format(tmp_path))
    assert refusal.value.hint.endswith(hint.format(tmp_path))
