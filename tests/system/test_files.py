"""Files and folders that appear whole or not at all, errors of the disk, locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import full_disk
from seatrial.errors import InvalidDataset, InvalidInput, NotWritable
from seatrial.system.files import (
    check_folder,
    check_free,
    check_place,
    check_writable,
    locked,
    not_writable,
    read_bytes,
    sha256_file,
    staged_file,
    staged_folder,
    write_atomically,
    writing,
)

ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def content(folder: Path) -> dict[str, str]:
    """Path in the folder -> text, of all files; hidden ones too."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert sha256_file(file).startswith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9c")


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


def test_free_are_names_that_are_not_there_and_empty_folders(tmp_path: Path) -> None:
    check_free(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")
    check_free(tmp_path, replace=True)
    with pytest.raises(InvalidInput, match="holds files already"):
        check_free(tmp_path)


def test_a_disk_that_is_full_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "there"
    with (
        pytest.raises(NotWritable, match=f"{target} cannot be written: File too large") as refusal,
        full_disk.largest_file(1000),
        staged_folder(target) as staged,
    ):
        (staged / "file").write_bytes(bytes(2000))
    assert "free some space" in refusal.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"):
        check_writable(tmp_path / "file" / "folder")
    with (
        pytest.raises(NotWritable, match="cannot be written"),
        staged_folder(tmp_path / "file" / "folder"),
    ):
        pytest.fail("the block ran")


@ROOT
def test_a_folder_without_permission_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NotWritable, match="Permission denied"):
        check_writable(tmp_path)


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_staged_file_is_renamed_when_the_block_ends(tmp_path: Path) -> None:
    file = tmp_path / "file.pt2"
    file.write_text("old")
    with staged_file(file) as part:
        part.write_text("new")
        assert (part.parent, part.suffix) == (file.parent, file.suffix)
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


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")
    with (
        pytest.raises(NotWritable, match=r"the list cannot be written: File too large"),
        full_disk.largest_file(1000),
        writing("the list"),
    ):
        write_atomically(file, bytes(2000))
    assert content(tmp_path) == {"file": "old"}
    write_atomically(file, b"new")
    assert content(tmp_path) == {"file": "new"}


def test_errors_of_files_elsewhere_pass_unless_the_disk_is_full(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    with pytest.raises(NotWritable, match="target cannot be written: No such file"):  # noqa: SIM117
        with writing(Path("target"), within=inside):
            (inside / "gone" / "file").write_text("")
    with pytest.raises(FileNotFoundError), writing(Path("target"), within=inside):
        (outside / "file").read_text()
    with pytest.raises(OSError, match="refused") as passed, writing("target", within=inside):
        raise OSError(errno.ECONNREFUSED, "refused")
    assert not isinstance(passed.value, NotWritable)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        with pytest.raises(NotWritable), writing("target", within=inside):
            raise OSError(number, "full", str(outside))


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space, or name another folder (SEATRIAL_HOME)"),
        (errno.EDQUOT, "free some space, or name another folder (SEATRIAL_HOME)"),
        (errno.EACCES, "change the permissions, or name another folder (SEATRIAL_HOME)"),
        (errno.ENOTDIR, "name another folder (SEATRIAL_HOME)"),
        (errno.EROFS, "name another folder (SEATRIAL_HOME)"),
    ],
)
def test_the_hint_follows_from_the_error(number: int, hint: str) -> None:
    with pytest.raises(NotWritable) as refusal, writing("target", setting="SEATRIAL_HOME"):
        raise OSError(number, "reason")
    assert refusal.value.hint == hint
    assert not_writable("target", OSError(number, "reason")).hint == hint.removesuffix(
        " (SEATRIAL_HOME)"
    )


def test_the_hint_can_be_another() -> None:
    error = not_writable("the store", OSError(errno.ENOSPC, "No space left"), hint="wait")
    assert (error.message, error.hint) == (
        "the store cannot be written: No space left",
        "wait",
    )


HOLDER = """
import sys
from pathlib import Path
from seatrial.system.files import locked
with locked(Path(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.readline()
"""


def test_a_lock_keeps_other_processes_out_and_ends_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock) as held:
        assert held
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locked(lock) as held:
            assert not held
        waited: list[bool] = []

        def on_wait() -> None:
            waited.append(True)
            holder.kill()  # its lock ends with it

        with locked(lock, on_wait=on_wait) as held:
            assert held
        assert waited == [True]
    with locked(lock, on_wait=lambda: pytest.fail("nobody holds it")) as held:
        assert held
    assert lock.is_file()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_bytes(tmp_path / "a") == b"abc"
    with pytest.raises(InvalidInput, match=f"^{tmp_path}/b cannot be read: No such file"):
        read_bytes(tmp_path / "b")
    for name in ("a\0b", "a\udcff\ud800"):
        with pytest.raises(InvalidInput, match="is not the path of a file"):
            read_bytes(Path(name))


def test_a_folder_to_read_is_there_and_is_a_folder(tmp_path: Path) -> None:
    check_folder(tmp_path, hint="")
    (tmp_path / "file").touch()
    for name, what in (("file", "is not a folder"), ("gone", "does not exist")):
        with pytest.raises(InvalidDataset, match=f"^{tmp_path}/{name} {what}$") as refusal:
            check_folder(tmp_path / name, hint="give one")
        assert refusal.value.hint == "give one"


def test_the_place_of_a_file_is_checked_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    for name in ("new", "old"):
        check_place(tmp_path / name, hint="")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"
    for path, why in (
        (tmp_path, "Is a directory"),
        (tmp_path / "gone" / "file", "No such file or directory"),
        (tmp_path / "old" / "file", "Not a directory"),
    ):
        with pytest.raises(NotWritable, match=f"^{path} cannot be written: {why}$") as refusal:
            check_place(path, hint="name another file")
        assert refusal.value.hint == "name another file"
