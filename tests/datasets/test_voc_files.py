"""Where the files of Pascal VOC lie, as the kit, LabelImg and Roboflow lay them."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.datasets import voc
from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.read import read_labelled
from seatrial.datasets.splits import read_dataset
from seatrial.errors import InvalidDataset
from voc_folders import write_annotated


def test_lists_of_the_kit_say_which_picture_is_where(tmp_path: Path) -> None:
    for name in "abc":
        write_annotated(tmp_path, name)
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
    write_annotated(tmp_path / "train", "a", pictures="")
    write_annotated(tmp_path / "valid", "b", pictures="")
    assert [i.name for i in read_labelled(f"voc:{tmp_path}", split="val").images] == ["b.png"]
    with pytest.raises(InvalidDataset, match="has no folder test"):
        read_labelled(f"voc:{tmp_path}", split="test")


def test_names_between_quotes_are_those_of_cvat(tmp_path: Path) -> None:
    for name in ("my shot 1", "b"):
        write_annotated(tmp_path, name)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text('"my shot 1"\n"b"  1\n')
    found = read_labelled(f"voc:{tmp_path}").images
    assert [i.name for i in found] == ["my shot 1.png", "b.png"]


@pytest.mark.parametrize("second", ["validation", "dev", "val2012"])
def test_two_places_for_one_split_are_refused(tmp_path: Path, second: str) -> None:
    for split, name in (("val", "a"), (second, "b")):
        write_annotated(tmp_path / "folders" / split, name, pictures="")
        write_annotated(tmp_path / "lists", name)
        list_file = tmp_path / "lists" / "ImageSets" / "Main" / f"{split}.txt"
        list_file.parent.mkdir(parents=True, exist_ok=True)
        list_file.write_text(name)
    for layout in ("folders", "lists"):
        with pytest.raises(InvalidDataset, match=f"2 places for the val set: .*{second}"):
            read_labelled(f"voc:{tmp_path / layout}")


def test_labels_in_no_split_are_named(tmp_path: Path) -> None:
    for home, name in (("train", "a"), ("val", "b"), ("night", "c")):
        write_annotated(tmp_path / home, name, pictures="")
    assert read_dataset(tmp_path).left_out == (tmp_path / "night",)
    write_annotated(tmp_path / "lists", "a")
    write_annotated(tmp_path / "lists", "b")
    (tmp_path / "lists" / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "lists" / "ImageSets" / "Main" / "train.txt").write_text("a")
    sets = read_dataset(tmp_path / "lists")
    assert sets.left_out == (tmp_path / "lists" / "Annotations" / "b.xml",)


def test_a_folder_without_xml(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="holds no XML files"):
        read_labelled(f"voc:{tmp_path}")


def test_a_listed_annotation_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    write_annotated(tmp_path, "a")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\n\ngone\n")
    assert voc.splits(tmp_path, None) == ("val",)
    issues: list[LabelIssue] = []
    found = voc.read(tmp_path, None, "val", on_issue=issues.append)
    assert [(issue.kind, issue.where) for issue in issues] == [
        ("missing-annotation", f"{lists / 'val.txt'}, line 3")
    ]
    assert len(found.images) == 1
    assert found.source == f"voc:{tmp_path} val"


def test_xml_of_something_else_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<playlist/>")
    assert not voc.holds(tmp_path)
    write_annotated(tmp_path / "set", "a")
    assert voc.holds(tmp_path / "set")
