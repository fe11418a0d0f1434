"""What is quantised, what stays float, and that restored layers are float again; in the graphs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantised_graphs import LAYERS, openvino_precisions, plain
from seatrial.artifact import Artifact
from seatrial.errors import MissingExtra
from seatrial.progress import silent
from seatrial.quantise.calibration_images import CalibrationImages, find_images
from seatrial.quantise.registry import BACKENDS, open_backend
from seatrial.quantise.workspace import Workspace
from seatrial.system.files import sha256_file

pytest.importorskip("nncf", reason="NNCF is not installed")


@pytest.mark.parametrize("to", BACKENDS)
def test_all_convolutions_before_the_head_are_int8_and_none_in_it(
    quantised: Callable[..., tuple[Any, Path]], work: Workspace, to: str
) -> None:
    backend, folder = quantised(to)
    assert {plain(name) for name in backend.layers(folder, work)} == LAYERS


@pytest.mark.parametrize("to", BACKENDS)
def test_restored_layers_are_float_and_the_others_are_not(
    quantised: Callable[..., tuple[Any, Path]], work: Workspace, tmp_path: Path, to: str
) -> None:
    backend, folder = quantised(to)
    chosen = ("block0.up/Conv", "block1.down/Conv")
    wanted = [n for n in backend.layers(folder, work) if plain(n) in chosen]
    (tmp_path / "restored").mkdir()
    backend.restore(folder, wanted, tmp_path / "restored", work)
    left = {plain(name) for name in backend.layers(tmp_path / "restored", work)}
    assert left == LAYERS - {plain(name) for name in wanted}
    if to == "openvino":
        ran = openvino_precisions(tmp_path / "restored")
        assert {ran[name] for name in wanted} == {"f32"}


@pytest.mark.parametrize("to", BACKENDS)
def test_with_all_layers_restored_the_graph_is_the_float_one_again(
    quantised: Callable[..., tuple[Any, Path]],
    work: Workspace,
    tmp_path: Path,
    to: str,
    scene: Path,
    small: Callable[..., Artifact],
) -> None:
    # Biases that NNCF corrected must come back too.
    backend, folder = quantised(to, "fast-bias-correction" if to == "openvino" else None)
    (tmp_path / "all").mkdir()
    backend.restore(folder, backend.layers(folder, work), tmp_path / "all", work)
    (feeds,) = CalibrationImages(find_images(scene)[8:9], small("again").manifest).feeds()
    wanted = backend.probe(None, work)(feeds)
    rounded = backend.probe(folder, work)(feeds)
    restored = backend.probe(tmp_path / "all", work)(feeds)
    for float_value, int8_value, restored_value in zip(wanted, rounded, restored, strict=True):
        # Rounding of what is not convolution may stay; that of convolutions is gone.
        assert np.abs(restored_value - float_value).max() <= np.abs(int8_value - float_value).max()
    error = [np.abs(r - w).max() for r, w in zip(restored, wanted, strict=True)]
    assert max(error) < 0.02
    assert max(np.abs(i - w).max() for i, w in zip(rounded, wanted, strict=True)) > 0


@pytest.mark.parametrize("to", BACKENDS)
def test_the_same_input_gives_the_same_bytes(
    small: Callable[..., Artifact], scene: Path, tmp_path: Path, to: str
) -> None:
    artifact, digests = small(), set()
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        work, backend = Workspace(tmp_path / str(number)), open_backend(to)
        backend.prepare(artifact, work)
        images = CalibrationImages(find_images(scene)[:4], artifact.manifest)
        folder = backend.quantise(backend.recipes[1], images, work, silent)
        digests.add(tuple(sha256_file(file) for file in sorted(folder.iterdir())))
    assert len(digests) == 1


@pytest.mark.parametrize(("to", "package"), [("openvino", "nncf"), ("onnxruntime", "onnxruntime")])
def test_a_missing_package_names_the_extra(
    small: Callable[..., Artifact],
    work: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    to: str,
    package: str,
) -> None:
    artifact, find = small(), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name)
    )
    with pytest.raises(MissingExtra, match=package) as refusal:
        open_backend(to).prepare(artifact, work)
    assert "[compress]" in refusal.value.hint
