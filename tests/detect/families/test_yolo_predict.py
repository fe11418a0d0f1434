"""YOLO, box by box as Ultralytics' own predict finds them, on the same weights.

Random networks of the real architectures, made small; and YOLO11n's weights where they are.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.export.options import ExportOptions
from seatrial.export.run import export
from seatrial.models.import_checkpoint import import_ultralytics
from seatrial.models.import_onnx import import_onnx
from seatrial.models.resolve import import_model

# Ultralytics' exporter and torch's tracer warn of what they do themselves.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
SHARED = Path(__file__).resolve().parents[4] / "shared"
SIZE_PX = 160
RULES = Thresholds(confidence=0.25, iou=0.6, max_detections=300)
KINDS = ("yolov8n", "yolo11n", "yolov10n", "yolo26n")
END_TO_END = ("yolov10n", "yolo26n")  # with a head that needs no suppression


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Rectangles over noise, upright, flat, square, smaller and larger than the canvas; no JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    files = []
    for height, width in ((200, 300), (310, 170), (160, 160), (90, 70)):
        pixels = chance.integers(0, 60, (height, width, 3), np.uint8)
        for _ in range(12):
            top, left = chance.integers(0, height - 20), chance.integers(0, width - 20)
            tall, wide = chance.integers(10, 80, 2)
            pixels[top : top + tall, left : left + wide] += chance.integers(0, 190, 3, np.uint8)
        # By itself: boxes outside of a picture shrink to lines, which match nothing.
        place = folder / "square" if height == width else folder
        place.mkdir(exist_ok=True)
        files.append(place / f"{height}x{width}.png")
        Image.fromarray(pixels).save(files[-1])
    return files


@pytest.fixture(scope="module")
def checkpoints(
    ultralytics: Any, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Kind -> ``.pt`` of a small network of that architecture, three classes, seeded."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {kind: _train_nothing(ultralytics, kind, folder, pictures) for kind in KINDS}


def _train_nothing(library: Any, kind: str, folder: Path, pictures: Sequence[Path]) -> Path:
    """A network with random weights whose answers differ from place to place."""
    torch = importlib.import_module("torch")
    loader = importlib.import_module("ultralytics.nn.tasks").yaml_model_load
    settings = loader(f"{kind}.yaml") | {"nc": 3, "scales": {"n": [0.33, 0.125, 1024]}}
    plan = folder / f"{kind}.yaml"
    importlib.import_module("ultralytics.utils").YAML.save(plan, settings)
    torch.manual_seed(0)
    model = library.YOLO(plan, task="detect", verbose=False)
    network = model.model.eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 4 and "dfl" not in name:
                weight.normal_(0, 1.5 / weight[0].numel() ** 0.5)
        for name, layer in network.model[-1].named_modules():
            if re.search(r"cv[23]\.\d\.2$", name):  # the last layer of the boxes, of the classes
                layer.register_forward_pre_hook(_spread)
                # Classes are mostly unlikely, boxes some strides wide: first bins, or one distance.
                bins = layer.out_channels // 4
                sides = -torch.arange(bins).repeat(4) if bins > 1 else torch.tensor(4)
                layer.bias.copy_(torch.tensor(-3) if "cv3" in name else sides)
        network(torch.stack([_thumbnail(torch, file) for file in pictures]))
    for layer in network.modules():
        layer._forward_pre_hooks.clear()
    model.save(folder / f"{kind}.pt")
    return folder / f"{kind}.pt"


def _spread(layer: Any, given: tuple[Any]) -> None:
    """Draw weights that make of these inputs outputs of a deviation of 1."""
    deviation = float(given[0].std())
    layer.weight.data.normal_(0, 1 / deviation / layer.weight[0].numel() ** 0.5)


def _thumbnail(torch: Any, file: Path) -> Any:
    pixels = np.asarray(Image.open(file).resize((96, 96)), np.float32) / 255
    return torch.from_numpy(pixels.transpose(2, 0, 1))


@pytest.fixture(scope="module")
def predict(ultralytics: Any) -> Callable[..., np.ndarray]:
    """Ultralytics' own boxes: ``predict(checkpoint, picture)`` -> (N, 6), see `served`.

    Several tests ask for the same ones, which are made once.
    """

    @functools.cache
    def network(checkpoint: Path, **head: bool) -> Any:
        return ultralytics.YOLO(checkpoint)

    @functools.cache
    def find(
        checkpoint: Path, picture: Path, *, size_px: int = SIZE_PX, **head: bool
    ) -> np.ndarray:
        (result,) = network(checkpoint, **head).predict(
            picture,
            imgsz=size_px,
            conf=RULES.confidence,
            iou=RULES.iou,
            max_det=RULES.max_detections,
            rect=False,
            verbose=False,
            **head,
        )
        found: np.ndarray = result.boxes.data.numpy()
        found.flags.writeable = False
        return found

    return find


def served(artifact: Artifact, engine: str, pictures: Sequence[Path]) -> list[np.ndarray]:
    """The same of ours, (N, 6) for each picture: left, top, right, bottom, confidence, class."""
    with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
        answers = [detector.detect(file.read_bytes(), RULES).detections for file in pictures]
    return [np.column_stack([one.xyxy, one.score, one.class_id]) for one in answers]


def assert_same_boxes(found: np.ndarray, wanted: np.ndarray) -> None:
    """Every box of one is a box of the other, whatever the order of equal confidences."""
    assert len(found) == len(wanted) > 0
    unit = np.array([0.05] * 4 + [1e-3, 0.5])
    distance = np.abs((found[:, None] - wanted[None]) / unit).max(axis=2)
    assert sorted(distance.argmin(axis=1)) == list(range(len(wanted)))
    assert distance.min(axis=1).max() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_ultralytics_export_and_ours_find_what_predict_finds(
    ultralytics: Any,
    checkpoints: dict[str, Path],
    pictures: list[Path],
    predict: Callable[..., np.ndarray],
    store: Store,
    tmp_path: Path,
    kind: str,
) -> None:
    free = {"nms": False} if kind in END_TO_END else {}
    wanted = [predict(checkpoints[kind], file, **free) for file in pictures]
    assert sum(map(len, wanted)) > 20
    assert len({row[5] for one in wanted for row in one}) > 1
    theirs = _export(ultralytics, checkpoints[kind], tmp_path, **free)
    checkpoint = import_ultralytics(store, checkpoints[kind], name=kind, allow_pickle=True)
    asked = ExportOptions("openvino", imgsz=(SIZE_PX, SIZE_PX))
    ours = export(store, checkpoint, asked, images=pictures[0].parent / "square")
    layout = "end_to_end" if kind in END_TO_END else "anchors"
    for artifact, engine in (
        (import_onnx(store, theirs, name="theirs"), "onnxruntime"),
        (ours, "openvino"),
    ):
        assert artifact.manifest.variant == layout
        for one, other in zip(served(artifact, engine, pictures), wanted, strict=True):
            if len(one) or len(other):  # not every picture has something for every network
                assert_same_boxes(one, other)


# YOLOv10 is exported end to end either way, and YOLOv8 has the layout of YOLO11.
@pytest.mark.parametrize("kind", ["yolo11n", "yolo26n"])
def test_suppression_in_the_graph_finds_what_predict_finds(
    ultralytics: Any,
    checkpoints: dict[str, Path],
    pictures: list[Path],
    predict: Callable[..., np.ndarray],
    store: Store,
    tmp_path: Path,
    kind: str,
) -> None:
    file = _export(
        ultralytics, checkpoints[kind], tmp_path, nms=True, conf=RULES.confidence, iou=RULES.iou
    )
    artifact = import_onnx(store, file)
    assert artifact.manifest.variant == "end_to_end"
    for engine in ("onnxruntime", "openvino"):
        for picture, found in zip(pictures, served(artifact, engine, pictures), strict=True):
            assert_same_boxes(found, predict(checkpoints[kind], picture))


def test_openvino_folders_of_ultralytics_find_what_predict_finds(
    ultralytics: Any,
    checkpoints: dict[str, Path],
    pictures: list[Path],
    predict: Callable[..., np.ndarray],
    store: Store,
    tmp_path: Path,
) -> None:
    """The folder as it is, and made INT8 by the call that Ultralytics' exporter makes."""
    pytest.importorskip("openvino")
    folder = _export(ultralytics, checkpoints["yolo11n"], tmp_path, format="openvino")
    artifact = import_model(store, folder)
    manifest = artifact.manifest
    assert (manifest.family, manifest.variant) == ("yolo", "anchors")
    assert (manifest.formats, manifest.precision) == ({"openvino": "model.xml"}, "f32")
    assert manifest.step.config["stride"] == "32"
    wanted = [predict(checkpoints["yolo11n"], file) for file in pictures]
    for one, other in zip(served(artifact, "openvino", pictures), wanted, strict=True):
        assert_same_boxes(one, other)
    nncf, openvino = pytest.importorskip("nncf"), importlib.import_module("openvino")
    images = [_canvas(file) for file in pictures]
    (graph,) = folder.glob("*.xml")
    small = nncf.quantize(
        openvino.Core().read_model(graph),
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
    )
    quantised = tmp_path / "int8_openvino_model"
    quantised.mkdir()
    (quantised / "metadata.yaml").write_bytes((folder / "metadata.yaml").read_bytes())
    openvino.save_model(small, quantised / "model.xml", compress_to_fp16=False)
    artifact = import_model(store, quantised)
    assert artifact.manifest.precision == "int8"
    # What is not INT8 is in float32 in both: a CPU that has bfloat16 would take that by itself.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(quantised / "model.xml", "CPU", settings)
    name = artifact.manifest.inputs[0].name
    with Detector(artifact, open_engine(artifact, "openvino", EngineConfig())) as detector:
        assert detector.engine.precision == "int8"
        for image in images:
            pixels = np.rint(image * 255).astype(np.uint8).transpose(0, 2, 3, 1)
            (found,) = detector.engine.narrow[0].infer({name: pixels}).values()
            np.testing.assert_allclose(found, compiled(image)[0], rtol=1e-3, atol=1e-2)


def _canvas(file: Path) -> np.ndarray:
    """A picture stretched to the canvas: (1, 3, H, W) float32, 0-1."""
    pixels = np.asarray(Image.open(file).convert("RGB").resize((SIZE_PX, SIZE_PX)), np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None] / 255)


def _export(library: Any, checkpoint: Path, folder: Path, **options: Any) -> Path:
    """Ultralytics' own export."""
    copy = folder / checkpoint.name
    copy.write_bytes(checkpoint.read_bytes())
    settings: dict[str, Any] = {"format": "onnx", "imgsz": SIZE_PX, "verbose": False}
    if options.get("format", "onnx") == "onnx":
        settings |= {"opset": 17, "simplify": False}
    return Path(library.YOLO(copy).export(**(settings | options)))


def test_trained_weights_find_what_predict_finds(
    ultralytics: Any,
    predict: Callable[..., np.ndarray],
    shared_photos: list[Path],
    store: Store,
    tmp_path: Path,
) -> None:
    checkpoint, photos = SHARED / "models" / "yolo11n.pt", shared_photos[:4]
    artifact = import_onnx(store, _export(ultralytics, checkpoint, tmp_path, imgsz=320))
    found = served(artifact, "onnxruntime", photos)
    assert sum(map(len, found)) > 10
    for photo, one in zip(photos, found, strict=True):
        assert_same_boxes(one, predict(checkpoint, photo, size_px=320))
