"""Detections with the names of their classes, for programs."""

from __future__ import annotations

import importlib
import importlib.util
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.api.images import ImageLike, pixels
from seatrial.detect.detections import Detections, label_of
from seatrial.detect.detector import MAX_PIXELS
from seatrial.errors import InvalidInput, MissingExtra
from seatrial.report.numbers import counted


@dataclass(frozen=True, slots=True, eq=False)
class LabelledDetections:
    """The objects found in one image, most confident first.

    ``len(detections)`` is their number; ``detections[index]`` chooses some by a boolean mask, an
    array of indices, a slice or one index: ``detections[detections.confidence > 0.5]``.

    Attributes:
        detections: The arrays.
        names: Class names of the model, by class number.
        size_hw: Height and width of the image, upright, pixels.
    """

    detections: Detections
    names: tuple[str, ...]
    size_hw: tuple[int, int]

    @property
    def xyxy(self) -> NDArray[np.float32]:
        """(N, 4) float32: left, top, right, bottom, in pixels of the image."""
        return self.detections.xyxy

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(N,) float32, 0-1."""
        return self.detections.score

    @property
    def class_id(self) -> NDArray[np.int64]:
        """(N,) int64, index into `names`."""
        return self.detections.class_id

    @property
    def labels(self) -> list[str]:
        """N class names."""
        return [label_of(number, self.names) for number in self.class_id.tolist()]

    def __len__(self) -> int:
        return len(self.detections)

    def __getitem__(
        self, index: int | slice | NDArray[np.bool_] | NDArray[np.intp]
    ) -> LabelledDetections:
        """The detections of a mask, of indices, of a slice or of one index."""
        return LabelledDetections(self.detections[index], self.names, self.size_hw)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(self.labels).items())
        return f"<{counted(len(self), 'detection')}{': ' if counts else ''}{counts}>"

    def to_coco(
        self, image_id: int = 0, *, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Rows in COCO's format for results.

        Args:
            image_id: Number of the image in the dataset.
            category_ids: The dataset's number of each class; default: the class number.

        Returns:
            ``image_id``, ``category_id``, ``bbox`` (left, top, width, height in pixels) and
            ``score`` of each detection.

        Raises:
            InvalidInput: `category_ids` has no number for a class.
        """
        if category_ids is not None and len(category_ids) < len(self.names):
            raise InvalidInput(
                f"category_ids has {len(category_ids)} numbers for {len(self.names)} classes"
            )
        number_of_image = operator.index(image_id)  # a NumPy integer does not go into JSON
        rounded = self.detections.rounded()
        corners = rounded.xyxy.astype(np.float64).round(2)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(2)
        return [
            {
                "image_id": number_of_image,
                "category_id": number if category_ids is None else int(category_ids[number]),
                "bbox": box,
                "score": score,
            }
            for number, box, score in zip(
                self.class_id.tolist(),
                boxes.tolist(),
                rounded.score.astype(np.float64).round(5).tolist(),
                strict=True,
            )
        ]

    def to_supervision(self) -> Any:
        """The same as ``supervision.Detections``, class names in ``data["class_name"]``.

        Raises:
            MissingExtra: The package supervision is not installed.
        """
        if importlib.util.find_spec("supervision") is None:
            raise MissingExtra(
                "supervision is not installed; detections in its form need it",
                hint="pip install supervision",  # no extra: it brings another OpenCV
            )
        supervision = importlib.import_module("supervision")
        return supervision.Detections(
            xyxy=self.xyxy,
            confidence=self.confidence,
            class_id=self.class_id,
            tracker_id=self.detections.track_id,
            data={"class_name": np.array(self.labels, dtype=str)},
        )

    def draw(self, image: ImageLike, *, scores: bool = True) -> NDArray[np.uint8]:
        """A copy of the image with boxes and labels.

        Args:
            image: The image that they were found in: path, bytes, PIL image or array.
            scores: Write the confidence beside the class.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            InvalidInput: The image cannot be read, or is of another size.
        """
        from seatrial.detect.draw import draw

        array = pixels(image, max_pixels=MAX_PIXELS)
        if array.shape[:2] != self.size_hw:
            height, width = self.size_hw
            raise InvalidInput(
                f"the image is {array.shape[1]} x {array.shape[0]}, the detections are of one of "
                f"{width} x {height}",
                hint="draw on the image that was detected in",
            )
        return draw(array, self.detections, self.names, scores=scores)
