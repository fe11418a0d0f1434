"""Images decoded onto the model's canvas where they lie on it as they are: they are not copied.

Such are the images of most cameras whose width was chosen for the model, and of COCO for a model of
640 pixels. To make the canvas of a second array costs as much as a tenth of decoding: 2 MB of
memory that has to be had, and walked twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seatrial.detect.preprocess import Letterbox, letterboxed
from seatrial.manifest import Preprocessing


class CanvasRoom:
    """The canvas of one image, if it is decoded there.

    Args:
        preprocessing: Canvas and resizing, from the manifest.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self._image: NDArray[np.uint8] | None = None
        self._whole: NDArray[np.uint8] | None = None
        self._place: Letterbox | None = None

    def room(self, size_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Memory for an image on the canvas, around which it is padded.

        Args:
            size_hw: Height and width of the image, pixels.

        Returns:
            (H, W, 3) uint8, C-contiguous, not filled. None where the image is scaled, or has
            padding at its sides: its rows would not follow each other.
        """
        preprocessing = self._preprocessing
        if preprocessing.resize != "letterbox" or size_hw[1] != preprocessing.size_hw[1]:
            return None
        place = letterboxed(size_hw, preprocessing)
        if place.inner_hw != size_hw:
            return None
        top = place.pad_xy[1]
        whole = np.empty((*preprocessing.size_hw, 3), np.uint8)
        whole[:top] = whole[top + size_hw[0] :] = preprocessing.pad_value
        self._whole, self._place = whole, place
        self._image = whole[top : top + size_hw[0]]
        return self._image

    def fitted(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Letterbox] | None:
        """The canvas with an image and its place, as `seatrial.detect.preprocess.fit` gives them.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            None where the image is not the one that `room` was for.
        """
        if self._whole is None or self._place is None or image is not self._image:
            return None
        return self._whole[np.newaxis], self._place
