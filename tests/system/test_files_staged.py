"""Folders and files that appear whole or not at all, and replace nothing unasked."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from folder_contents import content
from seatrial.errors import InvalidInput, NotWritable
from seatrial.system.files import (
    check_free,
    discard,
    put_in_place,
    staged_file,
    staged_folder,
)


def test_a_link_or_a_file_of_the_name_of_a_part_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("theirs")
    (tmp_path / ".part-a.jpg").symlink_to("precious")
    with staged_file(tmp_path / "a.jpg") as part:
        part.write_text("ours")
    assert (tmp_path / "precious").read_text() == "theirs"
    assert (tmp_path / "a.jpg").read_text() == "ours"
    assert not (tmp_path / "a.jpg").is_symlink()
    assert len([*tmp_path.iterdir()]) == 3


def test_two_that_write_one_file_each_write_all_of_it(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with staged_file(target) as one, staged_file(target) as other:
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"  # the last that ended


@pytest.mark.parametrize("there", ["files", "file"])
def test_what_another_command_wrote_meanwhile_stays(tmp_path: Path, there: str) -> None:
    target = tmp_path / "out"
    with (
        pytest.raises(InvalidInput, match=r"holds files already|is a file"),
        staged_folder(target) as staged,
    ):
        (staged / "ours").write_text("late")
        if there == "files":
            target.mkdir()
            (target / "theirs").write_text("first")
        else:
            target.write_text("first")
    left = target / "theirs" if there == "files" else target
    assert left.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_an_empty_folder_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with staged_folder(tmp_path / "link") as staged:
        (staged / "ours").touch()
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "empty") == {"ours": ""}


def test_a_staged_folder_is_moved_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "made" / "here"
    with staged_folder(target) as staged:
        (staged / "sub").mkdir()
        (staged / "sub" / "file").write_text("new")
        assert not target.exists()
        assert staged.parent.parent == target.parent  # on the same file system
    assert content(tmp_path) == {"made/here/sub/file": "new"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with staged_folder(tmp_path / "there") as staged:
        (staged / "file").write_text("new")
    assert content(tmp_path) == {"there/file": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(error), staged_folder(target, replace=True) as staged:
        (staged / "file").write_text("new")
        raise error
    assert content(tmp_path) == {"there/file": "old"}


def test_a_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(InvalidInput, match="holds files already"), staged_folder(target):
        pytest.fail("the block ran")
    with staged_folder(target, replace=True) as staged:
        (staged / "file").write_text("new")
    assert content(tmp_path) == {"there/file": "new"}


def test_an_old_folder_is_back_where_the_new_one_cannot_be_moved(tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "old").write_text("old")
    with (
        pytest.raises(NotWritable, match=f"{target} cannot be written"),
        staged_folder(target, replace=True) as staged,
    ):
        staged.rmdir()  # the second rename has nothing to move
    assert content(tmp_path) == {"there/old": "old"}
    assert list(tmp_path.iterdir()) == [target]


def test_an_old_folder_that_cannot_be_moved_back_is_kept_beside_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "there", os.rename
    target.mkdir()
    (target / "file").write_text("old")

    def fail(source: Path, place: Path) -> None:
        if place == target:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(place))
        rename(source, place)

    monkeypatch.setattr(os, "rename", fail)
    with (
        pytest.raises(NotWritable, match="Input/output error"),
        staged_folder(target, replace=True) as staged,
    ):
        (staged / "file").write_text("new")
    (scratch,) = tmp_path.iterdir()
    assert scratch.name.startswith(".there-")
    assert content(scratch) == {"old/file": "old"}


def test_a_folder_stays_where_another_cannot_take_its_place(tmp_path: Path) -> None:
    old, target = tmp_path / "old", tmp_path / "there"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "gone", target, old)
    assert content(tmp_path) == {"there/file": "old"}


def test_whatever_stood_there_is_discarded(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("folder", "file", "link", "dangling", "circle", "nothing"):
        discard(tmp_path / name)
    assert content(tmp_path) == {"kept/file": "kept"}
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_is_never_replaced_by_a_folder(tmp_path: Path, replace: bool) -> None:
    file = tmp_path / "there"
    file.write_text("a file")
    with pytest.raises(InvalidInput, match="is a file") as refusal:
        check_free(file, replace=replace)
    assert refusal.value.hint == "name a folder"
    with pytest.raises(InvalidInput), staged_folder(file, replace=replace):
        pytest.fail("the block ran")
    assert content(tmp_path) == {"there": "a file"}


def test_a_staged_file_is_renamed_when_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "file.pt2"
    file.write_text("old")
    with staged_file(file) as part:
        part.write_text("new")
        assert (part.parent.parent, part.name) == (file.parent, file.name)
        assert file.read_text() == "old"
    assert content(tmp_path) == {"file.pt2": "new"}


@pytest.mark.parametrize("begun", [False, True])
def test_a_staged_file_of_a_block_that_raises_is_removed(tmp_path: Path, begun: bool) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(KeyboardInterrupt), staged_file(file) as part:
        if begun:
            part.write_text("half")
        raise KeyboardInterrupt
    assert content(tmp_path) == {"file": "old"}
