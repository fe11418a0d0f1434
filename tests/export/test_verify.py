"""The comparison of an export with its parent: which images, which answers, which batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from seatrial.artifact import Artifact
from seatrial.engines.base import Engine, EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact, InvalidDataset
from seatrial.export.verify import TOGETHER, answer, batch_errors, read_images
from seatrial.graphs.probes import OnnxProbe
from seatrial.models.import_onnx import import_onnx

Encode = Callable[..., bytes]


@pytest.fixture
def engine(tiny_artifact: Artifact) -> Iterator[Engine]:
    opened = open_engine(tiny_artifact, "onnxruntime", EngineConfig())
    yield opened
    opened.close()


@pytest.fixture
def red(picture: Callable[..., Any]) -> np.ndarray:
    """(128, 128, 3) uint8 RGB, one red cell."""
    return np.array(picture())


def test_images_are_spread_over_the_folder(
    tmp_path: Path, picture: Callable[..., Any], encode: Encode
) -> None:
    for columns in range(1, 10):
        (tmp_path / f"{columns}.png").write_bytes(encode(picture({}, cells_hw=(1, columns)), "PNG"))
    (tmp_path / "notes.txt").write_text("no image")
    widths = [image.shape[1] // 16 for image in read_images(tmp_path, 3)]
    assert widths == [1, 5, 9]  # the first, the middle and the last
    assert len(read_images(tmp_path)) == 9
    (only,) = read_images(tmp_path, 1)
    assert (only.shape, only.dtype) == ((16, 16, 3), np.uint8)


def test_a_file_is_no_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidDataset, match="is not a folder"):
        read_images(tmp_path / "file")


def test_an_answer_has_feeds_raw_outputs_and_boxes_of_every_image(
    tiny_artifact: Artifact, engine: Engine, red: np.ndarray, box_of: Callable[..., list[float]]
) -> None:
    found = answer(tiny_artifact.manifest, engine, [red, red[:, :64]], multi_label=True)
    assert [feeds["image"].shape for feeds in found.feeds] == [(1, 64, 64, 3)] * 2
    assert [sorted(outputs) for outputs in found.outputs] == [["output0"]] * 2
    np.testing.assert_allclose(found.detections[0].xyxy[0], box_of(2, 3))
    boxes = found.boxes(tiny_artifact.manifest)
    assert (boxes.images, boxes.categories) == (2, 3)


def test_noise_moves_values_by_the_grey_levels_at_most_and_is_repeatable(
    tiny_artifact: Artifact, engine: Engine, red: np.ndarray
) -> None:
    def canvas(grey_levels: int) -> np.ndarray:
        found = answer(
            tiny_artifact.manifest, engine, [red], multi_label=True, grey_levels=grey_levels
        )
        return found.feeds[0]["image"].astype(int)

    moved = canvas(2) - canvas(0)
    assert {*np.unique(moved)} == {-2, -1, 0, 1, 2}
    assert canvas(2).min() == 0
    assert canvas(2).max() <= 255
    np.testing.assert_array_equal(canvas(2), canvas(2))


def test_outputs_that_are_no_numbers_are_named(tiny_artifact: Artifact, red: np.ndarray) -> None:
    lane = SimpleNamespace(infer=lambda feeds: {"output0": np.full((1, 7, 64), np.inf)})
    engine: Any = SimpleNamespace(narrow=(lane,), name="broken", precision="f16")
    with pytest.raises(InvalidArtifact, match=r"on broken \(f16\) gives values in output0"):
        answer(tiny_artifact.manifest, engine, [red], multi_label=True)


class Batches:
    """Runs a graph on batches; takes note of them, and may change what they give."""

    def __init__(self, path: Path, change: Callable[[Any], Any] = lambda value: value) -> None:
        self.probe, self.change = OnnxProbe(onnx.load(path)), change
        self.sizes: list[int] = []

    def values(self, names: list[str], feeds: dict[str, np.ndarray]) -> dict[str, Any]:
        self.sizes.append(len(feeds["image"]))
        found = self.probe.values(names, feeds)
        return {name: self.change(value) for name, value in found.items()}


@pytest.fixture
def batched(store: Any, model_file: Callable[..., Path]) -> Artifact:
    """The tiny detector of an open batch size."""
    return import_onnx(store, model_file(batch="batch"))


@pytest.fixture
def seen(batched: Artifact, picture: Callable[..., Any]) -> Any:
    """Its answers to five images, one by one."""
    colours = ("red", "green", "blue", "red", "green")
    images = [np.array(picture({(2, n + 1): colour})) for n, colour in enumerate(colours)]
    engine = open_engine(batched, "onnxruntime", EngineConfig())
    try:
        return answer(batched.manifest, engine, images, multi_label=True)
    finally:
        engine.close()


def test_a_batch_is_compared_image_by_image(batched: Artifact, seen: Any) -> None:
    probe: Any = Batches(batched.file("onnx"))
    (error,) = batch_errors(batched.manifest, probe, seen, ordered=True)
    assert probe.sizes == [TOGETHER]
    assert (error.name, error.within, error.ordered) == ("output0", 1.0, True)
    assert error.worst < 1e-4
    swapped: Any = Batches(batched.file("onnx"), lambda value: value[::-1])
    (error,) = batch_errors(batched.manifest, swapped, seen, ordered=True)
    assert error.within < 1.0
    assert error.worst > 0.5


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        (lambda value: value[:1], r"4 images gave \[1\]"),
        (lambda value: np.concatenate([value, value[:1]]), r"4 images gave \[5\]"),
    ],
)
def test_a_batch_of_four_gives_four_answers(
    batched: Artifact, seen: Any, change: Callable[[Any], Any], sizes: str
) -> None:
    probe: Any = Batches(batched.file("onnx"), change)
    with pytest.raises(InvalidArtifact, match=sizes) as refusal:
        batch_errors(batched.manifest, probe, seen, ordered=True)
    assert refusal.value.hint == "leave out --dynamic-batch"


def test_fewer_images_than_a_batch_are_one_batch(batched: Artifact, seen: Any) -> None:
    few = type(seen)(seen.feeds[:2], seen.outputs[:2], seen.detections[:2])
    probe: Any = Batches(batched.file("onnx"))
    (error,) = batch_errors(batched.manifest, probe, few, ordered=True)
    assert (probe.sizes, error.within) == ([2], 1.0)
