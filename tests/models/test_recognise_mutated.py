"""Configurations of other tools with values changed: facts that make sense, or an error of ours."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seatrial.artifact import Store
from seatrial.detect.families import detr, huggingface, ssd
from seatrial.detect.families.base import Recognition
from seatrial.detect.preprocess import fit
from seatrial.errors import SeatrialError
from seatrial.graphs.signature import GraphSignature
from seatrial.manifest import TensorSpec
from seatrial.models import description
from seatrial.models.facts import ModelFacts
from seatrial.models.import_checkpoint import import_transformers
from seatrial.models.recognise import recognise
from seatrial.models.sidecars import texts

NAMES = {"0": "cat", "1": "dog"}
CONFIG: dict[str, Any] = {
    "model_type": "detr",
    "architectures": ["DetrForObjectDetection"],
    "id2label": NAMES,
    "label2id": {"cat": 0, "dog": 1},
    "num_queries": 100,
    "use_focal_loss": True,
}
PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 0.00392156862745098,
    "resample": 2,
    "size": {"shortest_edge": 800, "longest_edge": 1333},
    "max_size": 1333,
    "pad_size": {"height": 1333, "width": 1333},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
ULTRALYTICS: dict[str, Any] = {
    "author": "Ultralytics",
    "description": "Ultralytics YOLO11n model",
    "task": "detect",
    "stride": "32",
    "imgsz": "[64, 64]",
    "names": "{0: 'cat', 1: 'dog'}",
    "license": "AGPL-3.0",
    "end2end": "False",
    "channels": "3",
}
OWN: dict[str, Any] = {
    "family": "yolo",
    "variant": "anchors",
    "preprocessing": {"size_hw": [64, 64], "resize": "letterbox", "pad_value": 114},
    "labels": ["cat", "dog"],
    "licence": "unknown",
    "confidence": 0.25,
    "iou": 0.7,
}
# As JSON text, since some have no value in Python.
TOKENS = (
    "null", "0", "-1", "1", "1e-320", "1e308", "1e999", "-0.0", "true", "false", '""', '" "',
    '"x"', '"640"', "[]", "[null]", "[1, 2, 3]", "{}", '{"height": 0, "width": -5}',
    '{"height": 640}', "1" + "0" * 400, "18446744073709551616", "[[[[[[]]]]]]", '"\\u0000"', '"ü"',
    "NaN", "[" * 3000 + "]" * 3000, '{"0": null, "1": "dog"}', '{"1": "dog"}', '["cat", "dog"]',
)  # fmt: skip
TEXTS = (
    "", " ", "None", "null", "0", "-1", "[0, 0]", "[64]", "64", "[64, 64, 64]", "[1e999, 1e999]",
    "['a', 'b']", "'abc'", "{0: None, 1: 'dog'}", "{0: '', 1: 'dog'}", "{1: 'dog'}", "{0: ['x']}",
    "{True: 'x'}", "{'0': 'cat'}", "{0: 'cat', 1: 'dog'", "(" * 5000, "[" * 300 + "]" * 300,
    "-" * 5000 + "1", "b'ab'", "{'cat', 'dog'}", "__import__('os')", "9" * 5000, "\x00", "{}", "[]",
    "{0: 1.5, 1: True}", "[nan, nan]", "[64.9, '64']",
)  # fmt: skip


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value of a document, the document itself among them."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [path, *(way for key in keys for way in paths(value[key], (*path, key)))]


def mutated(document: Any) -> st.SearchStrategy[str]:
    """Text of a document with one to three values replaced or left out."""

    def apply(changes: list[tuple[tuple[Any, ...], str | None]]) -> str:
        text = json.loads(json.dumps(document))
        marks = {}
        for number, (way, token) in enumerate(changes):
            if not way:
                return token or ""
            at = text
            try:
                for key in way[:-1]:
                    at = at[key]
                if token is None:
                    del at[way[-1]]
                else:
                    at[way[-1]] = f"@{number}@"
                    marks[f'"@{number}@"'] = token
            except (KeyError, IndexError, TypeError):
                continue  # a change before removed it
        written = json.dumps(text)
        for mark, token in marks.items():
            written = written.replace(mark, token)
        return written

    change = st.tuples(st.sampled_from(paths(document)), st.sampled_from((None, *TOKENS)))
    return st.lists(change, min_size=1, max_size=3).map(apply)


def check(found: Recognition | huggingface.CheckpointFacts) -> None:
    """The facts can be used: images are fitted, names are names."""
    assert all(name.strip() for name in found.labels)
    assert math.isfinite(found.scale)
    assert found.scale > 0
    for value in (value for values in found.mean_std or () for value in values):
        assert math.isfinite(value)
    canvas, _ = fit(np.zeros((30, 40, 3), np.uint8), found.preprocessing)
    assert canvas.shape[1:3] == found.preprocessing.size_hw


@pytest.mark.parametrize("kind", list(huggingface.ARCHITECTURES))
@settings(max_examples=400)
@given(config=mutated(CONFIG), processor=mutated(PROCESSOR), nested=st.booleans())
def test_configurations_of_transformers(
    kind: str, config: str, processor: str, nested: bool
) -> None:
    with contextlib.suppress(SeatrialError):
        accept_configuration(kind, config, processor, nested)


@pytest.mark.parametrize("kind", list(huggingface.ARCHITECTURES))
@pytest.mark.parametrize("nested", [False, True])
def test_configurations_without_a_change_are_accepted(kind: str, nested: bool) -> None:
    accept_configuration(kind, json.dumps(CONFIG), json.dumps(PROCESSOR), nested)


def accept_configuration(kind: str, config: str, processor: str, nested: bool) -> None:
    """Check the facts of a configuration that was made for detr; an error where it is refused."""
    config = config.replace('"model_type": "detr"', f'"model_type": "{kind}"')
    if kind != "detr":
        processor = processor.replace('"shortest_edge"', '"height"')
        processor = processor.replace('"longest_edge"', '"width"')
    alone, inside = processor.encode(), None
    if nested:
        alone, inside = b"null", f'{{"image_processor": {processor}}}'.encode()
    settings = huggingface.image_processor(alone, inside)
    check(huggingface.read(config.encode(), settings))


def signature(metadata: dict[str, str], dtype: str = "float32") -> GraphSignature:
    shape = (1, 3, -1, -1) if dtype == "float32" else (1, 64, 64, 3)
    return GraphSignature(
        inputs=(TensorSpec("images", dtype, shape),),
        outputs=(TensorSpec("output0", "float32", (1, 6, 84)),),
        metadata=metadata,
    )


def accept(graph: GraphSignature) -> None:
    """Check the facts of a graph; an error where it is refused."""
    _, found = recognise(graph, Path("model.onnx"), ModelFacts())
    check(found)


def read(graph: GraphSignature) -> None:
    with contextlib.suppress(SeatrialError):
        accept(graph)


@settings(max_examples=500)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(ULTRALYTICS)), st.sampled_from((None, *TEXTS))),
        min_size=1,
        max_size=3,
    )
)
@example([("imgsz", "[1e999, 1e999]")])
@example([("names", "'abc'")])
@example([("names", "{0: None, 1: 'dog'}")])
def test_metadata_of_ultralytics(changes: list[tuple[str, str | None]]) -> None:
    facts = dict(ULTRALYTICS)
    for key, text in changes:
        facts.pop(key, None) if text is None else facts.__setitem__(key, text)
    read(signature(facts))


# Values of a metadata.yaml, as they are typed: types of YAML 1.1, tags, aliases, what is no YAML.
YAML_VALUES = (
    "", "null", "~", "no", "NO", "on", "007", "0o7", "1_000", "1:60", ".nan", "-.inf", "1e999",
    "2020-01-01", "2020-13-45", "12:00:00", "9" * 5000, "0x" + "f" * 5000, "64", "[64]", "[64, 64]",
    "[640, no]", "{height: 64}", "[64, 64, 64]", "[.inf, .inf]", "['a', 'b']", "{0: cat}",
    "{0: cat, 1: 007}", "{0: cat, 1: no}", "{0: cat, 1: ~}", "{1: dog, 0: cat}",
    "{0: cat, 00: dog}", "!!bool x", "!!int ''",
    "{0: cat, 0: dog}", "{cat: 0, dog: 1}", "{? [a] : b}", "{0: {en: cat}, 1: dog}", "[cat, [dog]]",
    "[cat, '']", "&a [*a]", "&a {0: *a}", "*gone", "<<: 1", "{<<: [1]}", "!!int abc", "!!binary x",
    "!!set {a, b}", "!!python/object/apply:os.getcwd []", "!!timestamp x", "!x y", "%", "@", "`",
    "[" * 400, "{a: " * 400 + "1" + "}" * 400, "'", '"\\x"', "\u0085", "|\n  64", "- a\n- b",
    "[[[[[[]]]]]]", "!!omap [a: 1]", "'[64, 64]'", "true", "detect", "segment",
)  # fmt: skip
METADATA = {
    "description": "Ultralytics YOLO11n model",
    "author": "Ultralytics",
    "license": "AGPL-3.0",
    "stride": "32",
    "task": "detect",
    "imgsz": "[64, 64]",
    "names": "{0: cat, 1: dog}",
    "args": "{half: false, nms: no}",
    "end2end": "false",
    "channels": "3",
}


def written_metadata(folder: Path, facts: dict[str, str]) -> Path:
    """The model beside a ``metadata.yaml`` of these facts."""
    lines = "".join(f"{key}: {value}\n" for key, value in facts.items())
    (folder / "metadata.yaml").write_text(lines, encoding="utf-8")
    return folder / "model.xml"


def read_metadata(folder: Path, facts: dict[str, str]) -> None:
    model = written_metadata(folder, facts)
    with contextlib.suppress(SeatrialError):
        accept(signature(texts(model)))


@pytest.fixture(scope="module")
def openvino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino")


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(METADATA)), st.sampled_from((None, *YAML_VALUES))),
        min_size=1,
        max_size=3,
    )
)
def test_metadata_yaml(openvino_folder: Path, changes: list[tuple[str, str | None]]) -> None:
    facts = dict(METADATA)
    for key, text in changes:
        facts.pop(key, None) if text is None else facts.__setitem__(key, text)
    read_metadata(openvino_folder, facts)


@pytest.mark.parametrize("key", ["names", "imgsz", "args"])
@pytest.mark.parametrize("value", YAML_VALUES, ids=[v[:20] for v in YAML_VALUES])
def test_every_value_of_metadata_yaml(openvino_folder: Path, key: str, value: str) -> None:
    read_metadata(openvino_folder, {**METADATA, key: value})


@settings(max_examples=400)
@given(mutated(OWN))
def test_descriptions_that_seatrial_wrote(text: str) -> None:
    read(signature({description.METADATA_KEY: text}, "uint8"))


BEFORE = {key: OWN[key] for key in ("labels", "licence", "preprocessing")}


@settings(max_examples=200)
@given(mutated(BEFORE), mutated({"variant": "native", **BEFORE}))
def test_descriptions_of_earlier_versions(ssd_text: str, detr_text: str) -> None:
    for graph in earlier(ssd_text, detr_text):
        read(graph)


def earlier(ssd_text: str, detr_text: str) -> tuple[GraphSignature, GraphSignature]:
    """Graphs of an SSD and of a DETR with these descriptions."""
    image = (TensorSpec("image", "uint8", (1, 64, 64, 3)),)
    boxes = TensorSpec("boxes", "float32", (1, 84, 4))
    scores = TensorSpec("scores", "float32", (1, 84, 2))
    found = (
        TensorSpec("labels", "int64", (1, 84)),
        boxes,
        TensorSpec("scores", "float32", (1, 84)),
    )
    return (
        GraphSignature(image, (boxes, scores), {ssd.METADATA_KEY: ssd_text}),
        GraphSignature(image, found, {detr.METADATA_KEY: detr_text}),
    )


# Whether the size of the image is fixed, and the number of inputs: a mask has to tell the size.
GRAPHS = ((True, 1), (True, 2), (False, 2))


@settings(max_examples=200)
@given(mutated(CONFIG), mutated(PROCESSOR), st.sampled_from(GRAPHS))
def test_graphs_with_a_configuration_beside_them(
    config: str, processor: str, graph: tuple[bool, int]
) -> None:
    read(transformers_graph(config, processor, *graph))


def transformers_graph(config: str, processor: str, sized: bool, inputs: int) -> GraphSignature:
    """A graph of transformers with its files beside it."""
    shape = (1, 3, 64, 64) if sized else (-1, 3, -1, -1)
    given_inputs = (
        TensorSpec("pixel_values", "float32", shape),
        TensorSpec("pixel_mask", "int64", (-1, -1, -1)),
    )[:inputs]
    outputs = (
        TensorSpec("logits", "float32", (-1, 100, 3)),
        TensorSpec("pred_boxes", "float32", (-1, 100, 4)),
    )
    beside = {huggingface.CONFIG: config, huggingface.PREPROCESSOR: processor}
    return GraphSignature(given_inputs, outputs, beside)


UNCHANGED = {
    "ultralytics": signature(ULTRALYTICS),
    "own": signature({description.METADATA_KEY: json.dumps(OWN)}, "uint8"),
    **dict(
        zip(
            ("ssd", "detr"),
            earlier(json.dumps(BEFORE), json.dumps({"variant": "native", **BEFORE})),
            strict=True,
        )
    ),
    **{
        f"transformers-{sized}-{inputs}": transformers_graph(
            json.dumps(CONFIG), json.dumps(PROCESSOR), sized, inputs
        )
        for sized, inputs in GRAPHS
    },
}


@pytest.mark.parametrize("kind", UNCHANGED)
def test_graphs_without_a_change_are_accepted(kind: str) -> None:
    accept(UNCHANGED[kind])


def test_metadata_yaml_without_a_change_is_accepted(tmp_path: Path) -> None:
    accept(signature(texts(written_metadata(tmp_path, METADATA))))


@settings(max_examples=40)
@given(config=mutated(CONFIG), processor=mutated(PROCESSOR))
def test_folders_of_transformers(config: str, processor: str, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / huggingface.CONFIG).write_text(config)
    (folder / huggingface.PREPROCESSOR).write_text(processor)
    with pytest.raises(SeatrialError):  # there are no weights
        import_transformers(Store(folder / "store"), folder, name="x", uri="x", licence="unknown")


def test_a_class_without_a_name_is_named_by_its_number() -> None:
    config = json.dumps({**CONFIG, "id2label": {"0": "cat", "1": None}}).encode()
    with pytest.raises(SeatrialError, match="has the name None for class 1"):
        huggingface.read(config, msgspec.json.encode(PROCESSOR))
