"""Videos of bright squares on grey, written with PyAV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

SIZE = (160, 96)  # width, height
RATE_HZ = 10
SHARP = MappingProxyType({"crf": "8"})
Square = tuple[int, int, int, int]  # left, top, side, level


def paint(squares: Sequence[Square]) -> NDArray[np.uint8]:
    """(96, 160, 3) uint8 RGB."""
    image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    for left, top, side, level in squares:
        image[top : top + side, left : left + side] = level
    return image


def write_video(
    path: Path, frames: Sequence[Sequence[Square]], options: Mapping[str, str] = SHARP
) -> Path:
    """Writes a video of 10 frames a second."""
    av = pytest.importorskip("av", reason="PyAV is not installed: seatrial[video]")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for squares in frames:
            frame = av.VideoFrame.from_ndarray(paint(squares), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
