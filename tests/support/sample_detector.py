"""The sample detector and the sample photos, fetched and built once a session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.artifact import Artifact, Store
from seatrial.datasets.samples import sample_photos
from seatrial.errors import SourceUnavailable
from seatrial.models.sources import sample_ssd
from seatrial.system.files import sha256_file
from seatrial.system.locks import locked
from seatrial.system.wheels import fetch


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a run in parallel share, for what is made once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return folder


@pytest.fixture(scope="session")
def cache(shared: Path) -> Path:
    """Where downloads are kept: SEATRIAL_TEST_CACHE between sessions, else for this one."""
    kept = os.environ.get("SEATRIAL_TEST_CACHE")
    folder = Path(kept) if kept else shared / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def frozen_graph(cache: Path) -> Path:
    path = cache / sample_ssd.SOURCE.name
    with locked(cache / "graph.lock", on_wait=lambda: None):
        if path.is_file() and sha256_file(path) == sample_ssd.SOURCE.sha256:
            return path
        try:
            return fetch([sample_ssd.SOURCE], cache, print)[0]
        except SourceUnavailable as error:
            _skip_if_unreachable(error)
            raise


@pytest.fixture(scope="session")
def photos(cache: Path) -> dict[str, Path]:
    """Sample photos by name without suffix.

    No test may change them: all processes share them, and decoding takes 10 s.
    """
    with locked(cache / "photos.lock", on_wait=lambda: None):
        try:
            return {path.stem: path for path in sample_photos(cache / "photos", print)}
        except SourceUnavailable as error:
            _skip_if_unreachable(error)
            raise


@pytest.fixture(scope="session")
def ssd(frozen_graph: Path, shared: Path) -> Artifact:
    """``ssd-mobilenet-v2`` as `pull` makes it, but for the download, which is done.

    Made once for all processes of a run in parallel: it takes a core about twenty seconds.
    """
    name = "ssd-mobilenet-v2"
    store = Store(shared / "sample-detector")
    with locked(shared / "sample-detector.lock", on_wait=lambda: None):
        if name in store.names():
            return store.open(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sample_ssd, "fetch", lambda files, folder, on_progress: [frozen_graph])
            return sample_ssd.pull(store, name, print, replace=False)


@pytest.fixture(scope="session")
def quantised() -> Callable[..., Path]:
    """Writes a convolution with quantised input and weights; see `write_quantised`."""
    return write_quantised


def write_quantised(
    path: Path, *, kind: Any = np.int8, zero: int = 0, bias: Any = np.float32
) -> Path:
    """A convolution with quantised input and weights.

    Args:
        path: File to write.
        kind: Type that the input is quantised to.
        zero: Its zero point.
        bias: Type of the bias; int32 is dequantised in the graph.
    """
    weights = np.random.default_rng(0).integers(-100, 100, (8, 3, 3, 3)).astype(np.int8)
    constants = {
        "scale": np.array(0.02, np.float32),
        "zero": np.array(zero, kind),
        "weights": weights,
        "scales": np.full(8, 0.01, np.float32),
        "zeros": np.zeros(8, np.int8),
        "bias": np.zeros(8, bias),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], "quantise"),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], "dequantise"),
        helper.make_node(
            "DequantizeLinear", ["weights", "scales", "zeros"], ["wd"], "dequantise_weights", axis=0
        ),
    ]
    if bias == np.int32:
        constants["no_zeros"] = np.zeros(8, np.int32)
        inputs = ["bias", "scales", "no_zeros"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, ["b"], "dequantise_bias", axis=0))
    inputs = ["xd", "wd", "b" if bias == np.int32 else "bias"]
    nodes.append(helper.make_node("Conv", inputs, ["y"], "conv"))
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 30, 30])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def _skip_if_unreachable(error: SourceUnavailable) -> None:
    if "cannot be reached" in error.message:
        pytest.skip(error.message)
