"""DETR's layouts: decoded by hand, and box by box as transformers' image processors do it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seatrial.deployment import Thresholds
from seatrial.detect.families import huggingface
from seatrial.detect.families.detr import METADATA_KEY, Detr, DetrMetadata
from seatrial.detect.families.registry import possible
from seatrial.detect.preprocess import Letterbox, fit
from seatrial.errors import InvalidArtifact
from seatrial.graphs.signature import TARGET_SIZES, VALID_HW, GraphSignature
from seatrial.manifest import Manifest, Preprocessing, Provenance, Step, TensorSpec

LABELS = ("cat", "dog", "bird")
QUERIES = 7
PADDED = Preprocessing((160, 160), "shortest_edge", 0, antialias=True, edges_px=(96, 160))
STRETCHED = Preprocessing((64, 96), "stretch", 0, antialias=True)
DETR = {"model_type": "detr", "architectures": ["DetrForObjectDetection"], "num_queries": QUERIES}
EVERYTHING = Thresholds(confidence=0.0, max_detections=1000)


def config(**changes: Any) -> bytes:
    names = {str(number): name for number, name in enumerate(LABELS)}
    return json.dumps({**DETR, "id2label": names, **changes}).encode()


def manifest(variant: str, preprocessing: Preprocessing = STRETCHED, **changes: Any) -> Manifest:
    columns = len(LABELS) + (variant == "detr")
    outputs = (
        TensorSpec("logits", "float32", (1, QUERIES, columns)),
        TensorSpec("pred_boxes", "float32", (1, QUERIES, 4)),
    )
    if variant == "native":
        outputs = (
            TensorSpec("labels", "int64", (1, QUERIES)),
            TensorSpec("boxes", "float32", (1, QUERIES, 4)),
            TensorSpec("scores", "float32", (1, QUERIES)),
        )
    fields: dict[str, Any] = {
        "name": "a-detr",
        "family": "detr",
        "variant": variant,
        "formats": {"onnx": "model.onnx"},
        "precision": "f32",
        "inputs": (TensorSpec("image", "uint8", (1, *preprocessing.size_hw, 3)),),
        "outputs": outputs,
        "preprocessing": preprocessing,
        "labels": LABELS,
        "licence": "MIT",
        "source": Provenance("somewhere", ""),
        "step": Step("test"),
    }
    return Manifest(**{**fields, **changes})


def letterbox(
    height: int = 200, width: int = 300, preprocessing: Preprocessing = STRETCHED
) -> Letterbox:
    return fit(np.zeros((height, width, 3), np.uint8), preprocessing)[1]


def random_outputs(seed: int, columns: int) -> dict[str, np.ndarray[Any, Any]]:
    chance = np.random.default_rng(seed)
    centre = chance.uniform(0.1, 0.9, (1, QUERIES, 2))
    size = chance.uniform(0.05, 0.6, (1, QUERIES, 2))
    return {
        "logits": chance.normal(0, 2, (1, QUERIES, columns)).astype(np.float32),
        "pred_boxes": np.concatenate([centre, size], axis=2).astype(np.float32),
    }


def test_softmax_leaves_out_no_object_and_boxes_are_in_source_pixels() -> None:
    logits = np.full((1, QUERIES, 4), -20.0, np.float32)
    logits[0, :, 3] = 20  # no object
    logits[0, 2] = [0, np.log(8), 0, np.log(2)]  # 1/12, 8/12, 1/12, 2/12
    boxes = np.full((1, QUERIES, 4), 0.5, np.float32)
    boxes[0, 2] = [0.5, 0.25, 0.2, 0.5]
    outputs = {"logits": logits, "pred_boxes": boxes}
    found = Detr(manifest("detr")).detections(outputs, letterbox(), Thresholds())
    assert found.class_id.tolist() == [1]
    np.testing.assert_allclose(found.score, [8 / 12], rtol=1e-6)
    np.testing.assert_allclose(found.xyxy, [[120, 0, 180, 100]], atol=1e-4)


def test_sigmoid_gives_a_query_as_many_classes_as_are_among_the_best() -> None:
    logits = np.full((1, QUERIES, 3), -20.0, np.float32)
    logits[0, 4] = [2.0, -20, 1.0]
    logits[0, 5] = [-20, 3.0, -20]
    boxes = np.full((1, QUERIES, 4), 0.5, np.float32)
    found = Detr(manifest("sigmoid")).detections(
        {"logits": logits, "pred_boxes": boxes}, letterbox(), Thresholds(confidence=0.5)
    )
    assert found.class_id.tolist() == [1, 0, 2]
    np.testing.assert_allclose(found.score, 1 / (1 + np.exp([-3.0, -2.0, -1.0])), rtol=1e-6)


def test_native_rows_are_taken_as_they_are() -> None:
    outputs = {
        "labels": np.array([[2, 0, 1, 0, 0, 0, 0]], np.int64),
        "boxes": np.tile(np.array([10, 20, 900, 40], np.float32), (1, QUERIES, 1)),
        "scores": np.array([[0.3, 0.1, 0.8, 0, 0, 0, 0]], np.float32),
    }
    found = Detr(manifest("native")).detections(outputs, letterbox(), Thresholds())
    assert found.class_id.tolist() == [1, 2]
    assert found.xyxy.tolist() == [[10, 20, 300, 40]] * 2  # clipped to the picture


@pytest.mark.parametrize("variant", ["detr", "sigmoid"])
@pytest.mark.parametrize("confidence", [0.0, 0.001, 0.5, 1.0])
def test_extreme_thresholds_and_values_that_are_no_numbers(variant: str, confidence: float) -> None:
    outputs = random_outputs(0, 4 if variant == "detr" else 3)
    outputs["pred_boxes"][0, 0] = np.nan
    outputs["logits"][0, 1] = np.nan
    with np.errstate(all="ignore"):
        found = Detr(manifest(variant)).detections(
            outputs, letterbox(), Thresholds(confidence=confidence)
        )
    assert np.isfinite(found.xyxy).all()
    assert (found.score > confidence).all()
    assert len(found) == 0 if confidence == 1.0 else len(found) > 0


def test_feeds_say_where_the_picture_is_and_how_large_it_was() -> None:
    inputs = (
        TensorSpec("image", "uint8", (1, 160, 160, 3)),
        TensorSpec(VALID_HW, "int64", (1, 2)),
        TensorSpec(TARGET_SIZES, "int64", (1, 2)),
    )
    family = Detr(manifest("native", PADDED, inputs=inputs))
    feeds = family.feeds(letterbox(200, 400, PADDED))
    assert {name: array.tolist() for name, array in feeds.items()} == {
        VALID_HW: [[80, 160]],
        TARGET_SIZES: [[400, 200]],  # width first, as the repositories have it
    }
    assert {array.dtype for array in feeds.values()} == {np.dtype(np.int64)}
    assert Detr(manifest("sigmoid")).feeds(letterbox()) == {}


@pytest.mark.parametrize(("variant", "columns"), [("detr", 3), ("detr", 5), ("sigmoid", 4)])
def test_labels_that_do_not_fit_the_logits(variant: str, columns: int) -> None:
    odd = (
        TensorSpec("logits", "float32", (1, QUERIES, columns)),
        TensorSpec("pred_boxes", "float32", (1, QUERIES, 4)),
    )
    with pytest.raises(InvalidArtifact, match="does not fit 3 labels"):
        Detr(manifest(variant, outputs=odd))


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(InvalidArtifact, match="layout 'softmin'"):
        Detr(manifest("softmin"))


# Recognition


def signature(metadata: dict[str, str], **shapes: tuple[int, ...]) -> GraphSignature:
    given = {"logits": (-1, QUERIES, 4), "pred_boxes": (-1, QUERIES, 4), **shapes}
    inputs = {n: s for n, s in given.items() if n in ("pixel_values", "pixel_mask")}
    inputs = inputs or {"pixel_values": (-1, 3, -1, -1), "pixel_mask": (-1, 64, 64)}
    return GraphSignature(
        tuple(TensorSpec(name, "float32", shape) for name, shape in inputs.items()),
        tuple(TensorSpec(n, "float32", s) for n, s in given.items() if n not in inputs),
        metadata,
    )


def test_a_graph_of_transformers_is_known_by_its_config() -> None:
    texts = {huggingface.CONFIG: config().decode()}
    name, found = possible(signature(texts), origin="model.onnx")[0]
    assert (name, found.variant, found.labels) == ("detr", "detr", LABELS)
    assert found.preprocessing == Preprocessing(
        (1333, 1333), "shortest_edge", 0, antialias=True, edges_px=(800, 1333)
    )
    assert found.scale == 255.0
    assert found.mean_std == huggingface.IMAGENET
    assert found.mask_input == "pixel_mask"


def test_a_graph_of_transformers_without_its_config_is_told_to_bring_it() -> None:
    with pytest.raises(InvalidArtifact, match=r"without the config\.json") as refusal:
        possible(signature({}), origin="model.onnx")
    assert "copy config.json and preprocessor_config.json" in refusal.value.hint


def test_a_graph_without_a_mask_is_not_padded() -> None:
    texts = {huggingface.CONFIG: config().decode()}
    fixed = signature(texts, pixel_values=(1, 3, 320, 480))
    _, found = possible(fixed, origin="model.onnx")[0]
    assert found.preprocessing == Preprocessing((320, 480), "stretch", 0, antialias=True)
    with pytest.raises(InvalidArtifact, match="without the input pixel_mask"):
        possible(signature(texts, pixel_values=(-1, 3, -1, -1)), origin="model.onnx")[0]


def test_an_image_processor_within_a_processor_goes_first() -> None:
    texts = {
        huggingface.CONFIG: config().decode(),
        huggingface.PREPROCESSOR: '{"rescale_factor": 0.25}',
    }
    shapes = {"pixel_values": (1, 3, 320, 480)}
    assert possible(signature(texts, **shapes), origin="a.onnx")[0][1].scale == 4.0
    texts[huggingface.PROCESSOR] = '{"image_processor": {"rescale_factor": 0.5}}'
    assert possible(signature(texts, **shapes), origin="a.onnx")[0][1].scale == 2.0


def test_a_graph_of_the_repositories_does_not_name_its_classes() -> None:
    def graph(metadata: dict[str, str]) -> GraphSignature:
        return GraphSignature(
            (
                TensorSpec("images", "float32", (-1, 3, 640, 640)),
                TensorSpec("orig_target_sizes", "int64", (-1, 2)),
            ),
            tuple(TensorSpec(name, "float32", (-1, 300)) for name in ("labels", "boxes", "scores")),
            metadata,
        )

    _, found = possible(graph({}), origin="dfine.onnx")[0]
    assert (found.variant, found.labels, found.scale) == ("native", (), 255.0)
    assert found.preprocessing.resize == "stretch"


def test_a_graph_that_seatrial_wrote_carries_all_of_it() -> None:
    facts = DetrMetadata("detr", LABELS, "MIT", PADDED)
    texts = {METADATA_KEY: msgspec.json.encode(facts).decode()}
    _, found = possible(signature(texts), origin="model.onnx")[0]
    assert (found.variant, found.labels, found.licence) == ("detr", LABELS, "MIT")
    assert found.preprocessing == PADDED
    assert found.scale == 1.0
    with pytest.raises(InvalidArtifact, match="metadata"):
        possible(signature({METADATA_KEY: "{}"}), origin="model.onnx")[0]


# Against transformers


@pytest.fixture(scope="session")
def processors(transformers: Any) -> Any:
    """The two image processors, on the backend that needs no torchvision."""
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    return SimpleNamespace(detr=DetrImageProcessorPil, rt_detr=RTDetrImageProcessorPil)


@pytest.mark.parametrize("variant", ["detr", "sigmoid"])
@pytest.mark.parametrize("seed", range(20))
def test_boxes_are_those_of_post_process_object_detection(
    processors: Any, variant: str, seed: int
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    outputs = random_outputs(seed, 4 if variant == "detr" else 3)
    processor = processors.detr() if variant == "detr" else processors.rt_detr()
    answer = SimpleNamespace(**{n: torch.from_numpy(a) for n, a in outputs.items()})
    (wanted,) = processor.post_process_object_detection(
        answer, threshold=0.2, target_sizes=torch.tensor([[211, 307]])
    )
    found = Detr(manifest(variant)).detections(
        outputs, letterbox(211, 307), Thresholds(confidence=0.2, multi_label=True)
    )
    order = np.argsort(-wanted["scores"].numpy(), kind="stable")
    limit = np.array([307, 211, 307, 211])
    boxes = np.clip(wanted["boxes"].numpy()[order], 0, limit)  # ours end at the picture's border
    np.testing.assert_array_equal(found.class_id, wanted["labels"].numpy()[order])
    np.testing.assert_allclose(found.score, wanted["scores"].numpy()[order], rtol=1e-5)
    np.testing.assert_allclose(found.xyxy, boxes, atol=1e-3)


@given(
    st.tuples(st.integers(8, 400), st.integers(8, 400)),
    st.sampled_from([(96, 160), (100, 133), (64, 64), (200, 333)]),
)
def test_pictures_are_resized_and_padded_as_detrs_processor_does(
    processors: Any, source_hw: tuple[int, int], edges: tuple[int, int]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*source_hw, 3), np.uint8)
    size = {"shortest_edge": edges[0], "longest_edge": edges[1]}
    side = {"height": edges[1], "width": edges[1]}
    processor = processors.detr(size=size, do_normalize=False, do_rescale=False, pad_size=side)
    try:
        wanted = processor(Image.fromarray(picture), return_tensors="np")
    except ValueError:  # a side of no pixels: transformers gives up, here it is one pixel
        return
    preprocessing = Preprocessing((edges[1],) * 2, "shortest_edge", 0, True, True, edges)
    batch, where = fit(picture, preprocessing)
    mask = wanted["pixel_mask"][0]
    assert where.inner_hw == (int(mask[:, 0].sum()), int(mask[0].sum()))
    pixels = wanted["pixel_values"][0].transpose(1, 2, 0)
    assert np.abs(batch[0].astype(int) - pixels).max() <= 1


@given(st.tuples(st.integers(2, 300), st.integers(2, 300)))
def test_pictures_are_stretched_as_rt_detrs_processor_does(
    processors: Any, source_hw: tuple[int, int]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*source_hw, 3), np.uint8)
    processor = processors.rt_detr(size={"height": 64, "width": 96}, do_rescale=False)
    wanted = processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
    batch, _ = fit(picture, STRETCHED)
    assert np.abs(batch[0].astype(int) - wanted.transpose(1, 2, 0)).max() <= 1
