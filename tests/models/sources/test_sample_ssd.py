"""The cut graph against the frozen graph it comes from, and ONNX against OpenVINO."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.families.coco import COCO_CATEGORY_IDS, COCO_NAMES
from seatrial.detect.families.ssd import Ssd
from seatrial.detect.preprocess import fit
from seatrial.errors import InvalidArtifact
from seatrial.models.import_onnx import import_onnx
from seatrial.models.sources import sample_ssd, tensorflow_graph

pytestmark = pytest.mark.slow

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
ov = pytest.importorskip("openvino")

# The frozen graph's own postprocessing, read off its constants: an anchor may give a box for each
# class over 0.3, IoU 0.6, at most 100 boxes.
FROZEN = Thresholds(confidence=0.3, iou=0.6, max_detections=100, multi_label=True)
# COCO's numbers of what it finds in the photos, and of four categories that are not there. A box of
# each is a row of boxes, scores and classes, which these nodes put together.
CATEGORIES = (1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 20, 21, 31, 32, 44, 47, 50, 51, 62, 67, 74)
CONCATENATIONS = {
    "Postprocessor/BatchMultiClassNonMaxSuppression/map/while/MultiClassNonMaxSuppression/"
    f"Concatenate/concat{number}"
    for number in ("", "_1", "_3")
}
STILLS = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")
F32_ONE_THREAD = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def read(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def openvino_outputs(ssd):
    """Canvas -> outputs by name, OpenVINO in float32."""
    compiled = ov.Core().compile_model(ssd.file("openvino"), "CPU", F32_ONE_THREAD)
    return lambda canvas: {port.any_name: value for port, value in compiled(canvas).items()}


@pytest.fixture(scope="module")
def onnx_outputs(ssd):
    """Canvas -> outputs by name, ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(ssd.file("onnx"), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda canvas: dict(zip(names, session.run(names, {"image": canvas}), strict=True))


def of_categories(graph):
    """The frozen graph with the suppression of `CATEGORIES` alone.

    For each of 90 categories it has sixty nodes of the same kind, which take OpenVINO half a minute
    of a core. A box of any other category that is found here has no partner, and is told.
    """
    whole = tensorflow_graph._graph_type().FromString(graph)
    for node in whole.node:
        if node.name in CONCATENATIONS:
            *categories, axis = node.input
            assert len(categories) == 90
            node.input[:] = [*(categories[number - 1] for number in CATEGORIES), axis]
    names = [f"detection_{name}" for name in ("boxes", "classes", "scores")]
    return tensorflow_graph.prune(
        whole.SerializeToString(), ["image_tensor"], [*names, "num_detections"]
    )


@pytest.fixture(scope="module")
def frozen_detections(frozen_graph, tmp_path_factory):
    """RGB image -> (xyxy pixels, score, class_id) of the frozen graph, most confident first."""
    file = tmp_path_factory.mktemp("frozen") / "part.pb"
    file.write_bytes(of_categories(frozen_graph.read_bytes()))
    compiled = ov.Core().compile_model(file, "CPU", F32_ONE_THREAD)

    def detect(image):
        outputs = compiled(image[np.newaxis])
        boxes, category, score = (
            outputs[f"detection_{name}:0"][0] for name in ("boxes", "classes", "scores")
        )
        count = int(outputs["num_detections:0"][0])
        order = np.argsort(-score[:count], kind="stable")
        height, width = image.shape[:2]
        xyxy = boxes[order][:, [1, 0, 3, 2]] * [width, height, width, height]
        class_id = [COCO_CATEGORY_IDS.index(int(c)) for c in category[order]]
        return xyxy, score[order], np.array(class_id, np.int64)

    return detect


@pytest.fixture(scope="module")
def our_detections(ssd, openvino_outputs):
    family = Ssd(ssd.manifest)

    def detect(image):
        canvas, where = fit(image, ssd.manifest.preprocessing)
        return family.detections(openvino_outputs(canvas), where, FROZEN)

    return detect


def test_boxes_and_scores_of_onnx_and_openvino_agree(photos, ssd, openvino_outputs, onnx_outputs):
    for path in photos.values():
        image = cv2.resize(read(path), (640, 480))
        canvas, _ = fit(image, ssd.manifest.preprocessing)
        one, other = openvino_outputs(canvas), onnx_outputs(canvas)
        apart_px = np.abs(one["boxes"] - other["boxes"]) * [640, 480, 640, 480]
        # The issue asks for 1 px and 1e-3; 0.003 px and 4e-6 were measured.
        assert apart_px.max() < 0.05, path.name
        assert np.abs(one["scores"] - other["scores"]).max() < 1e-4, path.name
        for outputs in (one, other):  # clipped before NMS, as in the frozen graph
            assert 0 <= outputs["boxes"].min() <= outputs["boxes"].max() <= 1, path.name


def test_detections_are_the_frozen_graphs_where_resizing_rounds_nothing(
    photos, frozen_detections, our_detections
):
    """At 300x300 both see the same pixels: cutting, decoding and NMS must change nothing."""
    found = 0
    for path in photos.values():
        image = cv2.resize(read(path), (300, 300), interpolation=cv2.INTER_AREA)
        xyxy, score, class_id = frozen_detections(image)
        ours = our_detections(image)
        np.testing.assert_array_equal(ours.class_id, class_id, err_msg=path.name)
        np.testing.assert_allclose(ours.score, score, atol=1e-4, err_msg=path.name)
        np.testing.assert_allclose(ours.xyxy, xyxy, atol=0.02, err_msg=path.name)
        found += len(ours)
    assert found > 50


def test_the_resize_is_tensorflows_up_to_rounding_to_uint8(photos, ssd):
    """``ResizeBilinear``, align_corners=False: output x reads source x * width / 300, no half."""
    for name in STILLS:
        image = read(photos[name])
        canvas, _ = fit(image, ssd.manifest.preprocessing)
        exact = _legacy_bilinear(image, 300)
        assert np.abs(canvas[0] - exact).max() < 0.51, name


def test_detections_at_native_size_are_the_frozen_graphs_within_rounding(
    photos, frozen_detections, our_detections
):
    """The frozen graph resizes in float; a uint8 input rounds by up to half a grey level."""
    for name in STILLS:
        image = read(photos[name])
        xyxy, score, class_id = frozen_detections(image)
        ours = our_detections(image)
        np.testing.assert_array_equal(ours.class_id, class_id, err_msg=name)
        np.testing.assert_allclose(ours.score, score, atol=0.01, err_msg=name)
        np.testing.assert_allclose(ours.xyxy, xyxy, atol=1.5, err_msg=name)


def test_the_graph_takes_uint8_images_and_starts_with_their_conversion(ssd):
    graph = onnx.load(ssd.file("onnx")).graph
    (image,) = graph.input
    shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert (image.name, shape) == ("image", [1, 300, 300, 3])
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [node.op_type for node in graph.node][:4] == ["Cast", "Transpose", "Mul", "Sub"]


def test_nothing_but_the_network_is_left(ssd):
    """Loops, NMS, anchor generators are gone, and batch normalisation is in the weights."""
    model = ov.Core().read_model(ssd.file("openvino"))
    count = Counter(node.get_type_name() for node in model.get_ordered_ops())
    assert count["Convolution"] + count["GroupConvolution"] == 76
    assert not {"Loop", "NonMaxSuppression", "ShapeOf", "Tile", "Interpolate"} & set(count)
    scaled = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Multiply"
        and "Convolution" in node.input_value(0).get_node().get_type_name()
    ]
    assert scaled == []
    assert not model.is_dynamic()


def test_weights_are_stored_in_float32(ssd):
    model = ov.Core().read_model(ssd.file("openvino"))
    kinds = {
        node.get_element_type()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant" and np.prod(node.get_output_shape(0)) > 100
    }
    assert kinds == {ov.Type.f32}


def test_the_manifest_describes_both_graphs(ssd, openvino_outputs, onnx_outputs):
    manifest = ssd.manifest
    assert manifest.family == "ssd"
    assert manifest.licence == "Apache-2.0"
    assert manifest.labels == COCO_NAMES
    assert len(set(COCO_NAMES)) == len(set(COCO_CATEGORY_IDS)) == 80
    assert not manifest.preprocessing.half_pixel_centers
    assert manifest.source.sha256 == sample_ssd.SOURCE.sha256
    assert sorted(entry.path for entry in manifest.files) == [
        "model.bin",
        "model.onnx",
        "model.xml",
    ]
    canvas = np.zeros(manifest.inputs[0].shape, manifest.inputs[0].dtype)
    for outputs in (openvino_outputs(canvas), onnx_outputs(canvas)):
        shown = {name: (value.dtype.name, value.shape) for name, value in outputs.items()}
        assert shown == {spec.name: (spec.dtype, spec.shape) for spec in manifest.outputs}


def test_building_again_gives_the_same_bytes(ssd, frozen_graph, tmp_path):
    """Else `models pull` would find its own artifact to be another one of the same name."""
    manifest = sample_ssd.build(frozen_graph, tmp_path)

    assert manifest.step == ssd.manifest.step
    for entry in ssd.manifest.files:
        assert (tmp_path / entry.path).read_bytes() == (ssd.path / entry.path).read_bytes()


def test_the_onnx_file_can_be_imported_on_its_own(ssd, tmp_path):
    imported: Artifact = import_onnx(Store(tmp_path), ssd.file("onnx"), name="copy")

    for field in ("family", "variant", "preprocessing", "labels", "licence", "inputs", "outputs"):
        assert getattr(imported.manifest, field) == getattr(ssd.manifest, field), field
    nodes = [node.op_type for node in onnx.load(imported.file("onnx")).graph.node]
    assert nodes == [node.op_type for node in onnx.load(ssd.file("onnx")).graph.node]


@pytest.mark.parametrize("cut_at", [0, 1000, 1_000_000])
def test_a_truncated_frozen_graph_is_refused(frozen_graph, tmp_path, cut_at):
    broken = tmp_path / "frozen_inference_graph.pb"
    broken.write_bytes(frozen_graph.read_bytes()[:cut_at])

    with pytest.raises(InvalidArtifact, match=r"frozen_inference_graph\.pb"):
        sample_ssd.build(broken, tmp_path)

    assert list(tmp_path.iterdir()) == [broken]


def test_a_missing_frozen_graph_is_refused(tmp_path):
    with pytest.raises(InvalidArtifact, match="cannot be read"):
        sample_ssd.build(tmp_path / "absent.pb", tmp_path)


def _legacy_bilinear(image, size):
    """``resize_bilinear_op.cc`` with align_corners=False and half_pixel_centers=False, float64."""
    axes = []
    for length in image.shape[:2]:
        at = np.arange(size) * (length / size)
        low = np.floor(at).astype(int)
        axes.append((low, np.minimum(low + 1, length - 1), at - low))
    (top, bottom, down), (left, right, across) = axes
    pixels, down, across = image.astype(np.float64), down[:, None, None], across[None, :, None]
    upper = pixels[top][:, left] * (1 - across) + pixels[top][:, right] * across
    lower = pixels[bottom][:, left] * (1 - across) + pixels[bottom][:, right] * across
    return upper * (1 - down) + lower * down
