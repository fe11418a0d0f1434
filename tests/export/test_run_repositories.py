"""Graphs as the repositories of RT-DETR and D-FINE export them: boxes come decoded.

Their layout, from ``tools/deployment/export_onnx.py`` and the postprocessor that it deploys: inputs
``images`` and ``orig_target_sizes`` (width, height), outputs ``labels``, ``boxes``, ``scores``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.artifact import Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.models.import_onnx import import_onnx

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # tracing
SIZE_HW = (128, 160)
LABELS = ("red", "green", "blue")
TOP = 15  # num_top_queries
RULES = Thresholds(confidence=0.0, max_detections=1000)


@pytest.fixture(scope="module")
def graph(
    torch: Any, network: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A network and the decoding of its outputs in one ONNX file: ``graph("d_fine")``."""

    class Deployed(torch.nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.network = network(kind)

        def forward(self, images: Any, orig_target_sizes: Any) -> Any:
            answer = self.network(pixel_values=images)
            best, place = answer.logits.sigmoid().flatten(1).topk(TOP)
            query = (place // len(LABELS))[..., None].expand(-1, -1, 4)
            chosen = answer.pred_boxes.gather(1, query)
            centre, half = chosen[..., :2], chosen[..., 2:] / 2
            size = orig_target_sizes.repeat(1, 2)[:, None]
            return place % len(LABELS), torch.cat([centre - half, centre + half], -1) * size, best

    def write(kind: str) -> Path:
        path = tmp_path_factory.mktemp(kind) / f"{kind}.onnx"
        names = ["images", "orig_target_sizes", "labels", "boxes", "scores"]
        torch.onnx.export(
            Deployed(kind).eval(),
            (torch.rand(2, 3, *SIZE_HW), torch.tensor([[160, 128]] * 2)),
            path,
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "N"} for name in names[:2]},
            opset_version=16,
            dynamo=False,
        )
        return path

    return write


def test_boxes_are_those_of_transformers_on_the_same_weights(
    torch: Any,
    network: Callable[[str], Any],
    graph: Callable[[str], Path],
    large_images: Path,
    store: Store,
) -> None:
    """The layout is one for RT-DETR, its second version and D-FINE: what is decoded is a table."""
    kind = "rt_detr"
    file = graph(kind)
    (file.parent / "labels.txt").write_text("\n".join(LABELS))
    artifact = import_onnx(store, file)
    assert (artifact.manifest.family, artifact.manifest.variant) == ("detr", "native")
    library = importlib.import_module("transformers.models.rt_detr.image_processing_pil_rt_detr")
    processor = library.RTDetrImageProcessorPil(
        size={"height": SIZE_HW[0], "width": SIZE_HW[1]}, resample=2
    )
    model = network(kind)
    for engine in ("onnxruntime", "openvino"):
        with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
            for picture in sorted(large_images.glob("*.png")):
                image = Image.open(picture)
                with torch.no_grad():
                    answer = model(**processor(image, return_tensors="pt"))
                (wanted,) = processor.post_process_object_detection(
                    answer, threshold=0.0, target_sizes=[image.size[::-1]]
                )
                found = detector.detect(picture.read_bytes(), RULES).detections
                assert len(found) == TOP
                _assert_best(found, wanted, image.size)


def _assert_best(found: Any, wanted: dict[str, Any], size: tuple[int, int]) -> None:
    """The rows are the best of the reference's; those of equal confidence in any order."""
    score = wanted["scores"].numpy()
    order = np.argsort(-score, kind="stable")
    np.testing.assert_allclose(found.score, score[order[:TOP]], atol=1e-3)
    boxes = np.clip(wanted["boxes"].numpy(), 0, [*size, *size])
    distance_px = np.abs(found.xyxy[:, None] - boxes[None]).max(axis=2)
    other_class = found.class_id[:, None] != wanted["labels"].numpy()[None]
    assert np.where(other_class, np.inf, distance_px).min(axis=1).max() < 0.1
