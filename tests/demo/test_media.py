"""Files that a person gives."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.demo import media as demo_media
from seatrial.demo.media import MAX_FRAMES, MAX_VIDEO_S, open_media, preview
from seatrial.errors import InputTooLarge, InvalidImage, InvalidInput, UnsupportedImage
from seatrial.system.images import file_formats


@pytest.fixture(scope="session")
def counting(picture: Callable[..., Any]) -> Callable[[int], list[Any]]:
    """Pictures of a video: a red cell that goes one column to the right each frame."""
    return lambda count: [picture({(2, n % 8): "red"}) for n in range(count)]


def columns(pixels: Any) -> int:
    """The column of the red cell, 16 pixels each."""
    redness = pixels[:, :, 0].astype(int) - pixels[:, :, 1]
    return int(redness.sum(axis=0).argmax()) // 16


def test_a_picture_is_one_frame_as_it_came(photo: bytes) -> None:
    media = open_media("folder/../photo.JPG", photo)
    assert (media.name, media.stem, media.rate_hz, media.note) == ("photo.JPG", "photo", None, "")
    assert [frame.data for frame in media.frames] == [photo]
    assert media.digest == hashlib.sha256(photo).hexdigest()


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4")]
)
def test_a_video_is_its_frames_in_order(
    clip: Callable[..., bytes], counting: Callable[..., Any], container: str, codec: str
) -> None:
    data = clip(counting(6), rate_hz=10, container=container, codec=codec)
    media = open_media(f"walk.{container}", data)
    assert media.rate_hz == pytest.approx(10, rel=0.01)
    assert [frame.name for frame in media.frames] == [f"walk-00000{n}.jpg" for n in range(6)]
    assert [columns(frame.pixels()) for frame in media.frames] == [0, 1, 2, 3, 4, 5]
    assert media.note == ""


def test_a_long_video_is_thinned_evenly_and_says_so(
    clip: Callable[..., bytes], counting: Callable[..., Any]
) -> None:
    media = open_media("long.mp4", clip(counting(MAX_FRAMES * 2 + 10), rate_hz=30))
    numbers = [int(frame.name[-10:-4]) for frame in media.frames]
    assert set(np.diff(numbers)) == {3}
    assert len(numbers) <= MAX_FRAMES
    assert media.rate_hz == pytest.approx(10, rel=0.01)  # as fast as it was
    assert media.note == f"One of every 3 of {MAX_FRAMES * 2 + 10} frames was used."


def test_a_video_is_read_for_a_while_and_says_so(
    clip: Callable[..., bytes], counting: Callable[..., Any]
) -> None:
    media = open_media("slow.mp4", clip(counting(40), rate_hz=1))
    assert len(media.frames) == MAX_VIDEO_S
    assert media.note == f"Only the first {MAX_VIDEO_S:.0f} seconds were read."


def test_a_video_that_was_cut_off_is_shown_as_far_as_it_goes(
    clip: Callable[..., bytes], counting: Callable[..., Any]
) -> None:
    data = clip(counting(60), container="avi", codec="mpeg4")
    media = open_media("cut.avi", data[: len(data) * 2 // 3])
    assert 10 < len(media.frames) < 60


def test_a_video_of_a_phone_held_upright_is_upright(
    clip: Callable[..., bytes], picture: Callable[..., Any]
) -> None:
    lying = clip([picture({(0, 0): "red"}, cells_hw=(4, 8))])
    # The matrix of the track header (ISO/IEC 14496-12, 8.3.2): a quarter turn clockwise.
    start = lying.index(b"tkhd") + 4 + 40
    turned = [0, 1 << 16, 0, (1 << 32) - (1 << 16), 0, 0, 0, 0, 1 << 30]
    matrix = b"".join(value.to_bytes(4, "big") for value in turned)
    upright = lying[:start] + matrix + lying[start + 36 :]
    pixels = open_media("phone.mp4", upright).frames[0].pixels()
    assert pixels.shape == (128, 64, 3)
    assert pixels[8, 56, 0] > 150 > pixels[8, 56, 1] + 50  # top left went to top right


def test_the_preview_of_a_video_is_its_first_frame(
    clip: Callable[..., bytes], counting: Callable[..., Any], photo: bytes
) -> None:
    assert columns(preview("walk.mp4", clip(counting(4)[2:]))) == 2
    assert preview("photo.jpg", photo).shape == (128, 128, 3)


@pytest.mark.parametrize(
    ("name", "data", "kind", "said"),
    [
        ("a.txt", b"just some text", UnsupportedImage, "a.txt is neither an image nor a video"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/a.ts\n", UnsupportedImage, "neither"),
        ("a.jpg", b"", InvalidInput, "empty"),
        ("a.mp4", b"\0\0\0\x18ftypisom" + b"\0" * 50, InvalidInput, "video a cannot be read"),
        ("a.webm", b"\x1a\x45\xdf\xa3" + b"\0" * 50, InvalidInput, "video a cannot be read"),
    ],
)
def test_what_is_refused(name: str, data: bytes, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        open_media(name, data)


def test_a_damaged_picture_is_refused_when_it_is_given(photo: bytes) -> None:
    with pytest.raises(InvalidImage, match="damaged or cut off"):
        open_media("half.jpg", photo[:-60])


def test_a_file_over_the_limit_is_refused(photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_media, "MAX_BYTES", len(photo) - 1)
    with pytest.raises(InputTooLarge, match="over the limit"):
        open_media("photo.jpg", photo)


def test_a_playlist_that_looks_like_a_video_opens_no_other_file(
    tmp_path: Path, clip: Callable[..., bytes], counting: Callable[..., Any]
) -> None:
    """FFmpeg's playlists name any file of the machine, and any host."""
    (tmp_path / "secret.mp4").write_bytes(clip(counting(2)))
    listing = f"ffconcat version 1.0\nfile {tmp_path}/secret.mp4\n".encode()
    for disguise in (b"", b"\0\0\0\x18ftyp"):
        with pytest.raises(InvalidInput):
            open_media("list.mp4", disguise + listing)


@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "TIFF"])
def test_images_in_other_formats_become_png(kind: str) -> None:
    if kind not in file_formats():
        pytest.skip(f"this Pillow reads no {kind}")
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, kind)
    media = open_media("x", buffer.getvalue())
    assert media.rate_hz is None
    assert media.frames[0].data.startswith(b"\x89PNG")
    assert media.frames[0].pixels().shape == (10, 20, 3)
