"""Files and folders that appear whole or not at all, errors of the disk, locks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import full_disk
from folder_contents import content
from seatrial import config
from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput, NotWritable
from seatrial.system import files, text
from seatrial.system.files import (
    beside,
    bounded_bytes,
    check_folder,
    check_free,
    check_place,
    check_writable,
    not_writable,
    read_bytes,
    sha256_file,
    staged_folder,
    write_atomically,
    writing,
)

ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert sha256_file(file).startswith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9c")


def test_a_file_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices, and sparse files, which an archive of a few bytes may hold."""
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    with pytest.raises(InvalidInput, match="/dev/zero cannot be read: it has more than 1 MiB"):
        read_bytes(Path("/dev/zero"))
    with pytest.raises(OSError, match=r"more than 0\.5 MiB"):
        bounded_bytes(Path("/dev/zero"), 1 << 19)


def test_a_file_of_the_most_bytes_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert bounded_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="more than"):
        bounded_bytes(tmp_path / "a", 4)


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_in_a_folder_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody may ever write to it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidInput, match="pipe cannot be read: it is not a regular file"):
        text.read_text(pipe)
    with pytest.raises(
        InvalidConfig, match="pipe cannot be read: it is not a regular file"
    ) as told:
        config.read_toml(pipe, Deployment)
    assert told.value.hint == "name a regular file"
    with pytest.raises(OSError, match="not a regular file"):
        sha256_file(pipe)
    with pytest.raises(InvalidInput, match="pipe cannot be read: it is not a regular file"):
        read_bytes(pipe)


def test_a_pipe_that_the_process_was_given_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"abc")
    os.close(writing)
    assert bounded_bytes(Path(f"/dev/fd/{reading}"), 10) == b"abc"
    os.close(reading)


def test_settings_and_texts_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (config, text):
        monkeypatch.setattr(module, "MOST_BYTES", 1 << 20)
    endless = Path("/dev/zero")
    for read in (text.read_text, lambda path: config.read_toml(path, Deployment)):
        with pytest.raises(InvalidInput, match="it has more than 1 MiB"):
            read(endless)


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
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "pipe"), (Path(os.devnull), "device")):
        with pytest.raises(InvalidDataset, match=f"^{path} is a {kind}, not a folder$"):
            check_folder(path, hint="give one")


def test_an_input_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("in")
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "hard").hardlink_to(tmp_path / "in")
    (tmp_path / "same").write_text("in")
    inputs = [tmp_path / "gone", tmp_path / "in"]
    for name in ("in", "link", "hard", "gone"):
        with pytest.raises(InvalidInput, match=f"{name} is one of the inputs") as refusal:
            check_place(tmp_path / name, hint="name another", inputs=inputs)
        assert refusal.value.hint == "name another"
    check_place(tmp_path / "same", hint="", inputs=inputs)
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(folder)
    for name in ("folder/new", "folder/below/new", "linked/new", "folder/../linked/new"):
        with pytest.raises(InvalidInput, match=f"new is in {folder}, which is read"):
            check_place(tmp_path / name, hint="name another", inputs=iter([folder]))


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


def test_what_is_beside_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "day.jpg").write_bytes(b"")
    (tmp_path / "model.onnx").write_bytes(b"")
    for gone, near in (
        ("model.onn", "model.onnx"),
        ("./photos/Day.jpg", "photos/day.jpg"),
        ("photo/day.jpg", "photos"),
        (f"{tmp_path}/modle.onnx", f"{tmp_path}/model.onnx"),
    ):
        assert beside(Path(gone)) == f"did you mean {near}?"
    assert beside(Path("zzz.jpg")) == f"relative paths begin at {tmp_path}"
    assert beside(Path("zzz.jpg"), otherwise="give one") == "give one"
    assert beside(Path("/zzz/zzz.jpg")) == "there is no folder /zzz"
    assert beside(tmp_path) == "name a file in it"
    assert beside(tmp_path / "model.onnx").startswith("see who may read it: ls -l ")
    assert beside(Path("nul\0"), otherwise="give one") == "give one"
    with pytest.raises(InvalidInput, match="cannot be read: No such file") as refusal:
        read_bytes(Path("model.onn"))
    assert refusal.value.hint == "did you mean model.onnx?"
