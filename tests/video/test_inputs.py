"""What words on a command line name: images, videos, folders, patterns."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from seatrial.errors import InvalidInput
from seatrial.video.inputs import find_inputs, stills


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    day = tmp_path / "day"
    (day / "sub").mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "clip.MP4", "notes.txt", "sub/a.jpg"):
        (day / name).write_bytes(b"x")
    return day


def names(*words: str | Path) -> list[str]:
    return [one.name for one in find_inputs([*map(str, words)])]


def test_a_folder_is_its_images_and_videos_with_those_of_subfolders(folder: Path) -> None:
    assert names(folder) == ["a.PNG", "b.jpg", "clip.MP4", "sub/a.jpg"]
    assert [one.video for one in find_inputs([str(folder)])] == [False, False, True, False]


def test_several_words_keep_their_order_and_each_file_comes_once(folder: Path) -> None:
    assert names(folder / "b.jpg", folder) == [
        "b.jpg",
        "day/a.PNG",
        "day/clip.MP4",
        "day/sub/a.jpg",
    ]


def test_a_pattern_that_the_shell_left_alone_is_expanded(folder: Path) -> None:
    assert names(folder / "*.jpg") == ["b.jpg"]
    assert names(folder / "**" / "*.jpg") == ["b.jpg", "a.jpg"]
    odd = folder / "frame[1].jpg"  # a name, though it looks like a pattern
    odd.write_bytes(b"x")
    assert names(odd) == ["frame[1].jpg"]


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("{}/sub/*.png", "no file fits the pattern", "images, videos"),
        ("{}/empty", "holds neither images nor videos", "images, videos"),
        ("0", "0 is not a file, and cameras are not read", "-i /dev/video0 clip.mp4"),
        ("rtsp://camera/1", "streams are not read", "ffmpeg -t 60 -i 'rtsp://camera/1'"),
        ("https://host/a.JPG?x=1", "nothing is downloaded", "curl -O 'https://host/a.JPG?x=1'"),
        (
            "http://host/live.m3u8",
            "streams are not read",
            "ffmpeg -t 60 -i 'http://host/live.m3u8'",
        ),
    ],
)
def test_what_names_nothing_is_refused(folder: Path, word: str, message: str, hint: str) -> None:
    (folder / "empty").mkdir()
    os.mkfifo(folder / "sub" / "pipe.png")
    with pytest.raises(InvalidInput, match=re.escape(message)) as refusal:
        find_inputs([word.format(folder)])
    assert hint in refusal.value.hint


def test_a_file_that_is_not_there_is_an_error_at_its_place(folder: Path) -> None:
    found = [*stills(find_inputs([str(folder / "gone.jpg"), str(folder / "b.jpg")]))]
    assert isinstance(found[0].data, InvalidInput)
    assert found[1].data == b"x"
