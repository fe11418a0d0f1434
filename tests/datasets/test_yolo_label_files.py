"""Label files of a YOLO folder: where they lie, and which belong to no image."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.yolo_label_files import check_label_files, label_file_of

ROW = "0 .5 .5 .2 .2\n"


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("images/val/a.jpg", "labels/val/a.txt"),
        ("images/images/val/a.b.jfif", "images/labels/val/a.b.txt"),
        ("set/val/images", "set/val/images.txt"),
        ("val/a.PNG", "val/a.txt"),
    ],
)
def test_the_last_folder_of_images_is_that_of_labels(image: str, labels: str) -> None:
    assert label_file_of(Path(image)) == Path(labels)


def orphans(folder: Path, *entries: str, images: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    issues: list[LabelIssue] = []
    check_label_files(
        [folder / entry for entry in entries], [folder / name for name in images], issues.append
    )
    assert {issue.kind for issue in issues} <= {"orphaned-labels"}
    return [(str(Path(i.where).relative_to(folder)), i.message) for i in issues]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "labels/a.txt": ROW, "labels/deep/b.txt": ROW, "labels/empty.txt": "\n",
        "labels/classes.txt": ROW, "labels/README.txt": "five words are no row",
        "labels/._a.txt": ROW, "labels/c.csv": ROW,
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "labels" / "utf16.txt").write_text(ROW, encoding="utf-16")
    (tmp_path / "images").mkdir()
    return tmp_path


def test_every_label_file_needs_an_image_at_any_depth(folder: Path) -> None:
    found = orphans(folder, "images", images=("images/a.jpg",))
    assert found == [
        (f"labels/{name}.txt", "belongs to no image") for name in ("deep/b", "empty", "utf16")
    ]


def test_folders_and_links_to_nothing_are_no_label_files(folder: Path) -> None:
    (folder / "labels" / "d.txt").mkdir()
    (folder / "labels" / "e.txt").symlink_to(folder / "gone.txt")
    found = dict(orphans(folder, "images", images=("images/a.jpg",)))
    assert not {"labels/d.txt", "labels/e.txt"} & found.keys()


def test_what_lies_in_place_of_the_image_is_named(folder: Path) -> None:
    (folder / "images" / "a.xyz").write_bytes(b"")
    found = dict(orphans(folder, "images"))
    assert found["labels/a.txt"] == f"{folder / 'images' / 'a.xyz'} is not read as an image"


def test_a_list_may_leave_images_out_but_not_label_files_without_one(folder: Path) -> None:
    (folder / "images" / "utf16.png").write_bytes(b"")
    (folder / "list.txt").write_text("images/a.jpg\n")
    found = orphans(folder, "list.txt", images=("images/a.jpg",))
    assert [name for name, _ in found] == ["labels/empty.txt"]


def test_what_lies_in_place_of_images_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        for name in (f"labels/{number}.txt", f"images/{number}.xyz"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(ROW)
    listed: list[Path] = []
    for function in ("iterdir", "glob"):
        original = getattr(Path, function)
        monkeypatch.setattr(
            Path, function, lambda p, *a, f=original: (listed.append(p), f(p, *a))[1]
        )
    assert len(orphans(tmp_path, "images")) == 50
    assert len(listed) < 5


def test_label_files_beside_images_where_the_writer_puts_them_there(tmp_path: Path) -> None:
    image = tmp_path / "images" / "a.jpg"
    image.parent.mkdir()
    labels = tmp_path / "labels" / "a.txt"
    assert label_file_of(image, beside=True) == labels
    (tmp_path / "images" / "a.txt").write_text(ROW)
    assert label_file_of(image) == labels
    assert label_file_of(image, beside=True) == tmp_path / "images" / "a.txt"
    labels.parent.mkdir()
    labels.write_text(ROW)
    assert label_file_of(image, beside=True) == labels
