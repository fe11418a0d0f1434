"""Fitting to the canvas: Ultralytics' arithmetic, and the way back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from seatrial.detect.preprocess import fit, letterbox, resize, shortest_edge, stretch
from seatrial.errors import InvalidArtifact, InvalidImage
from seatrial.manifest import Preprocessing

sides = st.integers(1, 1500)
canvases = st.sampled_from([(64, 64), (320, 320), (640, 640), (384, 640), (640, 416), (1280, 736)])


def reference_letterbox(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Ultralytics 8.3 ``data/augment.py`` LetterBox.__call__ with auto=False, center=True."""
    shape = image.shape[:2]
    r = min(size_hw[0] / shape[0], size_hw[1] / shape[1])
    new_unpad = round(shape[1] * r), round(shape[0] * r)
    dw, dh = size_hw[1] - new_unpad[0], size_hw[0] - new_unpad[1]
    dw /= 2
    dh /= 2
    if shape[::-1] != new_unpad:
        image = cv2.resize(image, new_unpad, interpolation=cv2.INTER_LINEAR)
    top, bottom = round(dh - 0.1), round(dh + 0.1)
    left, right = round(dw - 0.1), round(dw + 0.1)
    return cv2.copyMakeBorder(
        image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114)
    )


def reference_scale_boxes(
    size_hw: tuple[int, int], boxes: np.ndarray, source_hw: tuple[int, int]
) -> np.ndarray:
    """Ultralytics 8.4 ``utils/ops.py`` scale_boxes and clip_boxes."""
    gain = min(size_hw[0] / source_hw[0], size_hw[1] / source_hw[1])
    new_h, new_w = (max(round(side * gain), 1) for side in source_hw)
    pad_x = round((size_hw[1] - new_w) / 2 - 0.1)
    pad_y = round((size_hw[0] - new_h) / 2 - 0.1)
    gains = np.array([new_w / source_hw[1], new_h / source_hw[0]] * 2)
    boxes = (boxes - [pad_x, pad_y, pad_x, pad_y]) / gains
    return np.clip(boxes, 0, [source_hw[1], source_hw[0]] * 2)


def picture_of(source_hw: tuple[int, int]) -> np.ndarray:
    height, width = source_hw
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 7 + y, y * 5, x ^ y], -1).astype(np.uint8)


@given(st.tuples(sides, sides), canvases)
@example((480, 640), (640, 640))
@example((640, 640), (640, 640))
@example((427, 640), (640, 640))
@example((1080, 1920), (384, 640))
@example((3, 1500), (640, 640))
def test_letterbox_is_ultralytics_letterbox(
    source_hw: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    gain = min(size_hw[0] / source_hw[0], size_hw[1] / source_hw[1])
    if round(min(source_hw) * gain) < 1:  # the original cannot resize to nothing; ours can
        return
    image = picture_of(source_hw)
    canvas, _ = letterbox(image, Preprocessing(size_hw, "letterbox"))
    np.testing.assert_array_equal(canvas, reference_letterbox(image, size_hw))


@given(
    st.tuples(sides, sides),
    canvases,
    st.lists(st.tuples(*[st.floats(-200, 1500, width=32)] * 4), min_size=1, max_size=5),
)
def test_boxes_go_back_as_ultralytics_scale_boxes(
    source_hw: tuple[int, int], size_hw: tuple[int, int], boxes: list[tuple[float, ...]]
) -> None:
    image = np.zeros((*source_hw, 3), np.uint8)
    _, mapping = letterbox(image, Preprocessing(size_hw, "letterbox"))
    xyxy = np.array(boxes, np.float32)
    got = mapping.to_source(xyxy)
    assert got.dtype == np.float32
    np.testing.assert_allclose(
        got,
        reference_scale_boxes(size_hw, xyxy.astype(np.float64), source_hw),
        rtol=1e-4,
        atol=1e-2,
    )


@given(st.tuples(sides, sides), canvases, st.booleans())
def test_corners_map_back_to_source_corners(
    source_hw: tuple[int, int], size_hw: tuple[int, int], boxed: bool
) -> None:
    image = np.zeros((*source_hw, 3), np.uint8)
    _, mapping = fit(image, Preprocessing(size_hw, "letterbox" if boxed else "stretch"))
    height, width = source_hw
    shift, scale = np.array(mapping.pad_xy * 2), np.array(mapping.scale_xy * 2)
    corners = np.array([[0, 0, width, height]], np.float32) * scale + shift
    np.testing.assert_allclose(
        mapping.to_source(corners.astype(np.float32)), [[0, 0, width, height]], rtol=1e-5, atol=1e-3
    )


@given(st.tuples(sides, sides), canvases)
def test_what_is_outside_the_picture_is_padding(
    source_hw: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    image = np.full((*source_hw, 3), 200, np.uint8)
    canvas, where = letterbox(image, Preprocessing(size_hw, "letterbox"))
    assert canvas.shape == (*size_hw, 3)
    left, top = where.pad_xy
    inner_w = max(1, round(source_hw[1] * where.scale_xy[0]))
    inner_h = max(1, round(source_hw[0] * where.scale_xy[1]))
    inside = np.zeros(size_hw, bool)
    inside[top : top + inner_h, left : left + inner_w] = True
    assert (canvas[inside] == 200).all()
    assert (canvas[~inside] == 114).all()


def test_a_picture_of_the_canvas_size_is_not_touched() -> None:
    image = picture_of((64, 64))
    for resize_by in ("letterbox", "stretch"):
        canvas, where = fit(image, Preprocessing((64, 64), resize_by))  # type: ignore[arg-type]
        np.testing.assert_array_equal(canvas[0], image)
        assert where.scale_xy == (1.0, 1.0)
        assert where.pad_xy == (0, 0)


def test_stretch_fills_the_canvas_with_opencvs_resize() -> None:
    image = picture_of((37, 91))
    canvas, where = stretch(image, Preprocessing((48, 64), "stretch"))
    np.testing.assert_array_equal(canvas, cv2.resize(image, (64, 48)))
    assert where.scale_xy == (64 / 91, 48 / 37)
    boxes = np.array([[32, 24, 64, 48]], np.float32)
    np.testing.assert_allclose(where.to_source(boxes), [[45.5, 18.5, 91, 37]], rtol=1e-6)


def reference_corner_resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """TensorFlow 1 ``resize_bilinear(align_corners=False, half_pixel_centers=False)``."""
    height, width = image.shape[:2]
    y = np.arange(size_hw[0]) * (height / size_hw[0])
    x = np.arange(size_hw[1]) * (width / size_hw[1])
    y0, x0 = y.astype(int), x.astype(int)
    y1, x1 = np.minimum(y0 + 1, height - 1), np.minimum(x0 + 1, width - 1)
    fy, fx = (y - y0)[:, None, None], (x - x0)[None, :, None]
    pixels = image.astype(np.float64)
    upper = pixels[y0][:, x0] * (1 - fx) + pixels[y0][:, x1] * fx
    lower = pixels[y1][:, x0] * (1 - fx) + pixels[y1][:, x1] * fx
    return upper * (1 - fy) + lower * fy


@pytest.mark.parametrize("source_hw", [(480, 640), (101, 67), (300, 300), (1, 1), (600, 20)])
def test_stretch_at_corners_is_tensorflow_1(source_hw: tuple[int, int]) -> None:
    y, x = np.mgrid[: source_hw[0], : source_hw[1]]  # smooth, so that 1/32 px steps do not show
    image = np.stack([x / 3, y / 3, (x + y) / 5], -1).astype(np.uint8)
    canvas, _ = stretch(image, Preprocessing((300, 300), "stretch", half_pixel_centers=False))
    reference = reference_corner_resize(image, (300, 300))
    assert np.abs(canvas - reference).max() <= 1.01
    half_pixel, _ = stretch(image, Preprocessing((300, 300), "stretch"))
    if source_hw == (480, 640):  # the two samplings are not the same
        assert np.abs(half_pixel.astype(int) - canvas).max() >= 1


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_fit_does_what_the_artifact_asks_for(resize: str) -> None:
    image = picture_of((40, 80))
    batch, where = fit(image, Preprocessing((64, 32), resize, pad_value=7))  # type: ignore[arg-type]
    assert batch.shape == (1, 64, 32, 3)
    assert batch.flags.c_contiguous
    if resize == "letterbox":
        assert where.pad_xy == (0, 24)
        assert (batch[0, :24] == 7).all()
        assert (batch[0, 40:] == 7).all()
    else:
        np.testing.assert_array_equal(batch[0], cv2.resize(image, (32, 64)))


WAYS: list[dict[str, Any]] = [
    {"resize": "letterbox"},
    {"resize": "letterbox", "antialias": True},
    {"resize": "letterbox", "interpolation": "area"},
    {"resize": "letterbox", "align": "top_left"},
    {"resize": "stretch"},
    {"resize": "stretch", "interpolation": "area"},
    {"resize": "stretch", "half_pixel_centers": False},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("source_hw", [(1, 1), (1, 32_766), (32_766, 1), (2, 3)])
def test_every_picture_that_is_decoded_fits(
    source_hw: tuple[int, int], way: dict[str, Any]
) -> None:
    wanted = Preprocessing((64, 64), **way)
    batch, where = fit(np.zeros((*source_hw, 3), np.uint8), wanted)
    assert batch.shape == (1, 64, 64, 3)
    back = where.to_source(np.array([[0, 0, 64, 64]], np.float32))
    np.testing.assert_allclose(back, [[0, 0, source_hw[1], source_hw[0]]], rtol=1e-5)


@pytest.mark.parametrize(
    ("source_hw", "edges_px", "size_hw", "inner_hw"),
    [
        ((480, 640), (800, 1333), (1333, 1333), (800, 1066)),
        ((640, 480), (800, 1333), (1333, 1333), (1066, 800)),
        ((100, 400), (80, 160), (160, 160), (40, 160)),  # the longer side is the limit
        ((400, 100), (80, 160), (160, 160), (160, 40)),
        ((80, 120), (80, 160), (160, 160), (80, 120)),  # as it is
        ((99, 99), (50, 90), (64, 90), (50, 50)),
        ((200, 100), None, (64, 128), (64, 32)),  # a portrait made to fit a landscape canvas
        ((100, 200), None, (128, 64), (32, 64)),
        ((1, 2000), (80, 160), (160, 160), (1, 160)),
        ((3, 1), (64, 64), (64, 64), (64, 21)),
    ],
    ids=str,
)
def test_shortest_edge_is_resized_by_the_edges_and_padded_right_and_below(
    source_hw: tuple[int, int],
    edges_px: tuple[int, int] | None,
    size_hw: tuple[int, int],
    inner_hw: tuple[int, int],
) -> None:
    image = picture_of(source_hw)
    wanted = Preprocessing(size_hw, "shortest_edge", pad_value=9, edges_px=edges_px)
    canvas, where = shortest_edge(image, wanted)
    assert canvas.shape == (*size_hw, 3)
    assert where.inner_hw == inner_hw
    assert (where.source_hw, where.size_hw, where.pad_xy) == (source_hw, size_hw, (0, 0))
    assert where.scale_xy == (inner_hw[1] / source_hw[1], inner_hw[0] / source_hw[0])
    height, width = inner_hw
    np.testing.assert_array_equal(canvas[:height, :width], resize(image, inner_hw))
    assert (canvas[height:] == 9).all()
    assert (canvas[:, width:] == 9).all()
    batch, through_fit = fit(image, wanted)
    np.testing.assert_array_equal(batch[0], canvas)
    assert through_fit == where


@pytest.mark.parametrize("source_hw", [(90, 120), (120, 90), (40, 50), (90, 50)])
def test_antialiased_resizing_is_pillows_where_a_side_becomes_shorter(
    source_hw: tuple[int, int],
) -> None:
    image = picture_of(source_hw)
    smaller = any(a < b for a, b in zip((64, 72), source_hw, strict=True))
    pillow = np.asarray(Image.fromarray(image).resize((72, 64), Image.Resampling.BILINEAR))
    opencv = cv2.resize(image, (72, 64), interpolation=cv2.INTER_LINEAR)
    found = resize(image, (64, 72), antialias=True)
    np.testing.assert_array_equal(found, pillow if smaller else opencv)
    np.testing.assert_array_equal(resize(image, (64, 72)), opencv)
    assert resize(image, source_hw, antialias=True) is not image


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InvalidImage, match=r"\(H, W, 3\) uint8"):
        fit(image, Preprocessing((64, 64), "letterbox"))


@pytest.mark.parametrize("resize_by", ["letterbox", "stretch", "shortest_edge"])
def test_antialiasing_and_areas_are_honoured_whatever_the_way_to_fit(resize_by: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    plain, smooth, area = (
        fit(image, Preprocessing((100, 100), resize_by, **how))[0][0]  # type: ignore[arg-type]
        for how in ({}, {"antialias": True}, {"interpolation": "area"})
    )
    pillow = np.array(Image.fromarray(image).resize((100, 100), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(smooth, pillow)
    np.testing.assert_array_equal(area, cv2.resize(image, (100, 100), interpolation=cv2.INTER_AREA))
    for other in (smooth, area):
        assert np.abs(other.astype(int) - plain).mean() > 10


def test_areas_are_for_smaller_images_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    np.testing.assert_array_equal(resize(image, (60, 80), area=True), resize(image, (60, 80)))


@given(st.tuples(sides, sides), canvases)
@example((1333, 800), (640, 640))
def test_letterbox_at_the_top_left_is_yolox_preproc(
    source_hw: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    height, width = source_hw
    gain = min(size_hw[0] / height, size_hw[1] / width)
    inner_hw = max(1, int(height * gain)), max(1, int(width * gain))
    image = picture_of(source_hw)
    canvas, where = letterbox(image, Preprocessing(size_hw, "letterbox", align="top_left"))
    wanted = np.full((*size_hw, 3), 114, np.uint8)
    wanted[: inner_hw[0], : inner_hw[1]] = cv2.resize(image, inner_hw[::-1])
    np.testing.assert_array_equal(canvas, wanted)
    assert (where.pad_xy, where.scale_xy, where.inner_hw) == ((0, 0), (gain, gain), inner_hw)


@pytest.mark.parametrize(
    "fields",
    [
        {"resize": "letterbox", "half_pixel_centers": False},
        {"resize": "shortest_edge", "half_pixel_centers": False},
        {"resize": "stretch", "half_pixel_centers": False, "antialias": True},
        {"resize": "stretch", "half_pixel_centers": False, "interpolation": "area"},
        {"resize": "stretch", "antialias": True, "interpolation": "area"},
        {"resize": "stretch", "align": "top_left"},
        {"resize": "letterbox", "edges_px": (64, 64)},
        {"resize": "letterbox", "pad_value": 256},
        {"resize": "letterbox", "size_hw": (0, 64)},
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArtifact, match="there is no preprocessing of"):
        Preprocessing(**{"size_hw": (64, 64), **fields})
