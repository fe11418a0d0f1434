"""Datasets found by their files, and all of their splits read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.splits import WHOLE, kinds_of, read_dataset
from seatrial.errors import InvalidDataset, InvalidInput

Sound = Callable[[str], Path]


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc"])
def test_a_format_is_found_by_its_files(sound: Sound, kind: str) -> None:
    folder = sound(kind)
    assert kinds_of(folder) == [kind]
    dataset = read_dataset(folder)
    assert (dataset.folder, dataset.kind) == (folder, kind)
    assert {split: len(own.images) for split, own in dataset.sets.items()} == {"train": 4, "val": 2}
    assert all(own.details is None for own in dataset.sets.values())
    detailed = read_dataset(folder, details=True)
    assert all(own.details is not None for own in detailed.sets.values())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.json", "coco"), ("x.YAML", "yolo"), ("x.yml", "yolo"), ("names.txt", "voc")],
)
def test_a_file_of_labels_decides_the_format_by_its_suffix(
    tmp_path: Path, name: str, kind: str
) -> None:
    assert kinds_of(tmp_path, Path(name)) == [kind]


def test_a_folder_without_a_known_format(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="no dataset of a known format"):
        kinds_of(tmp_path, Path("notes.md"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidDataset, match="is not a folder"):
        kinds_of(tmp_path / "file")
    with pytest.raises(InvalidDataset, match="does not exist"):
        kinds_of(tmp_path / "nothing")
    with pytest.raises(InvalidDataset, match="does not exist"):
        read_dataset(tmp_path / "nothing", "yolo")
    with pytest.raises(InvalidInput, match="unknown format 'kitti'"):
        read_dataset(tmp_path, "kitti")


def test_a_folder_without_splits_is_one_set(sound: Sound, tmp_path: Path) -> None:
    source = sound("coco")
    (tmp_path / "one").mkdir()
    (source / "annotations" / "instances_val.json").rename(tmp_path / "one" / "labels.json")
    assert list(read_dataset(tmp_path / "one").sets) == [WHOLE]


def test_a_split_that_cannot_be_read_is_an_issue_for_those_who_collect_them(sound: Sound) -> None:
    folder = sound("coco")
    (folder / "annotations" / "instances_train.json").write_text("nothing")
    with pytest.raises(InvalidDataset, match="not a COCO annotation file"):
        read_dataset(folder)
    issues: list[LabelIssue] = []
    assert list(read_dataset(folder, on_issue=issues.append).sets) == ["val"]
    assert [(issue.kind, issue.where) for issue in issues] == [("labels-unreadable", str(folder))]
