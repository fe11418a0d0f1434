from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from seatrial.errors import InvalidInput
from seatrial.video.sources import video_frames
from square_videos import SIZE, write_video

FRAMES = [[(8 * number, 16, 24, 230)] for number in range(12)]


def test_frames_come_in_order_with_their_times(tmp_path: Path) -> None:
    found = list(video_frames(write_video(tmp_path / "a.mp4", FRAMES)))
    assert [frame.number for frame in found] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in found], np.arange(12) / 10)
    assert {(frame.rate_hz, frame.announced) for frame in found} == {(10.0, 12)}
    for number, frame in enumerate(found):
        image = frame.rgb()
        assert (image.shape, image.dtype) == ((96, 160, 3), np.uint8)
        assert image.flags.c_contiguous
        assert image[28, 8 * number + 12].min() > 200
        assert image[80, 8].max() < 120


def test_a_file_in_memory_is_read_as_well(tmp_path: Path) -> None:
    data = io.BytesIO(write_video(tmp_path / "a.mp4", FRAMES).read_bytes())
    assert len(list(video_frames(data, "upload.mp4"))) == 12


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((1, 0, 0, 1), (16, 8)),
        ((0, 1, -1, 0), (SIZE[1] - 8 - 32, 16)),  # a quarter turn clockwise
        ((-1, 0, 0, -1), (SIZE[0] - 16 - 32, SIZE[1] - 8 - 32)),
        ((0, -1, 1, 0), (8, SIZE[0] - 16 - 32)),
        ((-1, 0, 0, 1), (SIZE[0] - 16 - 32, 8)),  # mirrored: left is right
        ((1, 0, 0, -1), (16, SIZE[1] - 8 - 32)),
        ((0, 1, 1, 0), (8, 16)),
        ((0, -1, -1, 0), (SIZE[1] - 8 - 32, SIZE[0] - 16 - 32)),
    ],
)
def test_the_display_matrix_turns_and_mirrors(
    tmp_path: Path, matrix: tuple[int, ...], corner: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mp4", [[(16, 8, 32, 230)]])
    data = path.read_bytes()
    start = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2
    a, b, c, d = (value << 16 for value in matrix)
    path.write_bytes(
        data[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[start + 36 :]
    )
    image = next(video_frames(path)).rgb()
    assert image.shape[:2] == (SIZE[::-1] if matrix[0] else SIZE)
    assert image.flags.c_contiguous
    rows, columns = np.nonzero(image[:, :, 1] > 150)
    assert (columns.min(), rows.min()) == corner
    assert (columns.max() - columns.min(), rows.max() - rows.min()) == (31, 31)


def test_a_video_that_was_cut_off_ends_where_it_was_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mkv", FRAMES * 10, options={"crf": "8", "g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert 20 < len(list(video_frames(path))) < 120


@pytest.mark.parametrize("data", [b"no video", b"#EXTM3U\nfile:///etc/passwd\n"])
def test_what_is_no_video(tmp_path: Path, data: bytes) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: seatrial[video]")
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"the video .*a\.mp4 cannot be read"):
        next(video_frames(path))


def test_a_video_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: seatrial[video]")
    with pytest.raises(InvalidInput, match="No such file"):
        next(video_frames(tmp_path / "nothing.mp4"))


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_in_the_place_of_a_video_is_not_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed: seatrial[video]")
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(InvalidInput, match=r"a\.mp4 cannot be read: it is not a regular file"):
        next(video_frames(tmp_path / "a.mp4"))


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"a\.mp4 is empty \(0 bytes\)"):
        next(video_frames(tmp_path / "a.mp4"))
