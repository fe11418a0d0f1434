"""A tiny detector whose answer is known beforehand, and pictures for it.

The detector looks at squares of 8 x 8 canvas pixels. A square that is red, green or blue, and
not grey, has an object of that class in its middle, 16 x 16 canvas pixels in size, of a
confidence that is the saturation. Everything else follows by arithmetic.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from seatrial.artifact import Artifact, Store
from seatrial.models.import_onnx import import_onnx

CELL_PX = 8
BOX_PX = 16
COLOURS = ("red", "green", "blue")


def build_tiny(
    *,
    size_hw: tuple[int, int] = (64, 64),
    names: tuple[str, ...] = COLOURS,
    layout: str = "anchors",
    batch: int | str = 1,
    dynamic_size: bool = False,
    half: bool = False,
    input_name: str = "images",
    output_name: str = "output0",
    metadata: dict[str, str] | None = None,
) -> Any:
    """The detector as Ultralytics' exporter would write it.

    Args:
        size_hw: Canvas (height, width), multiples of 8.
        names: Class names, at most three: red, green, blue.
        layout: ``anchors`` for [N, 4 + classes, A], ``end_to_end`` for [N, 300, 6].
        batch: Batch size, or the name of a dynamic one.
        dynamic_size: Height and width of the input are named, not fixed.
        half: Input, weights and output in float16.
        input_name: Of the graph.
        output_name: Of the graph.
        metadata: Overrides; an empty value leaves the key out.

    Returns:
        ``onnx.ModelProto``.
    """
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    rows, columns = size_hw[0] // CELL_PX, size_hw[1] // CELL_PX
    classes, cells = len(names), rows * columns
    # Saturation: a channel less the mean of the two others, averaged over a cell.
    mix = (1.5 * np.eye(3) - 0.5)[:classes]
    weights = np.repeat(mix[:, :, None, None], CELL_PX, 2).repeat(CELL_PX, 3) / CELL_PX**2
    y, x = np.mgrid[:rows, :columns] * CELL_PX + CELL_PX / 2
    centres = np.stack([x.ravel(), y.ravel()])  # (2, A)
    sides = np.full((2, cells), BOX_PX)
    constants = {
        "weights": weights.astype(dtype),
        "flat": np.array([0, classes, -1], np.int64),
        "low": np.array(0, dtype),
        "high": np.array(1, dtype),
    }
    nodes = [
        helper.make_node("Conv", [input_name, "weights"], ["saturation"], strides=[CELL_PX] * 2),
        helper.make_node("Clip", ["saturation", "low", "high"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "flat"], ["scores"]),  # (N, classes, A)
    ]
    if layout == "anchors":
        constants["boxes"] = np.concatenate([centres, sides])[None].astype(dtype)
        # 0 * scores gives the boxes the batch size of the scores.
        nodes += [
            helper.make_node("ReduceSum", ["scores", "class_axis"], ["mass"], keepdims=1),
            helper.make_node("Mul", ["mass", "low"], ["nothing"]),
            helper.make_node("Add", ["boxes", "nothing"], ["placed"]),
            helper.make_node("Concat", ["placed", "scores"], [output_name], axis=1),
        ]
        constants["class_axis"] = np.array([1], np.int64)
        shape: list[int | str] = [batch, 4 + classes, "anchors" if dynamic_size else cells]
    else:
        corners = np.concatenate([centres - sides / 2, centres + sides / 2])
        constants |= {
            "boxes": corners.T[None].astype(dtype),  # (1, A, 4)
            "filling": np.array([0, 0, 0, 0, 300 - cells, 0], np.int64),
        }
        nodes += [
            helper.make_node("Transpose", ["scores"], ["by_cell"], perm=[0, 2, 1]),
            helper.make_node("ReduceMax", ["by_cell"], ["best"], axes=[2], keepdims=1),
            helper.make_node("ArgMax", ["by_cell"], ["which"], axis=2, keepdims=1),
            helper.make_node("Cast", ["which"], ["class"], to=kind),
            helper.make_node("Mul", ["best", "low"], ["nothing"]),
            helper.make_node("Add", ["boxes", "nothing"], ["placed"]),
            helper.make_node("Concat", ["placed", "best", "class"], ["found"], axis=2),
            helper.make_node("Pad", ["found", "filling", "low"], [output_name]),
        ]
        shape = [batch, 300, 6]
    size: list[int | str] = ["height", "width"] if dynamic_size else [*size_hw]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, kind, [batch, 3, *size])],
        [helper.make_tensor_value_info(output_name, kind, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    facts = {
        "description": "Ultralytics YOLO11t model trained on colours.yaml",
        "author": "Ultralytics",
        "date": "2026-01-01T00:00:00",
        "version": "8.3.0",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        "stride": str(CELL_PX),
        "task": "detect",
        "batch": "1",
        "imgsz": str(list(size_hw)),
        "names": str(dict(enumerate(names))),
        **(metadata or {}),
    }
    helper.set_model_props(model, {key: value for key, value in facts.items() if value})
    return model


def build_picture(
    patches: dict[tuple[int, int], str] | None = None,
    *,
    cells_hw: tuple[int, int] = (8, 8),
    cell_px: int = 16,
    mode: str = "RGB",
) -> Image.Image:
    """A grey picture with cells in colour.

    Args:
        patches: (row, column) of a cell -> colour; one red cell at (2, 3) by default.
        cells_hw: Size of the picture in cells.
        cell_px: Side of a cell; 16 keeps JPEG's blocks and chroma samples within one cell.
        mode: PIL mode of the picture.
    """
    pixels = np.full((cells_hw[0] * cell_px, cells_hw[1] * cell_px, 3), 114, np.uint8)
    for (row, column), colour in ({(2, 3): "red"} if patches is None else patches).items():
        top, left = row * cell_px, column * cell_px
        pixels[top : top + cell_px, left : left + cell_px] = np.eye(3)[COLOURS.index(colour)] * 255
    return Image.fromarray(pixels).convert(mode)


def build_file(picture: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    if image_format == "JPEG":
        options = {"quality": 95, **options}
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def expected_box(row: int, column: int, cell_px: int = 16) -> list[float]:
    """Where the tiny detector sees a coloured cell, source pixels, for canvases of its own shape.

    Cells at the border have boxes that reach out of the picture; they are clipped there.
    """
    half = cell_px * BOX_PX / CELL_PX / 2
    x, y = (column + 0.5) * cell_px, (row + 0.5) * cell_px
    return [x - half, y - half, x + half, y + half]


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """Builds the tiny detector; see `build_tiny`."""
    return build_tiny


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """Builds a picture of coloured cells; see `build_picture`."""
    return build_picture


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Writes a picture to the bytes of a file; see `build_file`."""
    return build_file


@pytest.fixture(scope="session")
def box_of() -> Callable[..., list[float]]:
    """Where the tiny detector sees a cell; see `expected_box`."""
    return expected_box


@pytest.fixture(scope="session")
def photo(picture: Callable[..., Image.Image], encode: Callable[..., bytes]) -> bytes:
    """A 128 x 128 JPEG with one red cell, at row 2 and column 3."""
    return encode(picture())


@pytest.fixture
def model_file(tmp_path: Path, tiny_model: Callable[..., Any]) -> Callable[..., Path]:
    """Writes a variant of the tiny detector to a file: ``model_file(layout="end_to_end")``."""

    def write(name: str = "tiny.onnx", **variant: Any) -> Path:
        path = tmp_path / name
        onnx.save(tiny_model(**variant), path)
        return path

    return write


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny detector with three classes on a 64 x 64 canvas, in a store of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(build_tiny(), folder / "tiny.onnx")
    return import_onnx(Store(folder / "store"), folder / "tiny.onnx")
