"""A small detector of real convolutions, whose answer is known, and labelled pictures for it.

It sees what the tiny detector of `tiny_detector` sees: coloured cells on grey. Before it
looks, the picture goes through blocks that give it back unchanged: a convolution that makes x and
-x of every channel, SiLU, and one that takes their difference, since silu(x) - silu(-x) = x. Sides
of boxes come out of a distribution, as in YOLO's DFL: softmax, and a convolution that weighs bins.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from seatrial.accuracy.limits import LossLimits
from seatrial.artifact import Artifact, Store
from seatrial.datasets.labels import LabelledSet
from seatrial.datasets.read import read_labelled
from seatrial.models.import_onnx import import_onnx
from seatrial.quantise import measure
from seatrial.quantise.options import QuantiseOptions
from seatrial.quantise.report import QuantiseReport
from seatrial.quantise.run import compress_int8

CELL_PX, BINS, SIDE_BIN = 8, 4, 2
COLOURS = ("red", "green", "blue")
QUICK = {"openvino": "no-bias-correction", "onnxruntime": "minmax", "tensorrt": "minmax"}
OUTLIER = 3000.0  # in a channel, stretches the range so far that colours fall into one step
SHARED = Path(__file__).resolve().parents[3] / "shared"


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(
            helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes)
        )
        return output

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants[name] = np.asarray(value, dtype)
        return name

    def convolution(
        self, x: str, name: str, weights: np.ndarray, bias: np.ndarray, **attributes: Any
    ) -> str:
        w, b = self.constant(f"{name}.weight", weights), self.constant(f"{name}.bias", bias)
        return self.add("Conv", [x, w, b], name, **attributes)

    def block(self, x: str, name: str, *, outlier: float = 0.0) -> str:
        """The identity; with an outlier, one more channel of that value, which nobody uses."""
        up = np.concatenate([np.eye(3), -np.eye(3)])
        extra = 1 if outlier else 0
        up = np.pad(up, ((0, extra), (0, 0)))[:, :, None, None]
        bias = np.array([0.0] * 6 + [outlier] * extra)
        y = self.convolution(x, f"{name}.up", up, bias)
        gate = self.add("Sigmoid", [y], f"{name}.sigmoid")
        y = self.add("Mul", [y, gate], f"{name}.silu")
        down = np.concatenate([np.eye(3), -np.eye(3), np.zeros((3, extra))], axis=1)
        return self.convolution(y, f"{name}.down", down[:, :, None, None], np.zeros(3))


def build_small(*, blocks: int = 2, outlier: float = 0.0, opset: int = 17) -> Any:
    """The detector as Ultralytics' exporter would write it, 64 x 64.

    Args:
        blocks: How many times the picture passes unchanged.
        outlier: In the last block, a channel that stretches the range of all.
        opset: Opset of the file.
    """
    b = _Builder()
    x = "images"
    for index in range(blocks):
        x = b.block(x, f"block{index}", outlier=outlier if index == blocks - 1 else 0.0)
    mix = (1.5 * np.eye(3) - 0.5)[:, :, None, None]
    mix = np.repeat(np.repeat(mix, CELL_PX, 2), CELL_PX, 3) / CELL_PX**2
    logits = b.convolution(x, "scores", mix, np.full(3, 0.01), strides=[CELL_PX] * 2)
    bias = np.tile(np.where(np.arange(BINS) == SIDE_BIN, 12.0, 0.0), 2)
    flat = np.zeros((2 * BINS, 3, CELL_PX, CELL_PX))
    sides = b.convolution(x, "sides", flat, bias, strides=[CELL_PX] * 2)
    scores = b.add("Clip", [logits, b.constant("low", 0), b.constant("high", 1)], "clipped")
    scores = b.add("Reshape", [scores, b.constant("flat", [1, 3, -1], np.int64)], "by_anchor")
    shape = b.constant("bins", [1, 2, BINS, -1], np.int64)
    dfl = b.add("Reshape", [sides, shape], "dfl_reshape")
    dfl = b.add("Transpose", [dfl], "dfl_transpose", perm=[0, 2, 1, 3])
    dfl = b.add("Softmax", [dfl], "dfl_softmax", axis=1)
    weights = b.constant("dfl.weight", np.arange(BINS)[None, :, None, None])
    dfl = b.add("Conv", [dfl, weights], "dfl")  # (1, 1, 2, A): the expected bin
    dfl = b.add("Reshape", [dfl, b.constant("sides_shape", [1, 2, -1], np.int64)], "sides_bins")
    dfl = b.add("Mul", [dfl, b.constant("bin_px", 8)], "sides_px")
    y, centre = np.mgrid[:8, :8] * CELL_PX + CELL_PX / 2
    centres = b.constant("centres", np.stack([centre.ravel(), y.ravel()])[None])
    b.add("Concat", [centres, dfl, scores], "output0", axis=1)
    graph = helper.make_graph(
        b.nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 7, 64])],
        [numpy_helper.from_array(value, name) for name, value in b.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(
        model,
        {
            "description": "Ultralytics YOLO11t model",
            "author": "Ultralytics",
            "task": "detect",
            "stride": "8",
            "imgsz": "[64, 64]",
            "names": str(dict(enumerate(COLOURS))),
        },
    )
    return model


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Artifact]:
    """Builds the small detector in the store ``tmp_path / "store"``; see `build_small`."""

    def make(name: str = "small", **variant: Any) -> Artifact:
        onnx.save(build_small(**variant), tmp_path / f"{name}.onnx")
        return import_onnx(Store(tmp_path / "store"), tmp_path / f"{name}.onnx", name=name)

    return make


@pytest.fixture(scope="session")
def scene(
    tmp_path_factory: pytest.TempPathFactory,
    picture: Callable[..., Any],
    encode: Callable[..., bytes],
    box_of: Callable[..., list[float]],
) -> Path:
    """A folder of 16 pictures with 3 coloured cells each, and ``instances.json``."""
    folder = tmp_path_factory.mktemp("scene")
    chance = np.random.default_rng(5)
    images, rows = [], []
    for number in range(16):
        places = chance.choice(36, 3, replace=False)
        cells = {(1 + p // 6, 1 + p % 6): COLOURS[i] for i, p in enumerate(places.tolist())}
        name = f"{number:02}.jpg"
        (folder / name).write_bytes(encode(picture(cells)))
        images.append({"id": number, "file_name": name, "width": 128, "height": 128})
        for (row, column), colour in cells.items():
            left, top, right, bottom = box_of(row, column)
            box = [left, top, right - left, bottom - top]
            rows.append(
                {"id": len(rows), "image_id": number, "category_id": COLOURS.index(colour),
                 "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(COLOURS)]
    labels = {"images": images, "annotations": rows, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(labels))
    return folder


@pytest.fixture
def labelled(scene: Path) -> LabelledSet:
    """The scene with its labels."""
    return read_labelled(f"coco:{scene}")


@pytest.fixture(scope="session")
def yolo(tmp_path_factory: pytest.TempPathFactory, shared_yolo: Path) -> Artifact:
    """YOLO11n in a store of its own."""
    return import_onnx(Store(tmp_path_factory.mktemp("yolo")), shared_yolo)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """COCO pictures with labels: ``coco-val`` and ``coco-train``."""
    if not (SHARED / "data" / "coco-val").is_dir():
        pytest.skip("no ../shared")
    return SHARED / "data"


@pytest.fixture
def compress(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Artifact, QuantiseReport]]:
    """Compresses into ``tmp_path / "store"`` with few pictures and one recipe, timed briefly."""
    monkeypatch.setattr(measure, "ROUND_S", 0.01)

    def run(
        artifact: Artifact, to: str = "openvino", **given: Any
    ) -> tuple[Artifact, QuantiseReport]:
        # CPUs without VNNI get weights of 7 bits, which move confidences by 0.035.
        gate = LossLimits(shift=0.1)
        options = {"to": to, "recipes": (QUICK[to],), "calibration": 6, "gate": gate} | {
            key: given.pop(key) for key in QuantiseOptions.__dataclass_fields__ if key in given
        }
        given = {"calibration": scene} | given.pop("run", {}) | given
        return compress_int8(
            Store(tmp_path / "store"), artifact, QuantiseOptions(**options), **given
        )  # type: ignore[arg-type]

    return run


def contents(store: Path) -> dict[str, bytes]:
    """All that lies in a store, hidden folders too."""
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}
