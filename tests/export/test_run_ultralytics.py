"""Ultralytics checkpoints: the export answers as the network in the checkpoint does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidArtifact
from seatrial.export.options import ExportOptions
from seatrial.export.report import read_report
from seatrial.export.run import export
from seatrial.models.import_checkpoint import import_ultralytics
from seatrial.models.import_onnx import import_onnx

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="module")
def checkpoint(ultralytics: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """YOLO11n as a checkpoint."""
    path = SHARED / "models" / "yolo11n.pt"
    if not path.is_file():
        pytest.skip("no ../shared")
    store = Store(tmp_path_factory.mktemp("yolo"))
    return import_ultralytics(store, path, name="yolo11n", allow_pickle=True)


def test_what_is_read_off_a_checkpoint(checkpoint: Artifact) -> None:
    manifest = checkpoint.manifest
    assert manifest.formats == {"ultralytics": "model.pt"}
    assert (manifest.family, manifest.variant, len(manifest.labels)) == ("yolo", "anchors", 80)
    assert manifest.outputs[0].shape == (-1, 84, 8400)
    assert "AGPL-3.0" in manifest.licence


def test_its_export_agrees_and_can_be_imported_by_itself(
    store: Store, checkpoint: Artifact, shared_photos: list[Path]
) -> None:
    asked = ExportOptions("onnx", dynamic_batch=True, imgsz=(320, 320))
    made = export(store, checkpoint, asked, images=shared_photos[0].parent)
    assert made.manifest.metrics["boxes.matched"] == made.manifest.metrics["boxes.parent"] > 30
    assert made.manifest.outputs[0].shape == (-1, 84, 2100)
    again = import_onnx(store, made.file("onnx"), name="again").manifest
    assert again.labels == made.manifest.labels
    assert again.preprocessing == made.manifest.preprocessing


@pytest.mark.filterwarnings("error:The tensor attribute")
def test_its_torch_graph_takes_several_images(
    store: Store, checkpoint: Artifact, shared_photos: list[Path], tmp_path: Path
) -> None:
    for photo in shared_photos[:4]:
        (tmp_path / photo.name).symlink_to(photo)
    asked = ExportOptions("torch", dynamic_batch=True, imgsz=(320, 320))
    made = export(store, checkpoint, asked, images=tmp_path)
    report = read_report(made.path / "export.json")
    assert [(one.name, one.within) for one in report.batch] == [("output0", 1.0)]
    assert report.boxes.matched == report.boxes.parent_boxes > 3


@pytest.mark.parametrize(
    ("keep", "fault"), [(0, "is empty"), (0.5, "does not load"), (0.99, "does not load")]
)
def test_a_checkpoint_that_is_cut_off(
    store: Store, checkpoint: Artifact, tmp_path: Path, keep: float, fault: str
) -> None:
    data = checkpoint.file("ultralytics").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InvalidArtifact, match=rf"cut\.pt {fault}"):
        import_ultralytics(store, tmp_path / "cut.pt", name="cut", allow_pickle=True)
    assert store.names() == []


def test_a_network_that_diverged(
    store: Store, checkpoint: Artifact, tmp_path: Path, edit: Callable[..., Path]
) -> None:
    path = edit(checkpoint.file("ultralytics"), tmp_path / "nan.pt")
    with pytest.raises(InvalidArtifact, match="not numbers"):
        import_ultralytics(store, path, name="nan", allow_pickle=True)


@pytest.fixture
def edit() -> Callable[..., Path]:
    """Writes a copy of a checkpoint with a weight that is no number."""

    def write(source: Path, target: Path) -> Path:
        import torch

        saved = torch.load(source, weights_only=False)
        network = saved.get("ema") or saved["model"]
        with torch.no_grad():
            next(network.parameters()).view(-1)[0] = float("nan")
        torch.save(saved, target)
        return target

    return write
