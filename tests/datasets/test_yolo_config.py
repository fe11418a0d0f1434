"""YOLO folders as tools write them: names and splits, whatever file says them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from seatrial.datasets import yolo, yolo_config
from seatrial.datasets.check import check
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.datasets.splits import kinds_of, read_dataset
from seatrial.datasets.yolo_config import class_list, configuration, find
from seatrial.errors import LONGEST_MESSAGE, InvalidDataset

ROW = "0 0.5 0.5 0.25 0.5\n"
Tree = Callable[..., Path]


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(map(ord, str(path))) % 256
    Image.effect_noise((40, 20), shade + 1).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Tree:
    """Writes a folder of files by name: images where the name ends so, else their text."""

    def write(texts: dict[str, str | bytes], images: Sequence[str] = ()) -> Path:
        home = tmp_path / "set"
        for name in images:
            image(home / name)
        for name, text in texts.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return home

    return write


def plain(folder: Tree, config: str | bytes, name: str = "data.yaml") -> Path:
    """One split, val, of one image."""
    return folder({name: config, "labels/val/a.txt": ROW}, ["images/val/a.png"])


def names(found: LabelledSet) -> list[str]:
    return [category.name for category in found.categories]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{'0': cat, '1': dog}", ["cat", "dog"]),
        ("{0: cat, '1': dog}", ["cat", "dog"]),
        ("{1: dog, 0: cat}", ["cat", "dog"]),
        ("[no, yes]", ["no", "yes"]),
        ("[off, 'null', \"~\"]", ["off", "null", "~"]),
        ("[007, 1.50, 2021-06-01, 0x1F, 1e3]", ["007", "1.50", "2021-06-01", "0x1F", "1e3"]),
        ("['a: b', '#1 bolt', 'it''s', \"q\\\"\"]", ["a: b", "#1 bolt", "it's", 'q"']),
        ("['box [/]', ' cat ', background]", ["box [/]", " cat ", "background"]),
        ("&a [cat, dog]\nalso: *a", ["cat", "dog"]),
    ],
)
def test_names_are_text_as_it_is_written(folder: Tree, text: str, wanted: list[str]) -> None:
    found = read_labelled(f"yolo:{plain(folder, f'val: images/val{chr(10)}names: {text}')}")
    assert names(found) == wanted


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("val: images/val\nnames: [cat, null]", "class 1 has no name"),
        ("val: images/val\nnames: [cat, ]\nnc: 2", "says nc: 2 and names 1"),
        ("val: images/val\nnames: {0: cat, 1: }", "class 1 has no name"),
        ("val: images/val\nnames: [[cat]]", r"class 0 has the name \['cat'\], which is not text"),
        ("val: images/val\nnames: {0: cat, 0: dog}", "the key '0' is there twice"),
        ("val: images/val\nnames: {1: cat, 2: dog}", "numbers from 0"),
        ("val: images/val\nnames: {a: cat}", "numbers from 0"),
        ("val: images/val\nnames: cat", "no usable 'names'"),
        ("val: 5\nnames: [cat]", "the val set '5' is not at"),
        ("val: [2021, images/val]\nnames: [cat]", "the val set '2021' is not at"),
        ("val: {a: b}\nnames: [cat]", "val must be a folder"),
        ("val: [[a]]\nnames: [cat]", "val must be a folder"),
        ("val: images/val\nvalid: images/val\nnames: [cat]", "two keys for the val set"),
        ("val: images/val\npath: [a]\nnames: [cat]", "path must be a folder"),
        ("val: images/val\nnc: two\nnames: [cat]", "says nc: two"),
        ("val: images/val\nkpt_shape: 17\nnames: [cat]", "kpt_shape must be"),
        ("val: images/val\nkpt_shape: [4, 5]\nnames: [cat]", "kpt_shape must be"),
        ("val: images/val\ntask: pose\nnames: [cat]", "says task: pose, and no kpt_shape"),
        ("val: images/val\ntask: classify\nnames: [cat]", "labels are classes of whole images"),
        ("val: @images\nnames: [cat]", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("val: images/val\nnames: [caf\xe9]".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_the_reason(
    folder: Tree, config: str | bytes, message: str
) -> None:
    home = plain(folder, config)
    with pytest.raises(InvalidDataset, match=message) as told:
        read_labelled(f"yolo:{home}")
    assert told.value.hint


@pytest.mark.parametrize("key", ["valid", "validation", "Val"])
def test_the_keys_of_other_tools_name_a_split(folder: Tree, key: str) -> None:
    home = plain(folder, f"{key}: images/val\nnames: [cat]")
    assert list(read_dataset(home).sets) == ["val"]


@pytest.mark.parametrize("name", ["data.yml", "dataset.yaml", "dataset.yml", "my cats.yaml"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_configuration_has_any_name(folder: Tree, name: str, encoding: str) -> None:
    home = plain(folder, "val: images/val\nnames: [cat]\n".encode(encoding), name)
    assert kinds_of(home) == ["yolo"]
    assert len(read_labelled(f"yolo:{home}").truth) == 1


def test_several_configurations_are_asked_for(folder: Tree) -> None:
    text = "val: images/val\nnames: [cat]\n"
    home = folder({"a.yaml": text, "b.yaml": text, "labels/val/a.txt": ROW}, ["images/val/a.png"])
    with pytest.raises(InvalidDataset, match=r"several YOLO configurations: a\.yaml, b\.yaml"):
        read_labelled(f"yolo:{home}")
    assert len(read_labelled(f"yolo:{home}", home / "b.yaml").truth) == 1


CVAT = {
    "obj.data": "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\n"
    "names = data/obj.names\nbackup = backup/\n",
    "obj.names": "cat\ndog\n",
    "train.txt": "data/obj_train_data/a.png\ndata/obj_train_data/sub/b c.png\n",
    "valid.txt": "data/obj_valid_data/a.png\n",
    "obj_train_data/a.txt": ROW,
    "obj_train_data/sub/b c.txt": ROW,
    "obj_valid_data/a.txt": ROW + "1 .2 .2 .1 .1\n",
}
CVAT_IMAGES = ["obj_train_data/a.png", "obj_train_data/sub/b c.png", "obj_valid_data/a.png"]
LABELIMG = {"classes.txt": "cat\ndog\n", "a.txt": ROW, "b.txt": "1 .5 .5 .2 .2\n"}
LABEL_STUDIO = {"classes.txt": "cat\ndog\n", "notes.json": '{"categories": [], "info": {}}',
                "labels/1a2b3c4d-a.txt": ROW}  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "images", "wanted"),
    [
        (CVAT, CVAT_IMAGES, {"train": (2, 2), "val": (1, 2)}),
        (LABELIMG, ["a.png", "b.png"], {"": (2, 2)}),
        (LABEL_STUDIO, ["images/1a2b3c4d-a.png"], {"": (1, 1)}),
        # LabelImg with a folder for its labels, and sets that a person has split by hand.
        ({"labels/classes.txt": "cat\n", "labels/a.txt": ROW}, ["images/a.png"], {"": (1, 1)}),
        (
            {"classes.txt": "cat\n", "labels/train/a.txt": ROW, "labels/valid/b.txt": ROW},
            ["images/train/a.png", "images/valid/b.png"],
            {"train": (1, 1), "val": (1, 1)},
        ),
        (
            {"obj.names": "cat\n", "data/a.txt": ROW, "data/b.txt": "", "images.txt": "data/a.png"},
            ["data/a.png", "data/b.png"],
            {"": (2, 1)},
        ),
        (
            {"obj.names": "cat\n", "train/data/a.txt": ROW, "dev/data/b.txt": ROW},
            ["train/data/a.png", "dev/data/b.png"],
            {"train": (1, 1), "val": (1, 1)},
        ),
        (
            {"classes.txt": "cat\n", "train/labels/a.txt": ROW, "test/labels/b.txt": ROW},
            ["train/images/a.png", "test/images/b.png"],
            {"test": (1, 1), "train": (1, 1)},
        ),
        (
            {"classes.txt": "cat\n", "train/a.txt": ROW, "val/b.txt": ROW},
            ["train/a.png", "val/b.png"],
            {"train": (1, 1), "val": (1, 1)},
        ),
    ],
)
def test_folders_without_yaml(
    folder: Tree, texts: dict[str, str], images: list[str], wanted: dict[str, tuple[int, int]]
) -> None:
    home = folder(texts, images)
    assert kinds_of(home) == ["yolo"]
    sets = read_dataset(home).sets
    assert {s: (len(f.images), len(f.truth)) for s, f in sets.items()} == wanted
    errors = [issue for issue in check(home).issues if issue.severity == "error"]
    assert [issue for issue in errors if issue.kind != "leak"] == []


def test_names_of_a_list_keep_their_folders(folder: Tree) -> None:
    names = [f"obj_train_data/cam{number}/1.png" for number in range(3)]
    listed = "".join(f"data/{name}\n" for name in names)
    labels = {name.replace(".png", ".txt"): ROW for name in names}
    data = "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\neval=coco\n"
    own = {"obj.data": data, "obj.names": "cat\n", "train.txt": listed,
           "valid.txt": "data/obj_valid_data/a.png\ndata/obj_valid_data/a/b/c.png\n",
           "obj_valid_data/a.txt": ROW, "obj_valid_data/a/b/c.txt": ROW}  # fmt: skip
    home = folder(own | labels, [*names, "obj_valid_data/a.png", "obj_valid_data/a/b/c.png"])
    sets = read_dataset(home).sets
    assert [i.name for i in sets["train"].images] == ["cam0/1.png", "cam1/1.png", "cam2/1.png"]
    assert {i.name for i in sets["val"].images} == {"a.png", "a/b/c.png"}


def test_names_of_a_list_over_several_splits_stay_apart(folder: Tree) -> None:
    names = ["images/train/1.png", "images/val/1.png"]
    own = {"data.yaml": "train: all.txt\nnames: [cat]\n", "all.txt": "\n".join(names)}
    labels = {"labels/train/1.txt": ROW, "labels/val/1.txt": ROW}
    assert [i.name for i in read_dataset(folder(own | labels, names)).sets["train"].images] == names


@pytest.mark.parametrize("second", ["validation", "dev", "val2017"])
def test_two_folders_for_a_split_are_refused(folder: Tree, second: str) -> None:
    own = {"classes.txt": "cat\n", "labels/val/a.txt": ROW, f"labels/{second}/b.txt": ROW}
    home = folder(own, ["images/val/a.png", f"images/{second}/b.png"])
    with pytest.raises(InvalidDataset, match=f"2 places for the val set: .*{second}"):
        read_dataset(home)
    own = {"obj.data": f"val = a.txt\n{second} = b.txt\nnames = obj.names", "obj.names": "cat"}
    (home / "classes.txt").unlink()
    with pytest.raises(InvalidDataset, match=f"two keys for the val set, '{second}' among them"):
        read_dataset(folder(own))


@pytest.mark.parametrize("config", ["data.yaml", "classes.txt"])
def test_labelled_images_beside_the_splits_are_named(folder: Tree, config: str) -> None:
    text = {"data.yaml": "train: images/train\nnames: [cat]\n", "classes.txt": "cat\n"}
    own = {config: text[config], "labels/train/a.txt": ROW, "labels/night/b.txt": ROW,
           "fog/labels/c.txt": ROW}  # fmt: skip
    unlabelled = ["images/new/d.png", "runs/e.png"]
    names = ["images/train/a.png", "images/night/b.png", "fog/images/c.png", *unlabelled]
    home = folder(own, names)
    assert read_dataset(home).left_out == (home / "fog", home / "images" / "night")


@pytest.mark.parametrize("config", ["data.yaml", "obj.data"])
def test_lists_that_the_configuration_does_not_name_are_named(
    folder: Tree, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    text = {"data.yaml": "train: train.txt\ntest:\nnames: [cat]\n",
            "obj.data": "train = train.txt\nnight = night.txt\nnames = obj.names"}  # fmt: skip
    own = {config: text[config], "obj.names": "cat\n", "README.txt": "Two nights, a.png\n",
           "train.txt": "images/a.png", "night.txt": "images/b.png", "all.txt": "images/a.png",
           "labels/a.txt": ROW, "labels/b.txt": ROW}  # fmt: skip
    home = folder(own, ["images/a.png", "images/b.png"])
    assert read_dataset(home).left_out == (home / "night.txt",)
    # The configuration names its folder in another way than the person does.
    if config == "data.yaml":
        (home / config).write_text(f"path: {home}\n{text[config]}")
    (home.parent / "link").symlink_to(home)
    monkeypatch.chdir(home.parent)
    for other in (Path("link"), Path("set")):
        assert read_dataset(other).left_out == (other / "night.txt",)


@pytest.mark.parametrize("entry", ["/dev/zero", "pipe"])
def test_a_set_that_is_a_device_or_a_pipe_is_refused(folder: Tree, entry: str) -> None:
    home = folder({"data.yaml": f"val: {entry}\nnames: [cat]\n"})
    os.mkfifo(home / "pipe")
    (home / "endless.yaml").symlink_to("/dev/zero")
    (home / "endless.data").symlink_to("/dev/zero")
    with pytest.raises(InvalidDataset, match=f"the val set '{entry}' is a device or a pipe"):
        read_labelled(f"yolo:{home}")
    for name in ("endless.yaml", "endless.data", "pipe"):
        with pytest.raises(InvalidDataset, match=f"{name} is not a regular file"):
            configuration(home, home / name)
    (home / "data.yaml").unlink()
    assert find(home) == []


def test_what_lies_beside_a_split_hinders_nobody(folder: Tree) -> None:
    own = {"data.yaml": "train: images\ntest: gone\nnames: [cat]\n", "labels/a.txt": ROW,
           "notes.txt": b"caf\xe9 \0", "empty.txt": ""}  # fmt: skip
    home = folder(own, ["images/a.png"])
    (issue,) = check(home).issues
    assert "the test set 'gone' is not at" in issue.message


@pytest.mark.parametrize("entry", ["/", "/usr/..", "root"])
def test_a_set_that_is_the_whole_file_system_is_refused(folder: Tree, entry: str) -> None:
    home = folder({"data.yaml": f"val: {entry}\nnames: [cat]\n"})
    (home / "root").symlink_to("/")
    with pytest.raises(InvalidDataset, match=f"the val set '{entry}' is the whole file system"):
        read_labelled(f"yolo:{home}")


def test_a_folder_that_cannot_be_read_is_named_with_the_configuration(
    folder: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/proc/1/cwd")

    monkeypatch.setattr(yolo, "image_files", denied)
    home = plain(folder, "val: images/val\nnames: [cat]\n")
    with pytest.raises(InvalidDataset, match=r"data\.yaml names .*/proc/1/cwd cannot be read"):
        read_labelled(f"yolo:{home}")


def test_a_list_of_classes_alone_is_no_dataset_of_yolo(folder: Tree) -> None:
    assert find(folder({"classes.txt": "cat\n", "readme.txt": "no rows here\n"})) == []


def test_a_list_of_classes_keeps_its_numbers(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes(b"\xef\xbb\xbf#1 bolt\r\ntype: A\r\nbackground\r\n\r\n")
    assert class_list(file) == ("#1 bolt", "type: A", "background")
    file.write_text("cat\n\ndog\n")
    with pytest.raises(InvalidDataset, match="line 2 is empty"):
        class_list(file)
    file.write_text("\n")
    with pytest.raises(InvalidDataset, match="names no class"):
        class_list(file)


@pytest.mark.parametrize(
    "line",
    [
        "images/val/a.png", "./images/val/a.png", "images\\val\\a.png",
        "C:\\data\\set\\images\\val\\a.png", "/content/data/images/val/a.png",
        "data/images/val/a.png",
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_images_as_other_machines_write_them(
    folder: Tree, line: str, encoding: str
) -> None:
    home = plain(folder, "val: val.txt\nnames: [cat]\n")
    (home / "val.txt").write_bytes(f"{line}\r\n".encode(encoding))
    assert len(read_labelled(f"yolo:{home}").truth) == 1


@pytest.mark.parametrize(
    "entry", ["images\\val", "/content/set/images/val", "C:\\x\\images\\val", "../images/val"]
)
def test_folders_of_another_machine_are_those_beside_the_configuration(
    folder: Tree, entry: str
) -> None:
    home = plain(folder, f"val: '{entry}'\nnames: [cat]\n")
    assert len(read_labelled(f"yolo:{home}").truth) == 1


# Ten aliases of the list before, nine times: 10**10 values in 400 bytes.
BOMB = "a0: &a0 [l, l, l, l, l, l, l, l, l, l]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    "text",
    [
        f"{BOMB}names: [*a9]", f"{BOMB}nc: *a9", f"{BOMB}names: {{x: *a9, 1: *a9}}",
        f"{BOMB}names: [cat]\ntrain: *a9", f"{BOMB}names: [cat]\nkpt_shape: *a9",
        f"names: [[{'x' * 100_000}]]", f"names: [cat]\nnc: [{'x' * 100_000}]",
        f"names: [cat]\nval: {'x' * 100_000}", f"names: [cat]\npath: [{'x' * 100_000}]",
    ],
)  # fmt: skip
def test_messages_are_short_whatever_a_value_holds(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    (issue,) = check(tmp_path).issues
    assert len(issue.message) <= LONGEST_MESSAGE / 4


def test_a_folder_of_many_parts_is_tried_at_few_places(folder: Tree) -> None:
    home = plain(folder, f"val: /{'a/' * 20_000}b\nnames: [cat]\n")
    config = configuration(home, None)
    assert sum(1 for _ in yolo_config._places(config, config.splits["val"][0])) < 50
    with pytest.raises(InvalidDataset, match="the val set '/a/a/a") as told:
        read_labelled(f"yolo:{home}")
    assert len(told.value.message) <= LONGEST_MESSAGE
    home = plain(folder, f"val: {'a' * 300}\nnames: [cat]\n")
    with pytest.raises(InvalidDataset, match="is not at"):
        read_labelled(f"yolo:{home}")


def test_the_configuration_is_read_once_for_all_splits(
    folder: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = plain(folder, "train: images/val\nval: images/val\ntest: images/val\nnames: [cat]\n")
    read: list[Path] = []
    original = yolo_config.read_yaml
    monkeypatch.setattr(yolo_config, "read_yaml", lambda p, **o: read.append(p) or original(p, **o))
    assert len(read_dataset(home).sets) == 3
    assert len(read) == 1
    (home / "data.yaml").write_text("val: images/val\nnames: [cat, dog]\n")
    assert names(read_dataset(home).sets["val"]) == ["cat", "dog"]


def test_blanks_at_the_ends_of_names_are_kept(folder: Tree) -> None:
    home = folder({"classes.txt": "cat \ncat\n dog\n", "a.txt": ROW}, ["a.png"])
    assert names(read_labelled(f"yolo:{home}")) == ["cat ", "cat", " dog"]


def test_files_of_macos_are_not_looked_at(folder: Tree) -> None:
    home = plain(folder, "val: images/val\nnames: [cat]\n")
    for name in ("images/val/._a.png", "labels/val/._a.txt", "images/val/.DS_Store", "._data.yaml"):
        (home / name).write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    assert [issue for issue in check(home).issues if issue.severity == "error"] == []


def test_a_class_list_of_darknet_that_is_missing(folder: Tree) -> None:
    home = folder({"obj.data": "names = data/obj.names\n"})
    with pytest.raises(InvalidDataset, match=r"'data/obj\.names', which is not there"):
        configuration(home, None)


def test_the_folder_without_any_says_which_files_would_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"no data\.yaml, no obj\.data and no classes\.txt"):
        configuration(tmp_path, None)
