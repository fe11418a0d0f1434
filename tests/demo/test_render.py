"""The boxes drawn on images and videos."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg

from seatrial.demo.media import open_media
from seatrial.demo.render import annotated, annotated_name
from seatrial.demo.workbench import Choice, View, Workbench


def test_the_picture_has_its_boxes_drawn(view: View) -> None:
    data = annotated(view)
    assert annotated_name(view) == "some cells-boxes.jpg"
    drawn = simplejpeg.decode_jpeg(data).astype(int)
    changed = np.abs(drawn - view.media.frames[0].pixels()).max(axis=2) > 60
    left, top, right, bottom = (round(v) for v in view.shown[0].xyxy[0].tolist())
    assert changed[bottom, left : right + 1].all()  # the lower edge has no label on it
    assert changed[top : bottom + 1, left].all()
    assert not changed[80:].any()  # the blue box is below the confidence


def test_the_video_has_its_boxes_drawn_and_plays_as_fast(clip_view: View) -> None:
    data = annotated(clip_view)
    assert annotated_name(clip_view) == "walk-boxes.mp4"
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(10, rel=0.01)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 3
    for frame, original in zip(frames, clip_view.media.frames, strict=True):
        assert np.abs(frame.astype(int) - original.pixels()).max() > 60
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it loads


def test_a_video_of_odd_sides_loses_a_row_and_a_column(
    workbench: Workbench, clip: Callable[..., bytes], picture: Callable[..., Any]
) -> None:
    odd = picture({(2, 2): "red"}).crop((0, 0, 127, 101))
    media = open_media("odd.avi", clip([odd, odd], container="avi", codec="mpeg4"))
    assert media.frames[0].pixels().shape[:2] == (101, 127)
    with av.open(io.BytesIO(annotated(workbench.view(media, Choice())))) as container:
        frame = next(container.decode(video=0))
    assert (frame.height, frame.width) == (100, 126)
