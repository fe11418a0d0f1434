"""Checkpoints into the store, without torch: whole ones, and every way in which they are broken."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seatrial.artifact import Store
from seatrial.detect.families.registry import family_of
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.models.import_checkpoint import import_transformers, import_ultralytics
from seatrial.models.resolve import resolve

HEAD = "class_labels_classifier.weight"
DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "F64": np.float64,
    "I8": np.int8,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
}


def safetensors(tensors: dict[str, tuple[str, np.ndarray[Any, Any]]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, (dtype, values) in tensors.items():
        data = values.tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def weights(classes: int = 3, dtype: str = "F32", value: float = 1.0) -> bytes:
    rows = np.full((classes + 1, 8), value, DTYPES[dtype])
    return safetensors({HEAD: (dtype, rows), "count": ("I64", np.zeros(1, np.int64))})


def beside_others(dtype: str, name: str, size: int = 1) -> bytes:
    """A head in F32, and another tensor."""
    head = np.ones((4, 8), np.float32)
    return safetensors({HEAD: ("F32", head), name: (dtype, np.ones(size, DTYPES[dtype]))})


def config(**changes: Any) -> dict[str, Any]:
    names = {"0": "cat", "1": "dog", "2": "bird"}
    return {
        "model_type": "detr",
        "architectures": ["DetrForObjectDetection"],
        "id2label": names,
        "num_queries": 5,
        **changes,
    }


Write = Callable[..., Path]


@pytest.fixture
def snapshot(tmp_path: Path) -> Write:
    """Writes a snapshot: ``snapshot(config={...}, weights=b"...")``; None leaves a file out."""

    def write(**files: Any) -> Path:
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        settings = files.get("config", config())
        if settings is not None:
            text = settings if isinstance(settings, bytes) else json.dumps(settings).encode()
            (folder / "config.json").write_bytes(text)
        data = files.get("weights", weights())
        if data is not None:
            (folder / "model.safetensors").write_bytes(data)
        if "preprocessor" in files:
            (folder / "preprocessor_config.json").write_text(json.dumps(files["preprocessor"]))
        return folder

    return write


def take(store: Store, folder: Path, name: str = "a-detr") -> Any:
    return import_transformers(store, folder, name=name, uri="huggingface:a/detr", licence="mit")


def test_what_is_read_off_a_snapshot(store: Store, snapshot: Write) -> None:
    preprocessor = {"size": {"shortest_edge": 320, "longest_edge": 640}}
    artifact = take(store, snapshot(preprocessor=preprocessor))
    manifest = artifact.manifest
    assert manifest.formats == {"transformers": "config.json"}
    assert (manifest.family, manifest.variant, manifest.precision) == ("detr", "detr", "f32")
    assert (manifest.labels, manifest.licence) == (("cat", "dog", "bird"), "mit")
    assert manifest.source.uri == "huggingface:a/detr"
    assert [(s.name, s.dtype, s.shape) for s in manifest.inputs] == [
        ("image", "uint8", (-1, 640, 640, 3)),
        ("valid_hw", "int64", (-1, 2)),
    ]
    assert [(s.name, s.shape) for s in manifest.outputs] == [
        ("logits", (-1, 5, 4)),
        ("pred_boxes", (-1, 5, 4)),
    ]
    assert manifest.preprocessing.edges_px == (320, 640)
    assert {entry.path for entry in manifest.files} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    family_of(manifest)


def test_an_engine_asked_to_open_one_says_how_to_export(store: Store, snapshot: Write) -> None:
    artifact = take(store, snapshot())
    with pytest.raises(InvalidArtifact, match="no onnx graph; it has: transformers") as refusal:
        artifact.file("onnx")
    assert "seatrial export a-detr --to onnx" in refusal.value.hint


def test_weights_in_shards(store: Store, snapshot: Write) -> None:
    folder = snapshot(weights=None)
    (folder / "model-00001-of-00002.safetensors").write_bytes(weights())
    other = safetensors({"other": ("F32", np.ones(3, np.float32))})
    (folder / "model-00002-of-00002.safetensors").write_bytes(other)
    (folder / "optimizer.safetensors").write_bytes(b"of no interest")
    index = {HEAD: "model-00001-of-00002.safetensors", "other": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert {entry.path for entry in take(store, folder).manifest.files} == {
        "config.json",
        "model.safetensors.index.json",
        *index.values(),
    }


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"has 1\.safetensors, and neither model\.safetensors nor model\.safetensors\.index"),
        ({}, "is broken"),
        ({"weight_map": {}}, "names no weights"),
        ({"weight_map": {HEAD: "1.safetensors", "x": "2.safetensors"}}, r"names '2\.safetensors'"),
        ({"weight_map": {HEAD: "../snapshot/1.safetensors"}}, "names '../snapshot/1"),
        ({"weight_map": {HEAD: "config.json"}}, r"names 'config\.json'"),
    ],
)
def test_shards_that_do_not_add_up(store: Store, snapshot: Write, index: Any, message: str) -> None:
    folder = snapshot(weights=None)
    (folder / "1.safetensors").write_bytes(weights())
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for take_it in (lambda: take(store, folder), lambda: resolve(store, str(folder))):
        with pytest.raises(InvalidArtifact, match=message):
            take_it()
    assert store.names() == []


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_is_not_left_out_without_a_word(
    store: Store, snapshot: Write, name: str, whole: bool
) -> None:
    folder = snapshot(**({} if whole else {"weights": None}))
    (folder / name).write_bytes(weights())
    with pytest.raises(InvalidArtifact, match=rf"{name}: its model is changed by an adapter"):
        take(store, folder)


@pytest.mark.parametrize("beside", [True, False])
def test_the_image_processor_within_a_processor_goes_first(
    store: Store, snapshot: Write, beside: bool
) -> None:
    other = {"size": {"height": 320, "width": 320}}
    folder = snapshot(**({"preprocessor": other} if beside else {}))
    size = {"height": 256, "width": 416}
    nested = {"processor_class": "P", "image_processor": {"size": size, "do_normalize": False}}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    artifact = take(store, folder)
    assert artifact.manifest.preprocessing.size_hw == (256, 416)
    kept = (artifact.path / "preprocessor_config.json").read_text()
    assert json.loads(kept) == nested["image_processor"]


def test_a_processor_without_an_image_processor_leaves_the_other_file(
    store: Store, snapshot: Write
) -> None:
    folder = snapshot(preprocessor={"size": {"height": 320, "width": 352}})
    (folder / "processor_config.json").write_text('{"processor_class": "P"}')
    artifact = take(store, folder)
    assert artifact.manifest.preprocessing.size_hw == (320, 352)
    (folder / "processor_config.json").write_text('{"image_processor": 3}')
    with pytest.raises(InvalidArtifact, match=r"processor_config\.json has the image_processor 3"):
        take(store, folder, "other")


@pytest.mark.parametrize(("dtype", "precision"), [("F16", "f16"), ("F32", "f32"), ("F64", "f32")])
def test_precision_is_that_of_the_weight_files(
    store: Store, snapshot: Write, dtype: str, precision: str
) -> None:
    assert take(store, snapshot(weights=weights(dtype=dtype))).manifest.precision == precision


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"weights": weights()[:-1]}, "not a whole safetensors file"),
    ({"weights": weights()[:40]}, "not a whole safetensors file"),
    ({"weights": b""}, "is empty"),
    ({"weights": b"\x80\x02}q\x00." * 9}, "not a whole safetensors file"),
    ({"weights": weights() + b"more"}, "not a whole safetensors file"),
    ({"weights": weights(value=np.nan)}, f"not numbers .* in {HEAD}"),
    ({"weights": weights(value=np.inf, dtype="F16")}, "not numbers"),
    ({"weights": weights(classes=4)}, "names 3 classes and the weights have 4"),
    ({"weights": safetensors({"x": ("F32", np.ones(2, np.float32))})}, "no 'class_labels"),
    ({"weights": None}, "no weights in safetensors"),
    ({"config": None}, r"config\.json cannot be read"),
    ({"config": b"{"}, r"config\.json cannot be read"),
    ({"config": config(model_type="gpt2")}, "type 'gpt2'"),
    ({"preprocessor": {"resample": 3}}, "resamples by 3"),
    ({"weights": weights(dtype="I8")}, f"stored as I8, {HEAD} for example"),
    ({"weights": weights(dtype="F8_E4M3")}, "stored as F8_E4M3"),
    ({"weights": weights(dtype="F8_E5M2")}, "stored as F8_E5M2"),
    ({"weights": beside_others("I8", "conv.weight")}, "stored as I8, conv.weight"),
    ({"weights": beside_others("F8_E5M2", "scale")}, "stored as F8_E5M2, scale"),
    ({"weights": beside_others("I8", "conv.packed", size=9999)}, "stored as I8, conv.packed"),
]


@pytest.mark.parametrize(("files", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_snapshot_leaves_the_store_as_it_was(
    store: Store, snapshot: Write, files: dict[str, Any], message: str
) -> None:
    before = take(store, snapshot(), "there-before").digest
    folder = snapshot(**files)
    for name, key in (("config.json", "config"), ("model.safetensors", "weights")):
        if key in files and files[key] is None:
            (folder / name).unlink()
    with pytest.raises(InvalidArtifact, match=message):
        take(store, folder)
    assert store.names() == ["there-before"]
    assert store.open("there-before").digest == before
    assert len(list(store.root.iterdir())) == 1


def test_pickled_weights_are_named_where_there_are_only_those(
    store: Store, snapshot: Write
) -> None:
    folder = snapshot(weights=None)
    (folder / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(InvalidArtifact, match=r"only pytorch_model\.bin") as refusal:
        take(store, folder)
    assert "save_pretrained" in refusal.value.hint


def test_a_full_disk_leaves_the_store_as_it_was(snapshot: Write, tmp_path: Path) -> None:
    folder = snapshot(weights=weights(classes=3) + b"")
    (folder / "model.safetensors").write_bytes(
        safetensors({HEAD: ("F32", np.ones((4, 8), np.float32)),
                     "rest": ("F32", np.ones(100_000, np.float32))})
    )  # fmt: skip
    code = (
        "import sys\nfrom pathlib import Path\nfrom seatrial.artifact import Store\n"
        "from seatrial.errors import NotWritable\n"
        "from seatrial.models.import_checkpoint import import_transformers\n"
        "store = Store(Path(sys.argv[1]))\n"
        "try:\n    import_transformers(store, Path(sys.argv[2]), name='a', uri='u', licence='l')\n"
        "except NotWritable as error:\n    print(error.message)\n"
        "print(store.names(), list(store.root.iterdir()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store"), str(folder)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "cannot be written" in done.stdout
    assert done.stdout.endswith("[] []\n")


def test_a_name_that_is_taken(store: Store, snapshot: Write) -> None:
    take(store, snapshot())
    with pytest.raises(InvalidInput, match="already has another artifact named 'a-detr'"):
        take(store, snapshot(config=config(num_queries=6)))


def test_a_folder_is_resolved_under_its_own_name_and_hash(
    store: Store, snapshot: Write, tmp_path: Path
) -> None:
    first = resolve(store, str(snapshot()))
    assert first.manifest.name.startswith("snapshot-")
    assert resolve(store, str(snapshot())).digest == first.digest
    assert resolve(store, first.manifest.name).digest == first.digest
    assert resolve(store, str(first.path)).digest == first.digest


def test_every_file_of_a_folder_is_in_its_name(store: Store, snapshot: Write) -> None:
    folder = snapshot(weights=None)
    shards = {HEAD: "1.safetensors", "other": "2.safetensors", "another": "2.safetensors"}

    def write(name: str, content: bytes | dict[str, Any]) -> str:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name).write_bytes(data)
        return name

    other = safetensors({"other": ("F32", np.ones(3, np.float32))})
    write("1.safetensors", weights())
    write("2.safetensors", other)
    write("model.safetensors.index.json", {"weight_map": shards})
    found = [resolve(store, str(folder)).manifest.name]
    for name, content in (
        ("2.safetensors", other.replace(b"other", b"OTHER")),
        ("config.json", config(num_queries=7)),
        ("preprocessor_config.json", {"size": {"height": 320, "width": 352}}),
        ("processor_config.json", {"image_processor": {"size": {"height": 64, "width": 64}}}),
        ("model.safetensors.index.json", {"weight_map": shards, "metadata": {}}),
    ):
        write(name, content)
        found.append(resolve(store, str(folder)).manifest.name)
    assert len(set(found)) == 6
    write("README.md", b"of no interest")
    assert resolve(store, str(folder)).manifest.name == found[-1]
    assert store.open(found[-1]).manifest.preprocessing.size_hw == (64, 64)


def test_a_pickle_is_read_only_by_leave(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "yolo.pt"
    path.write_bytes(b"PK")
    with pytest.raises(InvalidArtifact, match="is a pickle") as refusal:
        import_ultralytics(store, path, name="yolo")
    assert "--allow-pickle" in refusal.value.hint
    with pytest.raises(InvalidArtifact, match="is a pickle"):
        resolve(store, str(path))
    with pytest.raises(InvalidArtifact, match="does not exist"):
        import_ultralytics(store, tmp_path / "gone.pt", name="yolo")
    assert store.names() == []
