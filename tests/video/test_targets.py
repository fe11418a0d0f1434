"""Where annotated files go: no two inputs share a file, and no input is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.errors import InvalidInput, NotWritable
from seatrial.video.inputs import Input
from seatrial.video.targets import targets_of


def inputs(*names: str) -> list[Input]:
    return [Input(Path("in") / name, name, name.endswith((".mp4", ".avi"))) for name in names]


def written(tmp_path: Path, *names: str) -> list[str]:
    targets = targets_of(inputs(*names), tmp_path / "out")
    return [str(target.relative_to(tmp_path / "out")) for target in targets.values()]


def test_names_and_folders_are_kept(tmp_path: Path) -> None:
    assert written(tmp_path, "a.png", "sub/a.webp", "b.avi", "c.heic") == [
        "a.png", "sub/a.webp", "b.mp4", "c.jpg",
    ]  # fmt: skip


def test_names_that_differ_in_the_suffix_alone_keep_it(tmp_path: Path) -> None:
    assert written(tmp_path, "a.jfif", "a.jpg", "b.jpg") == ["a.jfif.jpg", "a.jpg.jpg", "b.jpg"]
    assert written(tmp_path, "v.avi", "v.mp4") == ["v.avi.mp4", "v.mp4.mp4"]


def test_one_file_for_two_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="several of the files would be written to"):
        targets_of([*inputs("a.jpg"), Input(Path("other/a.jpg"), "a.jpg", False)], tmp_path / "o")


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="holds files already"):
        targets_of(inputs("a.jpg", "b.jpg"), tmp_path)


def test_one_video_may_be_a_file_with_a_name_that_can_be_written(tmp_path: Path) -> None:
    (clip,) = inputs("clip.avi")
    assert targets_of([clip], tmp_path / "o.mp4") == {clip.path: tmp_path / "o.mp4"}
    assert targets_of([clip], tmp_path / "o") == {clip.path: tmp_path / "o" / "clip.mp4"}
    with pytest.raises(InvalidInput, match=r"written as MP4, not as o\.gif"):
        targets_of([clip], tmp_path / "o.gif")
    with pytest.raises(NotWritable):
        targets_of([clip], tmp_path / "gone" / "o.mp4")
    own = Input(tmp_path / "own.mp4", "own.mp4", True)
    with pytest.raises(InvalidInput, match="is one of the inputs"):
        targets_of([own], own.path)
