"""The wheel of this source, and what commands that are tried with it name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image

from seatrial.artifact import Store
from seatrial.cli.data_write import convert
from seatrial.models.resolve import import_model
from seatrial.system.locks import locked
from tiny_networks import build_network, save_snapshot
from training_sets import build_images

CONTRACT = """name = "all"
[accuracy]
ap50 = 0.1
[latency]
percentile = "p90"
at_most_ms = 100.0
"""


@pytest.fixture(scope="session")
def wheel(shared: Path) -> Path:
    """The wheel of this source, built once for all processes of a run."""
    from fresh_environments import build_wheel  # reads the environment when it is imported

    folder = shared / "wheel"
    with locked(shared / "wheel.lock", on_wait=lambda: None):
        return next(folder.glob("*.whl"), None) or build_wheel(folder)


@pytest.fixture(scope="session")
def materials(
    request: pytest.FixtureRequest,
    tiny_model: Callable[..., Any],
    picture: Callable[..., Image.Image],
    shared: Path,
) -> Path:
    """A folder with what commands name; made once for all processes of a run, and never changed."""
    folder, done = shared / "materials", shared / "materials.done"
    with locked(shared / "materials.lock", on_wait=lambda: None):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _write_materials(folder, request.getfixturevalue("transformers"), tiny_model, picture)
            done.touch()
    return folder


def _write_materials(
    folder: Path,
    transformers: Any,
    tiny_model: Callable[..., Any],
    picture: Callable[..., Image.Image],
) -> None:
    folder.mkdir()
    store = Store(folder / "home" / "artifacts")
    onnx.save(tiny_model(), folder / "model.onnx")
    import_model(store, folder / "model.onnx", name="tiny")
    (folder / "checkpoint").mkdir()
    save_snapshot(build_network(transformers, "d_fine"), folder / "checkpoint", "d_fine")
    import_model(store, folder / "checkpoint", name="network")
    (folder / "weights.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    build_images(folder / "yolo", {"train": 4, "val": 4})
    convert(folder / "yolo", output=folder / "coco", to="coco", json=True)
    picture().save(folder / "image.png")
    (folder / "deployment.toml").write_text('model = "tiny"\n')
    (folder / "contract.toml").write_text(CONTRACT)
