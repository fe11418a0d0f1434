"""Pascal VOC as other tools write it: names, encodings, and files that are something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from seatrial.datasets import voc, voc_files
from seatrial.datasets.check import check
from seatrial.datasets.issues import LabelIssue
from seatrial.datasets.labels import SPLITS, Category, LabelledImage, LabelledSet, Truth
from seatrial.datasets.read import read_labelled
from seatrial.datasets.splits import kinds_of, read_dataset
from seatrial.datasets.voc_xml import parse
from seatrial.errors import InvalidDataset

BOX = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
Write = Callable[..., Path]


def xml(inside: str, filename: str = "a.png", head: str = "") -> str:
    return (
        f"{head}<annotation><filename>{filename}</filename><size><width>40</width>"
        f"<height>30</height></size>{inside}</annotation>"
    )


def thing(name: str) -> str:
    return f"<object><name>{name}</name>{BOX}</object>"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path, "PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    """Writes one annotation and its image, and other files of text or bytes."""

    def write(text: str | bytes, name: str = "a.xml", **others: str | bytes) -> Path:
        home = tmp_path / "set"
        image(home / "JPEGImages" / "a.png")
        texts = {f"Annotations/{name}": text, **others}
        for place, own in texts.items():
            (home / place).parent.mkdir(parents=True, exist_ok=True)
            (home / place).write_bytes(own if isinstance(own, bytes) else own.encode())
        return home

    return write


def names(found: LabelledSet) -> list[str]:
    return [category.name for category in found.categories]


@pytest.mark.parametrize(
    ("inside", "wanted"),
    [
        (thing("&#29483;"), ["猫"]),
        (thing("&#x1F408; a"), ["\U0001f408 a"]),
        (thing("shepherd&apos;s &lt;dog&gt;"), ["shepherd's <dog>"]),
        (thing("<![CDATA[cat & dog]]>"), ["cat & dog"]),
        (f'<object id="3"><name lang="en">cat</name>{BOX}</object>', ["cat"]),
        (f"<object><part><name>head</name>{BOX}</part><name>cat</name>{BOX}</object>", ["cat"]),
        (thing("cat") + "<!-- <object><name>ghost</name></object> -->", ["cat"]),
        (thing("\n   cat\n  "), ["cat"]),
        (f"<object>{BOX}<name>cat</name></object>", ["cat"]),
        (thing("a:b, #1 [/c] 'd' \"e\""), ["a:b, #1 [/c] 'd' \"e\""]),
    ],
)  # fmt: skip
def test_classes_are_those_of_the_parser(folder: Write, inside: str, wanted: list[str]) -> None:
    home = folder(xml(inside))
    assert names(read_labelled(f"voc:{home}")) == wanted
    assert [i for i in check(home).issues if i.severity == "error"] == []


@pytest.mark.parametrize(
    ("encoding", "head", "name"),
    [
        ("iso-8859-1", "ISO-8859-1", "café"),
        ("cp1252", "windows-1252", "“café”"),
        ("gbk", "GBK", "猫"),
        ("shift_jis", "Shift_JIS", "猫"),
        ("koi8-r", "KOI8-R", "кот"),
        ("utf-16", "UTF-16", "猫"),
        ("utf-16-le", "", "猫"),
        ("utf-8-sig", "utf-8", "猫"),
        ("utf-8", "", "猫"),
    ],
)
def test_files_are_in_the_encoding_that_they_declare(
    folder: Write, encoding: str, head: str, name: str
) -> None:
    declaration = f'<?xml version="1.0" encoding="{head}"?>\n' if head else ""
    home = folder(xml(thing(name), head=declaration).encode(encoding))
    assert kinds_of(home) == ["voc"]
    assert names(read_labelled(f"voc:{home}")) == [name]


def test_an_encoding_that_is_not_declared_is_named(folder: Write) -> None:
    home = folder(xml(thing("caf\xe9")).encode("cp1252"), **{"Annotations/b.xml": xml(thing("c"))})
    issues: list[LabelIssue] = []
    voc.read(home, None, "", on_issue=issues.append)
    assert "is not UTF-8" in issues[0].message
    assert "iconv" in issues[0].advice


@pytest.mark.parametrize("first", ["._a.xml", "0.xml", "00-playlist.xml"])
def test_a_set_is_told_by_all_its_files(folder: Write, first: str) -> None:
    texts: dict[str, str | bytes] = {
        "._a.xml": b"\0\5\26\7\0\2", "0.xml": "", "00-playlist.xml": "<playlist/>",
    }  # fmt: skip
    home = folder(xml(thing("cat")), **{f"Annotations/{first}": texts[first]})
    assert kinds_of(home) == ["voc"]
    errors = [i for i in check(home).issues if i.severity == "error"]
    wanted = ["is empty"] if first == "0.xml" else []
    assert [i.message for i in errors] == wanted
    assert [i.advice for i in errors] == ["copy the file again, or remove it"] * len(wanted)


def test_endings_of_windows(folder: Write) -> None:
    home = folder(xml(thing("cat"), "a.PNG"), "A.XML")
    (home / "JPEGImages" / "a.png").rename(home / "JPEGImages" / "A.PNG")
    assert read_labelled(f"voc:{home}").images[0].path == home / "JPEGImages" / "A.PNG"


@pytest.mark.parametrize(
    "filename",
    ["C:\\photos\\a.png", "..\\JPEGImages\\a.png", "/home/me/a.png", "a", "", "..", ".", "a" * 300],
)
def test_images_of_another_machine_are_those_in_the_folder(folder: Write, filename: str) -> None:
    home = folder(xml(thing("cat"), filename))
    assert read_labelled(f"voc:{home}").images[0].path == home / "JPEGImages" / "a.png"


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("WhatsApp Image 2021-06-01 at 10.00.00\n", "WhatsApp Image 2021-06-01 at 10.00.00"),
        ("b (1)\r\n", "b (1)"),
        ("b (1) -1\n", "b (1)"),
        ("a 1\n", "a 1"),
        (" a\n", " a"),
        ("a  1\n", "a"),
        ("JPEGImages/a.png\n", "a"),
        ("a.xml\n", "a"),
        ("猫 1\n", "猫"),
        (".\n..\n/\na\n", "a"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lines_of_lists(folder: Write, text: str, stem: str, encoding: str) -> None:
    home = folder(xml(thing("cat"), ""), f"{stem}.xml")
    image(home / "JPEGImages" / f"{stem}.png")
    lists = home / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes(text.encode(encoding))
    (found,) = voc.read(home, None, "train", on_issue=lambda _: None).images
    assert found.path == home / "JPEGImages" / f"{stem}.png"


def test_cvat_names_its_lists_and_folders_as_its_tasks(folder: Write) -> None:
    home = folder(
        xml(thing("cat"), "sub/b.png"), "sub/b.xml", **{"ImageSets/Main/Train.txt": "sub/b\n"}
    )
    image(home / "JPEGImages" / "sub" / "b.png")
    (found,) = read_dataset(home).sets["train"].images
    assert (found.name, found.path) == ("sub/b.png", home / "JPEGImages" / "sub" / "b.png")


@pytest.mark.parametrize(
    ("file", "text", "wanted"),
    [
        ("classes.txt", "type: A\nbackground\n#1 bolt\n", ["type: A", "background", "#1 bolt"]),
        ("classes.txt", "\ufeffcat\r\ndog\r\n", ["cat", "dog"]),
        ("classes.txt", "cat \n\n dog\n", ["cat", " dog"]),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntype: A:1,2,3::\n",
         ["type: A"]),
        ("labelmap.txt", "#1 bolt:1,2,3::\ncat\n", ["#1 bolt", "cat"]),
        ("my list.txt", "cat:1,2,3::\ndog:::\n", ["cat", "dog"]),
        ("my list.txt", "cat\na:b\n", ["cat", "a:b"]),
    ],
)  # fmt: skip
def test_lists_of_classes(folder: Write, file: str, text: str, wanted: list[str]) -> None:
    home = folder(xml("".join(map(thing, wanted[:1]))), **{file: text})
    given = None if file in voc.CLASS_FILES else home / file
    assert names(voc.read(home, given, "")) == wanted


def test_the_background_of_a_labelmap_stays_where_objects_are_of_it(folder: Write) -> None:
    home = folder(xml(thing("background")), **{"labelmap.txt": "background:0,0,0::\ncat:1,2,3::\n"})
    assert names(read_labelled(f"voc:{home}")) == ["background", "cat"]


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<object><name>cat</name><robndbox><cx>3</cx></robndbox></object>", "but a <robndbox>"),
        ("<object><name>cat</name><polygon><pt><x>3</x></pt></polygon></object>", "a <polygon>"),
        ("<object><name>cat</name></object>", "no <bndbox> of four numbers$"),
    ],
)
def test_shapes_that_are_no_boxes_are_named(folder: Write, inside: str, message: str) -> None:
    issues: list[LabelIssue] = []
    voc.read(folder(xml(inside)), None, "", on_issue=issues.append)
    assert issues[0].message.endswith(message.rstrip("$")) or message in issues[0].message


def test_elements_that_have_no_place_here_are_named(folder: Write) -> None:
    home = folder(xml(f"<object><name>a</name>{BOX}<part><name>b</name></part><actions/></object>"))
    found = voc.read(home, None, "", details=True)
    assert found.notes == ("not read: <actions> of 1 object, <part> of 1 object",)


@pytest.mark.parametrize("name", ["a\nb", "\x07", "", " ", "\ufffe"])
def test_names_that_the_files_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    labelled = LabelledSet(
        "test",
        (LabelledImage(1, "a.png", tmp_path / "a.png", 40, 30),),
        (Category(0, name),),
        Truth.of([0], [0], [[1, 2, 3, 4]]),
    )
    with pytest.raises(InvalidDataset, match="class name"):
        voc.write(tmp_path, {"": labelled})


def test_fiftyone_has_data_and_labels(tmp_path: Path) -> None:
    image(tmp_path / "data" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.xml").write_text(xml(thing("cat")))
    assert kinds_of(tmp_path) == ["voc"]
    assert read_labelled(f"voc:{tmp_path}").images[0].path == tmp_path / "data" / "a.png"


def test_names_that_a_list_and_the_files_write_otherwise(folder: Write) -> None:
    """Blanks of a list are kept, unless files name the class without them; two are not one."""
    home = folder(xml(thing("cat")), **{"classes.txt": " cat\ndog \n dog\n"})
    assert names(read_labelled(f"voc:{home}")) == ["cat", "dog ", " dog"]
    (home / "classes.txt").write_text("cat \ncat\n")
    with pytest.raises(InvalidDataset, match="names the classes 'cat ' and 'cat', and XML files"):
        read_labelled(f"voc:{home}")


@pytest.mark.parametrize("value", ["²", "1" * 5000, "Left"])
def test_attributes_of_any_text_are_kept(folder: Write, value: str) -> None:
    home = folder(xml(thing("cat").replace("<name>", f"<pose>{value}</pose><name>")))
    details = voc.read(home, None, "", details=True).details
    assert details is not None
    assert details.objects == ({"pose": value},)


@pytest.mark.parametrize("number", ["1e300", "9" * 400])
def test_a_box_beyond_any_image_is_refused(folder: Write, number: str) -> None:
    issues: list[LabelIssue] = []
    home = folder(xml(thing("cat").replace(">20<", f">{number}<")))
    voc.read(home, None, "", on_issue=issues.append)
    assert issues[0].kind in ("box-outside", "labels-unreadable")
    assert len(issues[0].message) < 200


def test_a_file_that_cannot_be_used_is_named_where_it_is_the_only_one(folder: Write) -> None:
    for head, fault in (
        ('<?xml version="1.0" encoding="idna"?>', "declares the encoding 'idna'"),
        ("<a>", r"a\.xml, line 1: is not XML"),
    ):
        home = folder(xml(thing("cat"), head=head))
        with pytest.raises(InvalidDataset, match=f"holds no dataset .*{fault}") as told:
            kinds_of(home)
        assert told.value.hint


def test_each_file_is_parsed_once_for_all_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in SPLITS:
        for number in range(10):
            image(tmp_path / split / f"{number}.png")
            (tmp_path / split / f"{number}.xml").write_text(xml(thing("cat"), f"{number}.png"))
    parsed: list[object] = []
    monkeypatch.setattr(voc_files, "parse", lambda data, path: parsed.append(path) or parse(data))
    assert [len(found.truth) for found in read_dataset(tmp_path).sets.values()] == [10, 10, 10]
    first = [
        path for path in parsed if Path(str(path)).stem != "0"
    ]  # a folder is told by the first
    assert sorted(map(str, first)) == sorted({*map(str, first)})
