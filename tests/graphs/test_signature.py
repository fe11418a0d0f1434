"""Signatures of graphs: the size of the image."""

from __future__ import annotations

import pytest

from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec


def graph(dtype: str, *shape: int) -> GraphSignature:
    return GraphSignature((TensorSpec("images", dtype, shape),), (), {})


@pytest.mark.parametrize(
    ("dtype", "shape", "size_hw"),
    [
        ("float32", (1, 3, 480, 640), (480, 640)),
        ("uint8", (-1, 480, 640, 3), (480, 640)),
        ("uint8", (1, 3, 480, 640), (480, 640)),
        ("float16", (1, 3, -1, 640), None),
        ("float32", (1, -1, 480, 640), (480, 640)),
    ],
)
def test_the_size_of_the_image(
    dtype: str, shape: tuple[int, ...], size_hw: tuple[int, int] | None
) -> None:
    assert graph(dtype, *shape).image_hw() == size_hw


@pytest.mark.parametrize("shape", [(1, 480, 640, 3), (1, 1, 480, 640), (3, 480, 640), ()])
def test_an_input_that_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArtifact, match="the input is"):
        graph("float32", *shape).image_hw()
    with pytest.raises(InvalidArtifact, match="the input is"):
        GraphSignature((), (), {}).image_hw()
