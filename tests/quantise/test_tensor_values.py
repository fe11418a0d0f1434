"""Values of inner tensors: sessions that return them, and histograms over images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from seatrial.artifact import Artifact
from seatrial.errors import InvalidArtifact
from seatrial.progress import silent
from seatrial.quantise import tensor_values
from seatrial.quantise.calibration_images import CalibrationImages, find_images
from seatrial.quantise.workspace import Workspace

NAMES = ["block0.up", "scores", "output0"]


@pytest.fixture
def graph(small: Callable[..., Artifact], scene: Path) -> tuple[Any, CalibrationImages]:
    """Graph of the small detector as it was imported, and four images for it."""
    artifact = small()
    images = CalibrationImages(find_images(scene)[:4], artifact.manifest)
    return onnx.load(artifact.file("onnx")), images


def test_a_session_gives_inner_tensors_and_leaves_the_model_alone(
    graph: tuple[Any, CalibrationImages],
) -> None:
    model, images = graph
    before = model.SerializeToString()
    session = tensor_values.session(model, NAMES)
    assert model.SerializeToString() == before
    (feeds, *_) = images.feeds()
    found = dict(zip(NAMES, session.run(NAMES, feeds), strict=True))
    assert found["block0.up"].shape == (1, 6, 64, 64)
    assert found["scores"].shape == (1, 3, 8, 8)
    assert [output.name for output in session.get_outputs()].count("output0") == 1


def test_histograms_hold_the_values_of_all_images(
    graph: tuple[Any, CalibrationImages], work: Workspace
) -> None:
    model, images = graph
    told: list[tuple[str, int, int]] = []
    found = tensor_values.histograms(
        model, NAMES, images, work, lambda what, done, total, **_: told.append((what, done, total))
    )
    assert list(found) == NAMES
    session = tensor_values.session(model, NAMES)
    values = [session.run(NAMES, feeds) for feeds in images.feeds()]
    for index, name in enumerate(NAMES):
        stacked = np.stack([row[index] for row in values])
        assert (found[name].low, found[name].high) == (stacked.min(), stacked.max())
        assert found[name].counts.sum() == stacked.size  # tensors this small are counted whole
        middles, counts = found[name].values()
        assert np.average(middles, weights=counts) == pytest.approx(
            stacked.mean(), abs=float(stacked.max() - stacked.min()) / 2048
        )
    steps = ("finding the extremes of activations", "counting the values of activations")
    assert told == [(what, done, 4) for what in steps for done in range(1, 5)]


def test_histograms_are_kept_in_the_workspace(
    graph: tuple[Any, CalibrationImages], work: Workspace
) -> None:
    model, images = graph
    first = tensor_values.histograms(model, NAMES, images, work, silent)
    told: list[str] = []
    again = tensor_values.histograms(
        model, NAMES, images, work, lambda what, *_, **__: told.append(what)
    )
    assert told == []
    for name in NAMES:
        assert (again[name].low, again[name].high) == (first[name].low, first[name].high)
        np.testing.assert_array_equal(again[name].counts, first[name].counts)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named_and_nothing_is_kept(
    graph: tuple[Any, CalibrationImages], work: Workspace, value: float
) -> None:
    model, images = graph
    tensor = next(t for t in model.graph.initializer if t.name == "scores.bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(3, value, np.float32), tensor.name))
    with pytest.raises(InvalidArtifact, match=r"^scores takes values that are not numbers"):
        tensor_values.histograms(model, ["block0.up", "scores"], images, work, silent)
    assert not (work.path / "histograms.npz").exists()
