"""Files found under names as Windows, macOS and other machines write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from seatrial.datasets import locate
from seatrial.datasets.locate import Locator, bare, relative


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("images\\a.jpg", "images/a.jpg"),
        ("C:\\Users\\me\\set\\images\\a.jpg", "images/a.jpg"),
        ("..\\..\\media\\upload\\1\\1a2b3c4d-a.jpg", "1a2b3c4d-a.jpg"),
        ("/content/set/train/a.jpg", "train/a.jpg"),
        ("data\\a.jpg", "data\\a.jpg"),  # on POSIX a backslash is a character of a name
        (unicodedata.normalize("NFC", "café.jpg"), unicodedata.normalize("NFD", "café.jpg")),
        (
            unicodedata.normalize("NFD", "übung\\가.jpg"),
            unicodedata.normalize("NFC", "übung/가.jpg"),
        ),
        ("c#2%20 (1).jpg", "c#2%20 (1).jpg"),
        ("/data/local-files/?d=a.jpg", "a.jpg"),
        ("/data/local-files/?d=my%20set/caf%C3%A9%201.jpg", "café 1.jpg"),
        ("http://localhost:8080/data/local-files/?d=set/a+b.jpg", "set/a b.jpg"),
        ("my%20set/a%20b.jpg", "my set/a b.jpg"),
        ("http://[?d=a.jpg", "a.jpg"),
        ("../train/a.jpg", "train/a.jpg"),
    ],
)
def test_a_name_finds_its_file(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    found = Locator([tmp_path / "no such folder", tmp_path]).find(name)
    assert found == tmp_path / file


def test_two_names_do_not_get_one_file_by_their_last_part(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    locator = Locator([tmp_path])
    assert locator.find("/x/a/1.jpg") == tmp_path / "1.jpg"
    assert locator.find("/x/a/1.jpg") == tmp_path / "1.jpg"
    assert not locator.find("/x/b/1.jpg").is_file()


def test_a_file_that_has_its_name_is_not_that_of_another_path(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    locator = Locator([tmp_path])
    assert locator.find("1.jpg") == tmp_path / "1.jpg"
    assert not locator.find("/x/1.jpg").is_file()
    assert locator.find("1.jpg") == tmp_path / "1.jpg"


def test_as_many_folders_of_another_machine_are_tried_as_a_set_may_have(tmp_path: Path) -> None:
    (tmp_path / "/".join("abcdefghij")).mkdir(parents=True)
    name = "/".join("abcdefghij") + "/1.jpg"
    (tmp_path / name).touch()
    assert Locator([tmp_path]).find(f"/home/me/{name}") == tmp_path / name


def test_a_file_that_is_missing_is_expected_in_the_first_folder(tmp_path: Path) -> None:
    assert Locator([tmp_path]).find("sub\\a.jpg") == tmp_path / "sub" / "a.jpg"
    longest = "a" * 251 + ".jpg"
    assert Locator([tmp_path]).find(longest) == tmp_path / longest
    assert relative("a\\b") == "a/b"
    assert relative("a/b") == "a/b"
    assert bare("C:\\x\\a.jpg") == bare("/x/a.jpg") == "a.jpg"


@pytest.mark.parametrize("name", ["a/" * 20_000 + "a.jpg", "C:\\" + "a\\" * 20_000 + "é.jpg"])
def test_a_name_of_many_folders_is_tried_at_few_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(locate.os.path, "isfile", lambda path: bool(tried.append(str(path))))
    Locator([tmp_path, tmp_path / "images"]).find(name)
    assert len(tried) < 300
    assert sum(map(len, tried)) < 60 * len(name)


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "\N{CAT}" * 200, "a\0b.jpg", ".", "..", "/"])
def test_a_name_that_no_file_can_have_is_the_path_of_none(tmp_path: Path, name: str) -> None:
    assert not Locator([tmp_path]).find(name).is_file()
