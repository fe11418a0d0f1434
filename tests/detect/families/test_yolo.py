"""YOLO: what its files look like, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.deployment import Thresholds
from seatrial.detect.families.base import Recognition
from seatrial.detect.families.yolo import Yolo
from seatrial.detect.preprocess import Letterbox
from seatrial.errors import InvalidArtifact
from seatrial.graphs.onnx_file import signature
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec

LETTERBOX = Letterbox((640, 640), (640, 640), (1.0, 1.0), (0, 0), (640, 640))


def graph_of(
    output: tuple[int, ...],
    names: Any = ("a", "b", "c"),
    image: tuple[int, ...] = (1, 3, 640, 640),
    dtype: str = "float32",
    **metadata: str,
) -> GraphSignature:
    facts = {
        "author": "Ultralytics",
        "task": "detect",
        "names": names if isinstance(names, str) else str(dict(enumerate(names))),
        "imgsz": "[640, 640]",
        **metadata,
    }
    return GraphSignature(
        (TensorSpec("images", dtype, image),), (TensorSpec("output0", "float32", output),), facts
    )


def recognised(graph: GraphSignature) -> Recognition:
    found = Yolo.recognise(graph)
    assert found is not None
    return found


def test_an_open_output_is_that_of_nms_where_the_settings_of_the_export_say_so() -> None:
    settings = "{'batch': 1, 'nms': True, 'dynamic': True}"
    assert recognised(graph_of((-1, -1, -1), args=settings)).variant == "end_to_end"
    for other in ("{'nms': None}", "{'nms': 'no'}", "{}", "[", "3"):
        with pytest.raises(InvalidArtifact, match="fits neither") as refusal:
            Yolo.recognise(graph_of((-1, -1, -1), args=other))
        assert "without dynamic=True" in refusal.value.hint


@pytest.mark.parametrize(
    ("output", "classes", "variant"),
    [
        ((1, 84, 8400), 80, "anchors"),
        ((-1, 84, -1), 80, "anchors"),
        ((1, 7, 8400), 3, "anchors"),
        ((1, 6, 8400), 2, "anchors"),  # as many rows as a final box has numbers
        ((-1, 6, -1), 2, "anchors"),
        ((1, 5, 8400), 1, "anchors"),
        ((1, 300, 6), 80, "end_to_end"),
        ((1, 300, 6), 2, "end_to_end"),
        ((1, 300, 6), 296, "end_to_end"),  # 300 = 4 + 296, and no canvas has 6 anchors
        ((-1, 300, 6), 80, "end_to_end"),
        ((1, 100, 6), 80, "end_to_end"),
        ((-1, -1, 6), 80, "end_to_end"),
    ],
)
def test_the_output_layout(output: tuple[int, ...], classes: int, variant: str) -> None:
    found = recognised(graph_of(output, [f"class {i}" for i in range(classes)]))
    assert found.variant == variant
    assert len(found.labels) == classes


@pytest.mark.parametrize("output", [(1, 84, 8400), (1, 8400, 84), (84, 8400), (1, 7), (1, 8, 2, 2)])
def test_an_output_that_does_not_fit_the_class_names(output: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArtifact, match="3 classes that the metadata names") as refusal:
        Yolo.recognise(graph_of(output))
    assert str(list(output)) in refusal.value.message


@pytest.mark.parametrize(
    ("image", "metadata", "size_hw"),
    [
        ((1, 3, 640, 640), {}, (640, 640)),
        ((1, 3, 384, 640), {"imgsz": "[640, 640]"}, (384, 640)),  # the graph's own counts
        ((-1, 3, -1, -1), {"imgsz": "[320, 416]"}, (320, 416)),
        ((1, 3, 384, -1), {"imgsz": "[384, 416]"}, (384, 416)),  # one side is open
        ((1, 3, -1, 416), {"imgsz": "[384, 416]"}, (384, 416)),
        ((1, 3, 0, 416), {"imgsz": "[384, 416]"}, (384, 416)),  # 0 is no size
        ((1, 3, 384, 0), {"imgsz": "[384, 416]"}, (384, 416)),
        ((1, 3, 1280, 1280), {}, (1280, 1280)),
    ],
)
def test_the_canvas_size(
    image: tuple[int, ...], metadata: dict[str, str], size_hw: tuple[int, int]
) -> None:
    found = recognised(graph_of((1, 7, 8400), image=image, **metadata))
    assert found.preprocessing.size_hw == size_hw
    assert (found.preprocessing.resize, found.preprocessing.pad_value) == ("letterbox", 114)
    assert found.scale == 255.0


def test_the_canvas_size_of_a_graph_that_takes_pictures() -> None:
    found = recognised(graph_of((1, 7, 8400), image=(-1, 384, 640, 3), dtype="uint8"))
    assert found.preprocessing.size_hw == (384, 640)


@pytest.mark.parametrize("imgsz", ["[640]", "'big'", "[0, 640]", "[640, 99999]", "(", ""])
def test_a_dynamic_size_that_the_metadata_does_not_settle(imgsz: str) -> None:
    with pytest.raises(InvalidArtifact, match=r"size"):
        Yolo.recognise(graph_of((1, 7, -1), image=(1, 3, -1, -1), imgsz=imgsz))


@pytest.mark.parametrize("image", [(1, 1, 640, 640), (1, 640, 640, 3), (3, 640, 640)])
def test_an_input_that_is_no_picture(image: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArtifact, match="the input is"):
        Yolo.recognise(graph_of((1, 7, 8400), image=image))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("{0: 'a', 1: 'b', 2: 'c'}", ("a", "b", "c")),
        ("{2: 'c', 0: 'a', 1: 'b'}", ("a", "b", "c")),
        ("['x y', 'Fußgänger', \"it's\"]", ("x y", "Fußgänger", "it's")),
        ("{0: 0, 1: 1, 2: 2}", ("0", "1", "2")),
    ],
)
def test_labels_are_read_in_the_order_of_their_index(names: str, labels: tuple[str, ...]) -> None:
    assert recognised(graph_of((1, 7, 8400), names)).labels == labels


@pytest.mark.parametrize(
    "names",
    ["", "{}", "[]", "{1: 'a', 2: 'b', 3: 'c'}", "{'a': 0}", "a, b", "__import__('os')", "3"],
)
def test_labels_that_cannot_be_read(names: str) -> None:
    with pytest.raises(InvalidArtifact, match="class"):
        Yolo.recognise(graph_of((1, 7, 8400), names))


@pytest.mark.parametrize("task", ["segment", "pose", "classify", "obb", None])
def test_another_task_is_refused(task: str | None) -> None:
    graph = graph_of((1, 7, 8400), **({"task": task} if task else {}))
    if task is None:
        del graph.metadata["task"]
    with pytest.raises(InvalidArtifact, match=f"task {task!r}; only 'detect' is served"):
        Yolo.recognise(graph)


def test_a_file_that_ultralytics_did_not_write_is_not_certain() -> None:
    found = Yolo.recognise(graph_of((1, 7, 8400), author="somebody"))
    assert found is not None
    assert (found.variant, found.certain) == ("anchors", False)
    assert Yolo.recognise(graph_of((1, 8401, 7), author="somebody")) is None


def test_licence_and_facts_are_read(tiny_model: Callable[..., Any]) -> None:
    found = recognised(signature(tiny_model()))
    assert found.licence.startswith("AGPL-3.0")
    assert found.facts["stride"] == "8"
    assert found.facts["version"] == "8.3.0"
    bare = recognised(signature(tiny_model(metadata={"license": "", "stride": ""})))
    assert bare.licence == "unknown"
    assert "stride" not in bare.facts


@pytest.fixture
def yolo(tiny_artifact: Artifact) -> Callable[[str], Yolo]:
    def make(variant: str) -> Yolo:
        return Yolo(msgspec.structs.replace(tiny_artifact.manifest, variant=variant))

    return make


def test_an_unknown_layout_in_a_manifest(yolo: Callable[[str], Yolo]) -> None:
    with pytest.raises(InvalidArtifact, match="'sideways'"):
        yolo("sideways")


def anchors(*rows: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Rows of centre x, centre y, width, height and three scores."""
    return {"output0": np.array(rows, np.float32).T[None]}


def test_anchors_become_boxes(yolo: Callable[[str], Yolo]) -> None:
    output = anchors(
        (100, 200, 40, 20, 0.1, 0.9, 0.0),
        (300, 300, 10, 10, 0.0, 0.0, 0.2),
        (400, 300, 60, 10, 0.5, 0.4, 0.3),
    )
    found = yolo("anchors").detections(output, LETTERBOX, Thresholds())
    assert found.xyxy.tolist() == [[80, 190, 120, 210], [370, 295, 430, 305]]
    assert found.class_id.tolist() == [1, 0]
    assert found.score.tolist() == pytest.approx([0.9, 0.5])


def test_an_anchor_counts_once_or_once_for_each_class(yolo: Callable[[str], Yolo]) -> None:
    output = anchors((100, 100, 40, 40, 0.6, 0.5, 0.4))
    one = yolo("anchors").detections(output, LETTERBOX, Thresholds(confidence=0.3))
    all_of_them = yolo("anchors").detections(
        output, LETTERBOX, Thresholds(confidence=0.3, multi_label=True)
    )
    assert one.class_id.tolist() == [0]
    assert all_of_them.class_id.tolist() == [0, 1, 2]


def test_overlaps_of_one_class_are_suppressed(yolo: Callable[[str], Yolo]) -> None:
    output = anchors(
        (100, 100, 40, 40, 0.6, 0, 0), (101, 100, 40, 40, 0.9, 0, 0), (102, 100, 40, 40, 0, 0.5, 0)
    )
    found = yolo("anchors").detections(output, LETTERBOX, Thresholds())
    assert found.score.tolist() == pytest.approx([0.9, 0.5])
    assert found.class_id.tolist() == [0, 1]
    cut = yolo("anchors").detections(output, LETTERBOX, Thresholds(max_detections=1))
    assert len(cut) == 1


def test_final_rows_are_taken_as_they_are(yolo: Callable[[str], Yolo]) -> None:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [10, 10, 50, 50, 0.4, 2]
    rows[0, 1] = [10, 10, 50, 50, 0.8, 2]  # the graph has suppressed already: both stay
    rows[0, 2] = [10, 10, 50, 50, 0.2, 1]
    found = yolo("end_to_end").detections({"output0": rows}, LETTERBOX, Thresholds())
    assert found.score.tolist() == pytest.approx([0.8, 0.4])
    assert found.class_id.tolist() == [2, 2]
    cut = yolo("end_to_end").detections({"output0": rows}, LETTERBOX, Thresholds(max_detections=1))
    assert cut.score.tolist() == pytest.approx([0.8])


def test_numbered_rows_name_image_box_class_and_confidence(yolo: Callable[[str], Yolo]) -> None:
    """YOLOv7's ``ONNX_ORT`` concatenates image, box, class, confidence."""
    output = np.array([[0, 10, 20, 50, 60, 1, 0.4], [0, 70, 80, 90, 95, 2, 0.8]], np.float32)
    found = yolo("numbered_rows").detections({"output0": output}, LETTERBOX, Thresholds())
    assert found.xyxy.tolist() == [[70, 80, 90, 95], [10, 20, 50, 60]]
    assert found.class_id.tolist() == [2, 1]
    assert found.score.tolist() == pytest.approx([0.8, 0.4])
    assert not yolo("numbered_rows").doubt({"output0": output})
    swapped = output[:, [0, 1, 2, 3, 4, 6, 5]]
    assert "not class numbers" in yolo("numbered_rows").doubt({"output0": swapped})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", range(6))
def test_numbers_that_are_none_give_no_detection(
    yolo: Callable[[str], Yolo], where: int, bad: float
) -> None:
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [10, 10, 50, 50, 0.9, 1]
    rows[0, 1] = [60, 60, 90, 90, 0.8, 1]
    rows[0, 0, where] = bad
    found = yolo("end_to_end").detections({"output0": rows}, LETTERBOX, Thresholds())
    assert found.xyxy.tolist() == [[60, 60, 90, 90]]
    columns = anchors((30, 30, 40, 40, 0.9, 0, 0), (75, 75, 30, 30, 0.8, 0, 0))
    columns["output0"][0, where, 0] = bad
    found = yolo("anchors").detections(columns, LETTERBOX, Thresholds())
    assert [60, 60, 90, 90] in found.xyxy.tolist()
    assert np.isfinite(found.xyxy).all()
    assert np.isfinite(found.score).all()


def test_nothing_found(yolo: Callable[[str], Yolo]) -> None:
    for variant, shape in (("anchors", (1, 7, 64)), ("end_to_end", (1, 300, 6))):
        found = yolo(variant).detections(
            {"output0": np.zeros(shape, np.float32)}, LETTERBOX, Thresholds(confidence=0)
        )
        assert len(found) == 0
