"""Pictures and videos that are ready to click."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import simplejpeg

from seatrial.demo.examples import CANDIDATES, MOST, THUMBNAIL_WH, find_examples, telling
from seatrial.errors import InvalidInput


@pytest.fixture
def folder(tmp_path: Path, photo: bytes, clip: Callable[..., bytes], picture: Any) -> Path:
    (tmp_path / "b.jpg").write_bytes(photo)
    (tmp_path / "c.MP4").write_bytes(clip([picture(cells_hw=(4, 12))] * 2))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "inner").mkdir()
    return tmp_path


def test_pictures_and_videos_by_name_without_what_cannot_be_shown(folder: Path) -> None:
    examples = find_examples(folder)
    assert [example.path.name for example in examples] == ["b.jpg", "c.MP4"]
    for example in examples:
        assert simplejpeg.decode_jpeg(example.thumbnail).shape[:2] == THUMBNAIL_WH[::-1]


def test_a_thumbnail_is_the_middle_of_the_picture(
    tmp_path: Path, picture: Any, encode: Callable[..., bytes]
) -> None:
    (tmp_path / "wide.png").write_bytes(encode(picture({(1, 7): "red"}, cells_hw=(3, 16)), "PNG"))
    pixels = simplejpeg.decode_jpeg(find_examples(tmp_path)[0].thumbnail).astype(int)
    redness = (pixels[:, :, 0] - pixels[:, :, 1]).sum(axis=0)
    # Four of sixteen columns are shown, 6 to 9: the red one is the second.
    assert 40 <= redness.argmax() < 80


def test_of_many_some_from_all_over(tmp_path: Path, photo: bytes) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.jpg").write_bytes(photo)
    names = [int(example.path.stem) for example in find_examples(tmp_path)]
    assert len(names) == MOST
    assert (names[0], names[-1]) == (0, 39)


@pytest.mark.parametrize(("made", "said"), [(True, "holds no image"), (False, "cannot be read")])
def test_a_folder_without_any(tmp_path: Path, made: bool, said: str) -> None:
    folder = tmp_path / "examples"
    if made:
        folder.mkdir()
    with pytest.raises(InvalidInput, match=said) as refused:
        find_examples(folder)
    assert "seatrial data sample photos" in refused.value.hint


def test_examples_in_which_the_model_finds_nothing_are_left_out(
    folder: Path, open_tiny: Callable[..., Any], picture: Any, encode: Callable[..., bytes]
) -> None:
    for number in range(CANDIDATES):  # every second one is grey
        patches = {(2, 3): "red"} if number % 2 else {}
        (folder / f"n{number:02d}.png").write_bytes(encode(picture(patches), "PNG"))
    with contextlib.closing(open_tiny()) as model:
        candidates = find_examples(folder, 2 * CANDIDATES)
        names = [example.path.name for example in telling(candidates, model)]
        # A video counts by its first frame.
        found = ["b.jpg", "c.MP4", *(f"n{number:02d}.png" for number in range(1, CANDIDATES, 2))]
        assert names == [found[index] for index in (0, 1, 2, 3, 5, 6, 7, 9)]


def test_where_the_model_finds_nothing_all_are_offered(
    tmp_path: Path, open_tiny: Callable[..., Any], picture: Any, encode: Callable[..., bytes]
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encode(picture({}), "PNG"))
    with contextlib.closing(open_tiny()) as model:
        assert len(telling(find_examples(tmp_path), model)) == 3
        assert telling([], model) == []
