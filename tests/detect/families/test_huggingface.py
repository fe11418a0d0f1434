"""The facts in config.json and preprocessor_config.json."""

from __future__ import annotations

import json
from typing import Any

import pytest

from seatrial.detect.families import huggingface
from seatrial.errors import InvalidArtifact
from seatrial.manifest import Preprocessing

LABELS = ("cat", "dog", "bird")
DETR = {"model_type": "detr", "architectures": ["DetrForObjectDetection"]}


def config(**changes: Any) -> bytes:
    names = {str(number): name for number, name in enumerate(LABELS)}
    return json.dumps({**DETR, "id2label": names, **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "type 'bert'"),
        ({"architectures": ["DetrForSegmentation"]}, "detects no objects"),
        ({"id2label": {}}, "names no classes"),
        ({"id2label": {"0": "a", "2": "b"}}, "from 0 on"),
        ({"model_type": "rt_detr", "use_focal_loss": False}, "use_focal_loss"),
        ({"architectures": 3}, "architectures 3"),
        ({"num_queries": None}, "num_queries None"),
        ({"num_queries": 0}, "num_queries 0"),
        ({"num_queries": "many"}, "num_queries 'many'"),
        ({"num_queries": 5.5}, "num_queries 5.5"),
        ({"num_queries": True}, "num_queries True"),
    ],
)
def test_configurations_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArtifact, match=message):
        huggingface.read(config(**changes), None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resample": 3}, "resamples by 3"),
        ({"do_resize": False}, "does not resize"),
        ({"size": {"longest_edge": 500}}, "has the size"),
        ({"size": {"height": 4, "width": 640}}, "a side of 4 pixels"),
        ({"image_std": [1, 0, 1]}, "0 for image_std"),
        ({"image_std": [1, -1, 1]}, "-1 for image_std"),
        ({"image_std": [1, 1]}, r"image_std \[1, 1\]"),
        ({"image_mean": 0.5}, "image_mean 0.5"),
        ({"image_mean": "abc"}, "image_mean 'abc'"),
        ({"image_mean": ["a", 1, 1]}, "'a' for image_mean"),
        ({"image_mean": [None, 1, 1]}, "None for image_mean"),
        ({"rescale_factor": 0}, "0 for rescale_factor"),
        ({"rescale_factor": "1/255"}, "'1/255' for rescale_factor"),
        ({"rescale_factor": True}, "True for rescale_factor"),
        ({"pad_size": {"height": 1333}}, "pad_size"),
        ({"pad_size": 1333}, "pad_size 1333"),
    ],
)
def test_preprocessors_that_are_not_reproduced(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArtifact, match=message):
        huggingface.read(config(), json.dumps(settings).encode())


@pytest.mark.parametrize(
    ("kind", "padding", "fits"),
    [
        ("rt_detr", {"do_pad": True, "pad_size": {"height": 192, "width": 192}}, False),
        ("detr", {"pad_size": {"height": 192, "width": 192}}, False),
        ("d_fine", {"pad_and_return_pixel_mask": True, "pad_size": {"height": 128, "width": 192}},
         False),
        ("rt_detr", {"do_pad": True, "pad_size": 192}, False),
        ("detr", {"do_pad": True}, True),
        ("detr", {"do_pad": False, "pad_size": {"height": 192, "width": 192}}, True),
        ("rt_detr", {"pad_size": {"height": 192, "width": 192}}, True),
        ("rt_detr", {"do_pad": True, "pad_size": {"height": 128, "width": 160}}, True),
    ],
)  # fmt: skip
def test_padding_of_stretched_images_is_refused(
    kind: str, padding: dict[str, Any], fits: bool
) -> None:
    settings = json.dumps({"size": {"height": 128, "width": 160}, **padding}).encode()
    if fits:
        found = huggingface.read(config(model_type=kind), settings).preprocessing
        assert found == Preprocessing((128, 160), "stretch", 0, antialias=True)
        return
    with pytest.raises(InvalidArtifact, match="pad_size"):
        huggingface.read(config(model_type=kind), settings)


@pytest.mark.parametrize("kind", ["detr", "rt_detr"])
def test_a_largest_size_is_refused_with_the_way_out(kind: str) -> None:
    settings = json.dumps({"size": {"max_height": 480, "max_width": 640}}).encode()
    with pytest.raises(InvalidArtifact, match="fractions of the image or of the padded") as refusal:
        huggingface.read(config(model_type=kind), settings)
    assert '"size": {"height": 480, "width": 640}' in refusal.value.hint


def test_files_that_are_not_json() -> None:
    with pytest.raises(InvalidArtifact, match=r"config\.json cannot be read"):
        huggingface.read(b"{", None)
    with pytest.raises(
        InvalidArtifact, match=r"preprocessor_config\.json, line 1: .* is not UTF-8"
    ):
        huggingface.read(config(), b"\xff")


def test_sizes_as_they_were_written_until_2023() -> None:
    old = {"size": 800, "max_size": 1333, "feature_extractor_type": "DetrFeatureExtractor"}
    found = huggingface.read(config(), json.dumps(old).encode())
    assert found == huggingface.read(config(), None)


def test_the_defaults_are_those_of_the_architecture() -> None:
    detr, rt_detr = (
        huggingface.read(config(model_type=kind), None) for kind in ("detr", "rt_detr")
    )
    assert (detr.queries, rt_detr.queries) == (100, 300)
    assert detr.preprocessing == Preprocessing(
        (1333, 1333), "shortest_edge", 0, antialias=True, edges_px=(800, 1333)
    )
    assert rt_detr.preprocessing == Preprocessing((640, 640), "stretch", 0, antialias=True)
    assert (detr.mean_std, rt_detr.mean_std) == (huggingface.IMAGENET, None)
    assert (detr.scale, rt_detr.scale) == (255.0, 255.0)
    assert detr.architecture.masked
    assert not rt_detr.architecture.masked


def test_the_files_override_the_defaults() -> None:
    settings = {
        "size": {"shortest_edge": 320, "longest_edge": 480},
        "pad_size": {"height": 480, "width": 416},
        "rescale_factor": 0.5,
        "image_mean": [1, 2, 3],
        "image_std": [4, 5, 6],
    }
    found = huggingface.read(config(num_queries=7), json.dumps(settings).encode())
    assert found.queries == 7
    assert found.preprocessing.size_hw == (480, 416)
    assert found.preprocessing.edges_px == (320, 480)
    assert found.scale == 2.0
    assert found.mean_std == ((1, 2, 3), (4, 5, 6))


def test_the_canvas_of_a_masked_network_is_its_pad_size_without_padding_too() -> None:
    settings = {
        "size": {"shortest_edge": 320, "longest_edge": 480},
        "pad_size": {"height": 480, "width": 416},
        "do_pad": False,
    }
    found = huggingface.read(config(), json.dumps(settings).encode())
    assert found.preprocessing.size_hw == (480, 416)


def test_values_may_be_left_as_they_are() -> None:
    settings = {"do_rescale": False, "do_normalize": False, "rescale_factor": 0.5}
    found = huggingface.read(config(), json.dumps(settings).encode())
    assert (found.scale, found.mean_std) == (1.0, None)


def test_null_is_the_default_as_in_transformers() -> None:
    numbers = ("rescale_factor", "image_mean", "image_std", "size", "resample", "pad_size")
    switches = ("do_resize", "do_rescale", "do_normalize")
    settings = json.dumps(dict.fromkeys((*numbers, *switches))).encode()
    assert huggingface.read(config(), settings) == huggingface.read(config(), None)
    zero = json.dumps({"image_mean": [0, 0, 0]}).encode()
    found = huggingface.read(config(), zero).mean_std
    assert found is not None
    assert found[0] == (0.0, 0.0, 0.0)


def test_classes_are_in_the_order_of_their_numbers() -> None:
    table = {str(number): f"class {number}" for number in reversed(range(12))}
    found = huggingface.read(config(id2label=table), None)
    assert found.labels == tuple(f"class {number}" for number in range(12))


@pytest.mark.parametrize(("side", "fits"), [(31, False), (32, True), (4096, True), (4097, False)])
def test_sides_are_within_bounds(side: int, fits: bool) -> None:
    settings = json.dumps({"size": {"height": side, "width": 640}}).encode()
    if fits:
        assert huggingface.read(config(), settings).preprocessing.size_hw == (side, 640)
        return
    with pytest.raises(InvalidArtifact, match=f"a side of {side} pixels"):
        huggingface.read(config(), settings)


def test_an_edge_without_a_mask_is_refused() -> None:
    settings = json.dumps({"size": {"shortest_edge": 800, "longest_edge": 1333}}).encode()
    with pytest.raises(InvalidArtifact, match="has the size"):
        huggingface.read(config(model_type="rt_detr"), settings)


def test_an_old_size_without_a_limit_has_transformers_limit() -> None:
    found = huggingface.read(config(), json.dumps({"size": 600}).encode())
    assert found.preprocessing.edges_px == (600, 1333)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_configuration_with_a_byte_order_mark_is_read(encoding: str) -> None:
    assert huggingface.read(config().decode().encode(encoding), None).labels == LABELS
