"""Folders that are written again: what is replaced, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.errors import InvalidInput, NotWritable
from seatrial.system.written_folders import HASHED_BYTES, RECORD, rewritten_folder


def write(folder: Path, *names: str) -> None:
    with rewritten_folder(folder, of_runs=["cache"]) as staged:
        for name in names:
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(name)


def held(folder: Path) -> set[str]:
    return {
        str(one.relative_to(folder))
        for one in folder.rglob("*")
        if one.is_symlink() or one.is_file()
    }


def test_what_was_written_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, "one", "deep/er/two")
    write(folder / "cache" / "of a run", "anything")
    (folder / "cache" / "elsewhere").symlink_to(tmp_path)
    write(folder, "three")
    assert held(folder) == {"three", RECORD}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "own", ["mine", "deep/mine", "deep/er/mine", "new/mine", "deep/cache/mine", ".hidden"]
)
def test_a_file_of_somebody_else_stays(tmp_path: Path, own: str) -> None:
    write(tmp_path / "out", "one", "deep/er/two")
    (tmp_path / "out" / own).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / own).write_text("years")
    with pytest.raises(InvalidInput, match="which Seatrial did not write there"):
        write(tmp_path / "out", "three")
    assert held(tmp_path / "out") == {"one", "deep/er/two", own, RECORD}


def test_an_empty_folder_or_a_link_of_somebody_else_stays(tmp_path: Path) -> None:
    for number, put in enumerate(("folder", "link", "replaced")):
        out = tmp_path / f"out{number}"
        write(out, "one")
        if put == "folder":
            (out / "new").mkdir()
        elif put == "link":
            (out / "new").symlink_to(tmp_path)
        else:
            (out / "one").unlink()
            (out / "one").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InvalidInput, match="which Seatrial did not write there"):
            write(out, "three")
        assert "three" not in held(out)


def test_a_link_in_the_place_of_a_folder_that_was_written_stays(tmp_path: Path) -> None:
    """A replacement would lose the link, and with it where the folder was moved to."""
    out, moved = tmp_path / "out", tmp_path / "moved"
    write(out, "one", "deep/two")
    (out / "deep").rename(moved)
    (out / "deep").symlink_to(moved)
    with pytest.raises(InvalidInput, match="it holds deep, which Seatrial did not write there"):
        write(out, "three")
    assert (out / "deep").readlink() == moved
    assert held(out) == {"one", "deep", RECORD}


def test_an_edited_file_stays(tmp_path: Path) -> None:
    write(tmp_path / "out", "one", "two")
    (tmp_path / "out" / "two").write_text("edited")
    with pytest.raises(InvalidInput, match="it holds two, which was edited since"):
        write(tmp_path / "out", "three")
    assert (tmp_path / "out" / "two").read_text() == "edited"


def test_a_large_file_is_not_hashed(tmp_path: Path) -> None:
    with rewritten_folder(tmp_path / "out") as staged:
        (staged / "model").write_bytes(bytes(HASHED_BYTES + 1))
    (tmp_path / "out" / "model").write_bytes(b"1" * (HASHED_BYTES + 2))
    write(tmp_path / "out", "one")
    assert held(tmp_path / "out") == {"one", RECORD}


def test_a_removed_file_is_no_reason_to_refuse(tmp_path: Path) -> None:
    write(tmp_path / "out", "one", "two")
    (tmp_path / "out" / "two").unlink()
    write(tmp_path / "out", "three")
    assert held(tmp_path / "out") == {"three", RECORD}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}'])
def test_a_list_that_cannot_be_read_replaces_nothing(tmp_path: Path, content: str) -> None:
    write(tmp_path / "out", "one")
    (tmp_path / "out" / RECORD).write_text(content)
    with pytest.raises(InvalidInput, match="cannot be read"):
        write(tmp_path / "out", "two")
    assert held(tmp_path / "out") == {"one", RECORD}


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")
    with pytest.raises(NotWritable), rewritten_folder(tmp_path / "out") as staged:
        (staged / "missing" / "two").write_text("")
    assert held(tmp_path / "out") == {"one", RECORD}


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("service.cpython-311.pyc", False),
        ("service.cpython-311.opt-1.pyc", False),
        ("service.cpython-311.pyc.140230", False),
        ("other.cpython-311.pyc", True),  # of no file that was written
        ("notes.txt", True),
        ("service.py", True),
    ],
)
def test_a_cache_goes_and_what_else_lies_in_it_stays(
    tmp_path: Path, name: str, is_kept: bool
) -> None:
    folder = tmp_path / "out"
    write(folder, "service.py")
    cached = folder / "__pycache__" / name
    cached.parent.mkdir()
    cached.write_text("years")
    if is_kept:
        with pytest.raises(InvalidInput, match=f"it holds __pycache__/{name}, which Seatrial did"):
            write(folder, "service.py")
        assert cached.read_text() == "years"
    else:
        write(folder, "service.py")
        assert held(folder) == {"service.py", RECORD}


def test_what_a_person_put_beside_what_runs_left_stays(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, "one")
    left = folder / "cache" / "deep"
    write(left, "two")
    for mine in (folder / "cache" / "mine", left / "mine"):
        mine.write_text("years")
        with pytest.raises(InvalidInput, match=r"it holds (cache/)?mine, which Seatrial did not"):
            write(folder, "three")
        mine.unlink()
    write(folder, "three")
    assert held(folder) == {"three", RECORD}
