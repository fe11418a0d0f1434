"""Tensors of a detector in the Open Inference Protocol, in whatever server it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seatrial.detect.detections import Detections, label_of
from seatrial.serve.protocols.tensors import BYTES, Signature

VERSION = "1"
GRAPH_SUFFIX = ".graph"  # behind the name of the detector: its graph
IMAGE = Signature("image", BYTES, (-1,))
FOUND = (
    Signature("boxes", "FP32", (-1, 4)),
    Signature("scores", "FP32", (-1,)),
    Signature("class_ids", "INT64", (-1,)),
    Signature("labels", BYTES, (-1,)),
    Signature("counts", "INT32", (-1,)),
)


def found_tensors(
    found: Sequence[Detections], labels: Sequence[str]
) -> dict[str, NDArray[Any] | list[bytes]]:
    """The outputs of a detector: what was found in one image behind that of the one before.

    It is rounded as `POST /detect` rounds it.

    Args:
        found: Detections of each image, one or more.
        labels: Names of the classes.

    Returns:
        Name of each of `FOUND` -> array, or the elements of BYTES.
    """
    rounded = [one.rounded() for one in found]
    ids = np.concatenate([one.class_id for one in rounded])
    return {
        "boxes": np.concatenate([one.xyxy for one in rounded]),
        "scores": np.concatenate([one.score for one in rounded]),
        "class_ids": ids,
        "labels": [label_of(class_id, labels).encode() for class_id in ids.tolist()],
        "counts": np.array([len(one) for one in rounded], np.int32),
    }
