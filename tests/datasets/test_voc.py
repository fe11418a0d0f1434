"""Pascal VOC as its kit, CVAT, LabelImg and Roboflow write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidDataset

XML = """<annotation>
  <folder>VOC2007</folder>
  <filename>{filename}</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  <object>
    <name>dog</name>
    <pose>Left</pose><truncated>1</truncated><difficult>{difficult}</difficult>
    <bndbox><xmin>{xmin}</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30.5</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>5</xmax><ymax>4</ymax>
    </bndbox></part>
  </object>
</annotation>
"""


def write(folder: Path, name: str, pictures: str = "JPEGImages", **values: object) -> None:
    annotations = folder / ("Annotations" if pictures else "")
    for home in (annotations, folder / pictures):
        home.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 31)).save(folder / pictures / f"{name}.png")
    defaults = {"filename": f"{name}.png", "width": 40, "height": 31, "difficult": 0, "xmin": 1}
    (annotations / f"{name}.xml").write_text(XML.format(**defaults | values))


def test_pixels_count_from_one_and_the_last_is_inside(tmp_path: Path) -> None:
    write(tmp_path, "a")
    found = read_labelled(f"voc:{tmp_path}")
    assert found.truth.xywh.tolist() == [[0, 0, 40, 30.5]]
    assert found.truth.mark.tolist() == [5]
    assert [c.name for c in found.categories] == ["dog"]  # its parts are no objects
    assert found.notes == ()


def test_a_set_with_a_box_at_zero_counts_from_zero(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", xmin=0)
    found = read_labelled(f"voc:{tmp_path}")
    assert found.truth.xywh.tolist() == [[1, 1, 39, 29.5], [0, 1, 40, 29.5]]
    assert found.notes == ("a box begins at 0: pixels were counted from 0",)


def test_difficult_objects_count_neither_way(tmp_path: Path) -> None:
    write(tmp_path, "a", difficult=1)
    assert read_labelled(f"voc:{tmp_path}").truth.crowd.tolist() == [True]


def test_lists_of_the_kit_say_which_picture_is_where(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, name)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a 1\nc -1\n")
    (lists / "val.txt").write_text("b\n")
    (lists / "dog_train.txt").write_text("a 1\n")
    names = {split: [i.name for i in read_labelled(f"voc:{tmp_path}", split=split).images]
             for split in ("train", "val")}  # fmt: skip
    assert names == {"train": ["a.png", "c.png"], "val": ["b.png"]}
    with pytest.raises(InvalidDataset, match=r"has no test\.txt"):
        read_labelled(f"voc:{tmp_path}", split="test")


def test_a_folder_for_each_split_with_everything_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "train", "a", pictures="")
    write(tmp_path / "valid", "b", pictures="")
    assert [i.name for i in read_labelled(f"voc:{tmp_path}", split="val").images] == ["b.png"]
    with pytest.raises(InvalidDataset, match="has no folder test"):
        read_labelled(f"voc:{tmp_path}", split="test")


def test_a_size_of_zero_and_a_name_of_another_machine(tmp_path: Path) -> None:
    write(tmp_path, "a", width=0, height=0, filename="C:/photos/a.bmp")
    image = read_labelled(f"voc:{tmp_path}").images[0]
    assert (image.width, image.height, image.path) == (40, 31, tmp_path / "JPEGImages" / "a.png")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\ndog:::",
        ),
        ("classes.txt", "cat\ndog\n"),
    ],
)
def test_a_list_of_classes_gives_their_numbers(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, "a")
    (tmp_path / name).write_text(text)
    found = read_labelled(f"voc:{tmp_path}")
    assert [(c.id, c.name) for c in found.categories] == [(0, "cat"), (1, "dog")]
    assert found.truth.category.tolist() == [1]


def test_a_folder_without_xml(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="holds no XML files"):
        read_labelled(f"voc:{tmp_path}")
