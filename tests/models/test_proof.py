"""Graphs that look like a family's and are something else, and graphs of a fixed batch."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from seatrial.artifact import Artifact, Store
from seatrial.deployment import Thresholds
from seatrial.detect.detector import Detector
from seatrial.engines.base import EngineConfig
from seatrial.engines.registry import open_engine
from seatrial.errors import InvalidArtifact, MissingExtra
from seatrial.manifest import TensorSpec
from seatrial.models import proof
from seatrial.models.import_onnx import import_onnx

CLASSES, ANCHORS, ROWS = 2, 84, 300


def constant_answer(path: Path, output: np.ndarray, *, batch: int = 1, size: int = 64) -> Path:
    """An Ultralytics export of two classes whose answer is the same for every image."""
    constant = numpy_helper.from_array(output.astype(np.float32), "answer")
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, list(output.shape))],
        [constant, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(
        model,
        {
            "author": "Ultralytics",
            "description": "Ultralytics model",
            "task": "detect",
            "stride": "32",
            "names": "{0: 'a', 1: 'b'}",
            "imgsz": "[64, 64]",
        },
    )
    onnx.save(model, path)
    return path


def endless(path: Path) -> Path:
    """An Ultralytics export that adds up 10^12 sines before it answers."""
    model = onnx.load(constant_answer(path, np.zeros((1, 4 + CLASSES, ANCHORS))))
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [])
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    more = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["v"], ["v2"])],
        "body",
        [count, more, value],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, []),
        ],
    )
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.int64(10**12), "times"))
    graph.initializer.append(numpy_helper.from_array(np.bool_(True), "on"))
    (last,) = [node for node in graph.node if "output0" in node.output]
    last.input[1] = "sum"
    graph.node.insert(2, helper.make_node("Loop", ["times", "on", "nothing"], ["sum"], body=body))
    onnx.save(model, path)
    return path


def test_a_graph_that_does_not_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "RUN_S", 0.2)
    store, before = Store(tmp_path / "store"), {*threading.enumerate()}
    with pytest.raises(InvalidArtifact, match=r"does not answer one image .* within 0\.2 s"):
        import_onnx(store, endless(tmp_path / "endless.onnx"))
    assert not [one for one in threading.enumerate() if one not in before]  # its run has ended
    assert store.names() == []


INTERRUPTED = """
import signal, sys, threading, time
from pathlib import Path
from seatrial.artifact import Store
from seatrial.models.import_onnx import import_onnx

signal.signal(signal.SIGINT, signal.default_int_handler)
main = threading.get_ident()


def interrupt():
    while threading.active_count() < 3:  # the run has a thread of its own
        time.sleep(0.001)
    time.sleep(float(sys.argv[3]))
    signal.pthread_kill(main, signal.SIGINT)


interrupts = threading.Thread(target=interrupt)
interrupts.start()
try:
    import_onnx(Store(Path(sys.argv[1])), Path(sys.argv[2]))
except KeyboardInterrupt:
    interrupts.join()
    print("interrupted,", threading.active_count(), "thread")
"""


@pytest.mark.parametrize("after_s", ["0", "0.2"], ids=["begins", "runs"])
def test_an_interruption_ends_the_run(tmp_path: Path, after_s: str) -> None:
    """Python looks at signals between its own instructions only; a run of ONNX Runtime has none.

    In a process of its own: what libraries do to the handler of Ctrl-C is not ours to know.
    """
    file = endless(tmp_path / "endless.onnx")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "store"), str(file), after_s],
        capture_output=True,
        text=True,
        check=False,
        timeout=proof.RUN_S / 2,  # it does not wait for the limit
    )
    assert (done.returncode, done.stdout) == (0, "interrupted, 1 thread\n"), done.stderr


def final(**columns: Any) -> np.ndarray:
    """(1, 300, 6): sound corners, confidences and classes, with other columns in their place."""
    chance = np.random.default_rng(0)
    corner = chance.random((ROWS, 2)) * 30
    rows = {
        "corners": np.concatenate([corner, corner + 8 + chance.random((ROWS, 2)) * 20], 1),
        "confidence": np.sort(chance.random(ROWS))[::-1],
        "class": chance.integers(0, CLASSES, ROWS).astype(np.float64),
    } | columns
    return np.column_stack([rows["corners"], rows["confidence"], rows["class"]])[None]


def anchors(**rows: Any) -> np.ndarray:
    """(1, 4 + 2, 84): sound centres, sizes and scores, with other rows in their place."""
    chance = np.random.default_rng(0)
    known = {
        "centre": chance.random((2, ANCHORS)) * 60 + 2,
        "size": chance.random((2, ANCHORS)) * 20 + 4,
        "scores": chance.random((CLASSES, ANCHORS)),
    } | rows
    return np.concatenate([known["centre"], known["size"], known["scores"]])[None]


CHANCE = np.random.default_rng(1)
FRACTIONS = CHANCE.random((ROWS, 4))
OTHERS: dict[str, tuple[np.ndarray, str]] = {
    # Ultralytics' RT-DETR of two classes: centre, size, and a score for each class.
    "rt-detr": (final(corners=FRACTIONS, **{"class": CHANCE.random(ROWS)}), "fractions, not class"),
    "fractions": (final(corners=np.sort(FRACTIONS, axis=1)), "fractions, not pixels"),
    "centre-and-size": (
        final(corners=np.column_stack([20 + 40 * FRACTIONS[:, :2], 2 + 10 * FRACTIONS[:, 2:]])),
        "end before they begin",
    ),
    "class-too-high": (final(**{"class": np.full(ROWS, 5.0)}), "class 5 is found"),
    "class-below-0": (final(**{"class": np.full(ROWS, -1.0)}), "labels are 2"),
    "confidences-of-percent": (final(confidence=np.linspace(90, 1, ROWS)), "reach 90, over 1"),
    "not-a-number": (final(corners=np.full((ROWS, 4), np.inf)), "not numbers"),
    "narrow": (
        final(corners=np.tile([10.0, 10.0, 10.2, 40.0], (ROWS, 1))),
        "100% of the boxes in the image are narrower",
    ),
    "anchors-of-logits": (anchors(scores=CHANCE.normal(0, 4, (CLASSES, ANCHORS))), "scores go"),
    "anchors-of-fractions": (
        anchors(centre=CHANCE.random((2, ANCHORS)), size=CHANCE.random((2, ANCHORS))),
        "fractions, not pixels",
    ),
    "anchors-of-distances": (anchors(size=-CHANCE.random((2, ANCHORS))), "not above 0"),
    "anchors-off-the-image": (
        anchors(centre=1e6 + CHANCE.random((2, ANCHORS))),
        "outside of the image",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_layout_that_only_has_the_shape_is_refused_and_nothing_is_kept(
    store: Store, tmp_path: Path, kind: str
) -> None:
    output, cause = OTHERS[kind]
    path = constant_answer(tmp_path / "other.onnx", output)
    with pytest.raises(InvalidArtifact, match=cause) as refusal:
        import_onnx(store, path)
    assert "other.onnx" in refusal.value.message
    assert "yolo" in refusal.value.message
    assert "seatrial models import" in refusal.value.hint
    assert "--family" in refusal.value.hint
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("output", [final(), anchors()], ids=["end-to-end", "anchors"])
def test_the_same_with_boxes_is_kept(store: Store, tmp_path: Path, output: np.ndarray) -> None:
    import_onnx(store, constant_answer(tmp_path / "sound.onnx", output))
    assert store.names() == ["sound"]


IN_IMAGE, NARROW, IN_PADDING = [20, 20, 40, 40], [20, 20, 20.2, 40], [2, 2, 6, 6]  # of both images


def corners(share: float, box: list[float]) -> np.ndarray:
    """(300, 4): the share of one box, the others are in the image."""
    return np.array([box] * round(share * ROWS) + [IN_IMAGE] * round((1 - share) * ROWS))


def confident(rows: int) -> np.ndarray:
    """(300,): confidences of that many rows; the others are filling."""
    return np.array([0.5] * rows + [0.0] * (ROWS - rows))


def float16_over_1(steps: int) -> np.ndarray:
    return np.full(ROWS, 1 + steps * float(np.finfo(np.float16).eps))


# Answers on both sides of each limit, with the cause where they are refused.
EDGES: dict[str, tuple[np.ndarray, str]] = {
    "confidence-as-f16-rounds-it": (final(confidence=float16_over_1(1)), ""),
    "confidence-over-1": (final(confidence=float16_over_1(2)), "confidences reach 1, over 1"),
    "last-class": (final(**{"class": np.full(ROWS, CLASSES - 1)}), ""),
    "class-after-the-last": (final(**{"class": np.full(ROWS, CLASSES)}), "class 2 is found"),
    "few-in-the-padding": (final(corners=corners(1, IN_PADDING), confidence=confident(19)), ""),
    "all-in-the-padding": (
        final(corners=corners(1, IN_PADDING), confidence=confident(20)),
        "outside of the image",
    ),
    "in-the-padding-of-the-tall-one": (final(corners=corners(1, [2, 20, 12, 40])), "outside of"),
    "as-narrow-as-random-weights": (final(corners=corners(0.85, NARROW)), ""),
    "nearly-all-narrow": (final(corners=corners(0.94, NARROW)), ""),
    "all-narrow": (final(corners=corners(0.96, NARROW)), "96% of the boxes in the image"),
    "over-a-pixel": (final(corners=corners(1, [20, 20, 21.1, 40])), ""),
    "under-a-pixel": (final(corners=corners(1, [20, 20, 40, 20.9])), "narrower than 1 pixel"),
    "narrow-and-not-confident": (
        final(corners=corners(0.96, NARROW), confidence=np.linspace(0.001, 0.1, ROWS)),
        "96% of the boxes in the image",
    ),
    "one-place-in-the-padding": (
        anchors(centre=np.full((2, ANCHORS), 4.0), size=np.full((2, ANCHORS), 4.0)),
        "outside of the image",  # each of the boxes counts: nothing is suppressed
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Artifact]:
    """Artifacts of sound exports, by the last axis of their output."""
    folder = tmp_path_factory.mktemp("sound")
    made = [
        import_onnx(Store(folder / "store"), constant_answer(folder / f"sound-{n}.onnx", output))
        for n, output in enumerate((final(), anchors()))
    ]
    return {artifact.manifest.outputs[0].shape[2]: artifact for artifact in made}


@pytest.mark.parametrize("kind", EDGES)
def test_the_limits_of_what_can_be_boxes(
    sound: dict[int, Artifact], tmp_path: Path, kind: str
) -> None:
    output, cause = EDGES[kind]
    artifact, file = sound[output.shape[2]], tmp_path / "edge.onnx"
    model = onnx.load(artifact.file("onnx"))
    answer = next(tensor for tensor in model.graph.initializer if tensor.name == "answer")
    answer.CopyFrom(numpy_helper.from_array(output.astype(np.float32), "answer"))
    onnx.save(model, file)
    with pytest.raises(InvalidArtifact, match=cause) if cause else contextlib.nullcontext():
        proof.prove(file, artifact.manifest, origin="edge.onnx", hint="look")


@pytest.mark.parametrize("first", [0, 1])
def test_where_no_engine_reads_the_file_the_first_one_says_why(
    sound: dict[int, Artifact], tmp_path: Path, first: int
) -> None:
    file, manifest = tmp_path / "broken.onnx", sound[6].manifest
    file.write_bytes(b"no graph")

    def cause(*engines: str) -> str:
        with pytest.raises(InvalidArtifact, match=r"^broken\.onnx does not run: ") as refusal:
            proof.prove(file, manifest, origin="broken.onnx", hint="look", engines=engines)
        assert str(tmp_path) not in refusal.value.message
        return refusal.value.message

    order = proof.ENGINES[first:] + proof.ENGINES[:first]
    alone = [cause(engine) for engine in order]
    assert alone[0] != alone[1]
    assert cause(*order) == alone[0]


def test_a_model_that_finds_nothing_is_kept(store: Store, tmp_path: Path) -> None:
    nothing = final(corners=np.zeros((ROWS, 4)), confidence=np.zeros(ROWS))
    import_onnx(store, constant_answer(tmp_path / "nothing.onnx", nothing))
    assert store.names() == ["nothing"]


def test_a_graph_that_does_not_run_is_refused(store: Store, tmp_path: Path) -> None:
    path = constant_answer(tmp_path / "broken.onnx", final())
    model = onnx.load(path)
    model.graph.node[2].op_type = "MatMul"  # (1, 300, 6) by a scalar
    onnx.save(model, path)
    with pytest.raises(InvalidArtifact, match=r"broken\.onnx"):
        import_onnx(store, path)
    assert store.names() == []


def test_without_an_engine_the_import_names_the_extras(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Callable[..., Any]:
        def open_none(*given: Any) -> Any:
            raise MissingExtra(f"no {name}")

        return open_none

    monkeypatch.setattr(proof, "engine_class", absent)
    with pytest.raises(MissingExtra, match="onnxruntime is not installed; sound") as error:
        import_onnx(store, constant_answer(tmp_path / "sound.onnx", final()))
    assert "[onnxruntime]" in error.value.hint


def test_the_images_are_the_same_each_time_and_unlike_each_other() -> None:
    first, second = proof.drawn_images()
    assert proof.drawn_images()[0] is first  # they are kept,
    drawn = proof.drawn_images.__wrapped__()  # and another process draws the same
    np.testing.assert_array_equal(first, drawn[0])
    np.testing.assert_array_equal(second, drawn[1])
    assert [picture.shape for picture in (first, second)] == [(480, 640, 3), (640, 360, 3)]
    assert min(picture.std() for picture in (first, second)) > 40  # nothing is flat
    # Energy falls with frequency, as in photographs.
    power = np.abs(np.fft.fft2(first.mean(axis=2))) ** 2
    assert power[1:8, 1:8].mean() > 100 * power[60:120, 60:120].mean()


# A fixed batch


@pytest.fixture
def fixed_batch(tmp_path: Path, tiny_model: Callable[..., Any]) -> Callable[..., Path]:
    """Writes the tiny detector as exporters trace it: the batch size stands in the shapes."""

    def write(batch: int, **variant: Any) -> Path:
        model = tiny_model(batch=batch, **variant)
        for tensor in model.graph.initializer:
            if tensor.name == "flat":
                shape = numpy_helper.to_array(tensor).copy()
                shape[0] = batch
                tensor.CopyFrom(numpy_helper.from_array(shape, "flat"))
        onnx.save(model, tmp_path / "four.onnx")
        return tmp_path / "four.onnx"

    return write


@pytest.mark.parametrize("layout", ["anchors", "end_to_end"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [2, 4])
def test_a_fixed_batch_becomes_a_graph_for_one_image(
    store: Store,
    fixed_batch: Callable[..., Path],
    picture: Callable[..., Image.Image],
    encode: Callable[..., bytes],
    box_of: Callable[..., list[float]],
    layout: str,
    engine: str,
    batch: int,
) -> None:
    artifact = import_onnx(store, fixed_batch(batch, layout=layout))
    assert artifact.manifest.inputs[0].shape == (1, 64, 64, 3)
    assert artifact.manifest.outputs[0].shape[0] == 1
    assert artifact.manifest.step.config["batch_in_file"] == batch
    assert [file.path for file in artifact.manifest.files] == ["model.onnx"]  # no trial graph
    with Detector(artifact, open_engine(artifact, engine, EngineConfig())) as detector:
        detector.warm_up()
        found = detector.detect(encode(picture({(2, 3): "red"}), "PNG"), Thresholds()).detections
    assert found.class_id.tolist() == [0]
    np.testing.assert_allclose(found.xyxy, [box_of(2, 3)], atol=0.1)


def test_only_tensors_of_a_batch_become_those_of_one_image() -> None:
    shapes = ((4, 6, 84), (-1, 7), (300,), (4,), ())
    specs = tuple(TensorSpec(f"output{n}", "float32", shape) for n, shape in enumerate(shapes))
    found = [spec.shape for spec in proof._for_one(specs, 4)]
    assert found == [(1, 6, 84), (-1, 7), (300,), (1,), ()]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ((4, 6), (1, 6), True),
        ((4, 6), (2, 6), False),
        ((4, 6), (0, 6), False),  # rows of found boxes, and none was found
        ((4, 6), (1, 1), False),
    ],
)
def test_answers_of_other_shapes_are_not_the_same(
    sound: dict[int, Artifact], before: tuple[int, ...], after: tuple[int, ...], same: bool
) -> None:
    manifest = sound[6].manifest
    name = manifest.outputs[0].name
    assert proof._equal({name: np.ones(before)}, {name: np.ones(after)}, manifest) == same


@pytest.mark.parametrize(("scale", "apart", "same"), [(100, 0.09, True), (100, 0.11, False)])
def test_answers_may_differ_by_a_thousandth_of_the_largest(
    sound: dict[int, Artifact], scale: float, apart: float, same: bool
) -> None:
    manifest = sound[6].manifest
    name = manifest.outputs[0].name
    before, after = np.array([[1.0, -scale], [9.0, 9.0]]), np.array([[1.0 + apart, -scale]])
    assert proof._equal({name: before}, {name: after}, manifest) == same


def test_a_fixed_batch_that_cannot_become_one_image_is_refused(
    store: Store, tmp_path: Path
) -> None:
    many = np.repeat(anchors(), 4, axis=0)  # a constant of four answers
    path = constant_answer(tmp_path / "four.onnx", many, batch=4)
    with pytest.raises(InvalidArtifact, match="takes 4 images at a time") as refusal:
        import_onnx(store, path)
    assert "batch=1" in refusal.value.hint
    assert list(store.root.iterdir()) == []


def test_a_graph_whose_answer_depends_on_the_rest_of_its_batch_is_refused(
    store: Store, fixed_batch: Callable[..., Path]
) -> None:
    path = fixed_batch(4)
    model = onnx.load(path)
    scores = next(node for node in model.graph.node if node.output[0] == "scores")
    scores.output[0] = "alone"
    place = list(model.graph.node).index(scores) + 1
    mean = helper.make_node("ReduceMean", ["alone"], ["of_all"], axes=[0], keepdims=1)
    mixed = helper.make_node("Mul", ["alone", "of_all"], ["scores"])
    model.graph.node.insert(place, mean)
    model.graph.node.insert(place + 1, mixed)
    onnx.save(model, path)
    with pytest.raises(InvalidArtifact, match="takes 4 images at a time"):
        import_onnx(store, path)


def test_an_artifact_of_a_fixed_batch_from_before_is_refused_with_the_way_out(
    store: Store, fixed_batch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        proof, "one_image_at_a_time", lambda model, folder, manifest, origin: (model, manifest)
    )
    monkeypatch.setattr(proof, "prove", lambda *given, **named: None)
    artifact: Artifact = import_onnx(store, fixed_batch(4))
    assert artifact.manifest.inputs[0].shape[0] == 4
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(InvalidArtifact, match="4 images at a time") as refusal:
            open_engine(artifact, engine, EngineConfig())
        assert "import" in refusal.value.hint
