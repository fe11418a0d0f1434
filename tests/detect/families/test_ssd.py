from __future__ import annotations

import msgspec
import numpy as np
import pytest

from seatrial.deployment import Thresholds
from seatrial.detect.families.registry import family_of, possible
from seatrial.detect.families.ssd import METADATA_KEY, VARIANT, Ssd, SsdMetadata
from seatrial.detect.preprocess import fit
from seatrial.errors import InvalidArtifact, UnknownFamily
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import Manifest, Preprocessing, Provenance, Step, TensorSpec

LABELS = ("cat", "dog", "bird")
PREPROCESSING = Preprocessing((300, 200), "stretch", half_pixel_centers=False)
IMAGE = TensorSpec("image", "uint8", (1, 300, 200, 3))
BOXES = TensorSpec("boxes", "float32", (1, 5, 4))
SCORES = TensorSpec("scores", "float32", (1, 5, 3))


def metadata(labels=LABELS):
    facts = SsdMetadata(labels, "MIT", PREPROCESSING)
    return {METADATA_KEY: msgspec.json.encode(facts).decode()}


def signature(image=IMAGE, boxes=BOXES, scores=SCORES, facts=None):
    return GraphSignature((image,), (boxes, scores), metadata() if facts is None else facts)


def manifest(**changes):
    fields = {
        "name": "an-ssd",
        "family": "ssd",
        "variant": VARIANT,
        "formats": {"onnx": "model.onnx"},
        "precision": "f32",
        "inputs": (IMAGE,),
        "outputs": (BOXES, SCORES),
        "preprocessing": PREPROCESSING,
        "labels": LABELS,
        "licence": "MIT",
        "source": Provenance("somewhere", ""),
        "step": Step("test"),
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def letterbox():
    """Of a picture 400 pixels wide and 150 high."""
    return fit(np.zeros((150, 400, 3), np.uint8), PREPROCESSING)[1]


def detect(boxes, scores, letterbox, **options):
    outputs = {
        "boxes": np.array([boxes], np.float32),
        "scores": np.array([scores], np.float32),
    }
    return family_of(manifest()).detections(outputs, letterbox, Thresholds(**options))


def test_boxes_are_in_pixels_of_the_source_picture(letterbox):
    found = detect([[0.25, 0.5, 0.75, 1.0]], [[0.1, 0.9, 0.2]], letterbox)

    np.testing.assert_allclose(found.xyxy, [[100, 75, 300, 150]], rtol=1e-6)
    np.testing.assert_allclose(found.score, [0.9])
    assert found.class_id.tolist() == [1]


def test_the_most_confident_comes_first_and_the_weak_are_dropped(letterbox):
    apart = [[0.0, 0.0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3], [0.4, 0.4, 0.5, 0.5]]
    found = detect(apart, [[0.3, 0, 0], [0, 0.2, 0], [0, 0, 0.8]], letterbox, confidence=0.25)

    assert found.class_id.tolist() == [2, 0]


def test_overlapping_boxes_of_one_class_are_one_object(letterbox):
    twice = [[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.48]]  # IoU 0.95
    same = detect(twice, [[0.9, 0, 0], [0.8, 0, 0]], letterbox, iou=0.6)
    different = detect(twice, [[0.9, 0, 0], [0, 0.8, 0]], letterbox, iou=0.6)
    tolerated = detect(twice, [[0.9, 0, 0], [0.8, 0, 0]], letterbox, iou=0.96)

    assert [len(same), len(different), len(tolerated)] == [1, 2, 2]
    np.testing.assert_allclose(same.score, [0.9])


def test_an_anchor_gives_one_box_unless_asked_for_each_class(letterbox):
    one = [[0.1, 0.1, 0.5, 0.5]]
    assert detect(one, [[0.9, 0.8, 0.1]], letterbox).class_id.tolist() == [0]
    assert detect(one, [[0.9, 0.8, 0.1]], letterbox, multi_label=True).class_id.tolist() == [0, 1]


def test_the_limit_keeps_the_most_confident(letterbox):
    apart = [[0.0, 0.0, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3], [0.4, 0.4, 0.5, 0.5]]
    found = detect(apart, [[0.5, 0, 0], [0.7, 0, 0], [0.6, 0, 0]], letterbox, max_detections=2)

    np.testing.assert_allclose(found.score, [0.7, 0.6])


def test_nothing_found_is_an_empty_result(letterbox):
    assert len(detect([[0, 0, 1, 1]], [[0.1, 0.1, 0.1]], letterbox)) == 0


def test_labels_must_fit_the_scores():
    with pytest.raises(InvalidArtifact, match="3 scores an anchor and 2 labels"):
        Ssd(manifest(labels=("cat", "dog")))


def test_an_unknown_layout_is_refused():
    with pytest.raises(InvalidArtifact, match="'encoded'"):
        Ssd(manifest(variant="encoded"))


def test_a_graph_with_its_metadata_is_recognised():
    family, found = possible(signature(), origin="model.onnx")[0]

    assert family == "ssd"
    assert found.variant == VARIANT
    assert found.labels == LABELS
    assert found.licence == "MIT"
    assert found.preprocessing == PREPROCESSING
    assert found.scale == 1.0


def test_a_dynamic_batch_is_recognised():
    graph = signature(
        TensorSpec("image", "uint8", (-1, 300, 200, 3)),
        TensorSpec("boxes", "float32", (-1, 5, 4)),
        TensorSpec("scores", "float32", (-1, 5, 3)),
    )
    assert Ssd.recognise(graph) is not None


def test_other_outputs_are_another_family():
    other = GraphSignature((IMAGE,), (TensorSpec("output0", "float32", (1, 84)),), {})

    assert Ssd.recognise(other) is None
    with pytest.raises(UnknownFamily, match=r"output0 float32 \[1, 84\]") as caught:
        possible(other, origin="model.onnx")[0]
    assert Ssd.accepts in caught.value.hint


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (signature(facts={"names": "cat"}), "without class names"),
        (signature(facts={METADATA_KEY: "{"}), METADATA_KEY),
        (signature(facts={METADATA_KEY: '{"lables": []}'}), "unknown key 'lables'"),
        (signature(facts=metadata(("cat",))), "3 scores an anchor and 1 labels"),
        (signature(boxes=TensorSpec("boxes", "float32", (1, 6, 4))), r"boxes \[1, 6, 4\]"),
        (signature(boxes=TensorSpec("boxes", "float32", (1, 5, 5))), r"boxes \[1, 5, 5\]"),
        (signature(scores=TensorSpec("scores", "float32", (1, 5))), r"scores \[1, 5\]"),
        (signature(TensorSpec("image", "float32", (1, 3, 300, 200))), "takes one uint8 input"),
        (signature(TensorSpec("image", "uint8", (1, 300, 300, 3))), r"\[N, 300, 200, 3\]"),
    ],
)
def test_an_ssd_that_cannot_be_served_is_refused_with_the_reason(graph, reason):
    with pytest.raises(InvalidArtifact, match=reason):
        Ssd.recognise(graph)
