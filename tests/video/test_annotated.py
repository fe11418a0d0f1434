"""Videos that are written: read back with their times, sizes and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seatrial.errors import NotWritable
from seatrial.video.annotated import video_writer
from seatrial.video.sources import video_frames

pytest.importorskip("av", reason="PyAV is not installed: seatrial[video]")
COLOURS = [(220, 30, 30), (30, 200, 40), (40, 40, 220)]


def image(colour: tuple[int, int, int], size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def test_frames_come_back_at_their_times_and_in_their_colours(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.35]  # phones record at a rate that varies
    with video_writer(tmp_path / "v.mp4", hint="") as writer:
        for colour, time_s in zip(COLOURS, times, strict=True):
            writer.add(image(colour), time_s, 10.0)
    found = [*video_frames(tmp_path / "v.mp4")]
    assert [round(frame.time_s, 3) for frame in found] == times
    for frame, colour in zip(found, COLOURS, strict=True):
        assert np.abs(frame.rgb()[24, 32].astype(int) - colour).max() < 12
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_odd_sides_and_another_size_fit(tmp_path: Path) -> None:
    with video_writer(tmp_path / "v.mkv", hint="") as writer:
        writer.add(image(COLOURS[0], (47, 63)), 0.0, 25.0)
        writer.add(image(COLOURS[1], (100, 30)), 0.0, 25.0)  # and a time that does not rise
    assert [frame.rgb().shape for frame in video_frames(tmp_path / "v.mkv")] == [(48, 64, 3)] * 2


def test_nothing_is_left_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), video_writer(tmp_path / "v.mp4", hint="") as writer:
        writer.add(image(COLOURS[0]), 0.0, 25.0)
        1 // 0  # noqa: B018 - the error is what counts
    assert [*tmp_path.iterdir()] == []


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    place = tmp_path / "gone" / "v.mp4"
    with pytest.raises(NotWritable) as refusal, video_writer(place, hint="elsewhere"):
        pass
    assert (str(place) in refusal.value.message, refusal.value.hint) == (True, "elsewhere")
