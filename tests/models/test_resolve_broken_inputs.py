"""Broken inputs in one table: each a clear error, and the store byte for byte as it was.

What breaks one step alone is tested beside that step; here is what a person runs into first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from full_disk import largest_file
from seatrial.artifact import MANIFEST, Artifact, Store
from seatrial.datasets.labels import match_labels
from seatrial.datasets.read import read_labelled
from seatrial.errors import SeatrialError
from seatrial.export.verify import read_images
from seatrial.models.import_checkpoint import import_transformers, import_ultralytics
from seatrial.models.import_onnx import import_onnx
from seatrial.models.resolve import resolve

Work = Callable[["Bench"], object]


class Bench:
    """A store with a sound artifact in it, a folder to break things in, and what makes them."""

    def __init__(self, root: Path, build: Callable[..., Any], photo: bytes) -> None:
        self.folder, self.build = root / "inputs", build
        self.folder.mkdir()
        self.store = Store(root / "store")
        onnx.save(build(), self.folder / "sound.onnx")
        self.sound: Artifact = import_onnx(self.store, self.folder / "sound.onnx")
        images = self.folder / "images"
        images.mkdir()
        for name in ("1.jpg", "2.jpg"):
            (images / name).write_bytes(photo)
        self.labels()

    def model(self, change: Callable[[Any], None] | None = None, **variant: Any) -> Artifact:
        """Import a model that is changed first."""
        model = self.build(**variant)
        if change is not None:
            change(model)
        onnx.save(model, self.folder / "broken.onnx")
        return import_onnx(self.store, self.folder / "broken.onnx")

    def cut(self, share: float) -> Artifact:
        data = (self.folder / "sound.onnx").read_bytes()
        (self.folder / "broken.onnx").write_bytes(data[: int(len(data) * share)])
        return import_onnx(self.store, self.folder / "broken.onnx")

    def labels(self, **changes: Any) -> Path:
        """COCO's file for the two images; a change replaces a key of it."""
        box = {"category_id": 1, "bbox": [8, 8, 16, 16], "area": 256, "iscrowd": 0}
        document = {
            "images": [
                {"id": n, "file_name": f"{n}.jpg", "width": 128, "height": 128} for n in (1, 2)
            ],
            "annotations": [{"id": n, "image_id": n, **box} for n in (1, 2)],
            "categories": [{"id": 1, "name": "red"}],
            **changes,
        }
        path = self.folder / "images" / "instances.json"
        path.write_text(json.dumps(document))
        return path

    def read(self, **changes: Any) -> Any:
        self.labels(**changes)
        return read_labelled(f"coco:{self.folder / 'images'}")

    def snapshot(self, **files: bytes) -> Artifact:
        """Import a checkpoint of transformers; every file is as given."""
        folder = self.folder / "snapshot"
        folder.mkdir()
        for name, data in files.items():
            (folder / name.replace("_json", ".json").replace("_st", ".safetensors")).write_bytes(
                data
            )
        return import_transformers(
            self.store, folder, name="broken", uri="test:broken", licence="mit"
        )

    def pickle(self) -> Artifact:
        (self.folder / "broken.pt").write_bytes(b"PK")
        return import_ultralytics(self.store, self.folder / "broken.pt", name="broken")

    def unclear_image(self) -> object:
        (self.folder / "images" / "2.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
        return read_images(self.folder / "images")

    def full_disk(self) -> Artifact:
        with largest_file(50):
            return import_onnx(self.store, self.folder / "sound.onnx", name="another")

    def tampered(self) -> Artifact:
        """An artifact outside of the store that was changed after it was written."""
        copy = shutil.copytree(self.sound.path, self.folder / "copy")
        file = copy / self.sound.manifest.formats["onnx"]
        file.write_bytes(file.read_bytes() + b"\0")
        return resolve(self.store, str(copy))

    def strange_manifest(self) -> Artifact:
        copy = shutil.copytree(self.sound.path, self.folder / "copy")
        manifest = json.loads((copy / MANIFEST).read_bytes())
        (copy / MANIFEST).write_bytes(msgspec.json.encode({**manifest, "labelz": []}))
        return resolve(self.store, str(copy))


def not_numbers(model: Any) -> None:
    weights = next(t for t in model.graph.initializer if t.name == "weights")
    values = numpy_helper.to_array(weights).copy()
    values.flat[0] = np.nan
    weights.CopyFrom(numpy_helper.from_array(values, "weights"))


def opset(version: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.opset_import[0].version = version

    return change


BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 16, 16], "area": 256, "iscrowd": 0}
CONFIG = json.dumps({"model_type": "detr", "id2label": {"0": "cat"}}).encode()

# What is wrong, what runs into it, and the input that the message names.
BROKEN: list[tuple[str, Work, str]] = [
    ("an empty ONNX file", lambda b: b.cut(0), "broken.onnx"),
    ("half an ONNX file", lambda b: b.cut(0.5), "broken.onnx"),
    ("a file that is not there", lambda b: import_onnx(b.store, b.folder / "gone.onnx"), "gone"),
    ("an opset of the future", lambda b: b.model(opset(99)), "opset"),
    ("fewer labels than classes", lambda b: b.model(metadata={"names": "{0: 'a'}"}), "broken.onnx"),
    ("class names that are none", lambda b: b.model(metadata={"names": "red"}), "broken.onnx"),
    ("another task", lambda b: b.model(metadata={"task": "segment"}), "broken.onnx"),
    ("weights that are not numbers", lambda b: b.model(not_numbers), "weights"),
    ("a name that is no name", lambda b: import_onnx(
        b.store, b.folder / "sound.onnx", name="../up"), "../up"),
    ("a file that was changed later", Bench.tampered, "tiny.onnx|model.onnx|sound.onnx"),
    ("a manifest with a typo", Bench.strange_manifest, "labelz"),
    ("a pickle", Bench.pickle, "broken.pt"),
    ("a checkpoint without weights", lambda b: b.snapshot(config_json=CONFIG), "safetensors"),
    ("cut-off safetensors", lambda b: b.snapshot(
        config_json=CONFIG, model_st=b"\x40\0\0\0\0\0\0\0{"), "model.safetensors"),
    ("a configuration of no detector", lambda b: b.snapshot(
        config_json=b'{"model_type": "gpt2"}', model_st=b""), "gpt2"),
    ("labels of an image that is not listed", lambda b: b.read(
        annotations=[{**BOX, "image_id": 7}]), "7"),
    ("labels of a class that is not listed", lambda b: b.read(
        annotations=[{**BOX, "category_id": 9}]), "9"),
    ("an image that is not there", lambda b: b.read(
        images=[
            {"id": n, "file_name": name, "width": 128, "height": 128}
            for n, name in ((1, "1.jpg"), (2, "gone.jpg"))
        ]), "gone.jpg"),
    ("classes that the model has not", lambda b: match_labels(
        b.sound.manifest.labels, b.read(categories=[{"id": 1, "name": "zebra"}])), "'red'"),
    ("one broken image among the good", Bench.unclear_image, "2.jpg"),
    ("a disk that is full", Bench.full_disk, "store"),
]  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Callable[..., Any], photo: bytes) -> Bench:
    return Bench(tmp_path, tiny_model, photo)


def contents(root: Path) -> dict[str, bytes | None]:
    """Every file and folder of a store, hidden ones too."""
    return {
        str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")
    }


@pytest.mark.parametrize(("work", "named"), [row[1:] for row in BROKEN], ids=[r[0] for r in BROKEN])
def test_a_broken_input_is_one_clear_error_and_the_store_is_as_it_was(
    bench: Bench, work: Work, named: str
) -> None:
    before = contents(bench.store.root)
    with pytest.raises(SeatrialError) as refusal:
        work(bench)
    assert any(part in refusal.value.message for part in named.split("|")), refusal.value.message
    assert refusal.value.hint, refusal.value.message
    assert refusal.value.exit_code in range(2, 10)
    assert contents(bench.store.root) == before


def test_the_sound_ones_are_taken(bench: Bench) -> None:
    """Else every row above could fail for a reason of the table's own."""
    assert import_onnx(bench.store, bench.folder / "sound.onnx", name="b").manifest.name == "b"
    assert len(bench.read().truth) == 2
    assert len(read_images(bench.folder / "images")) == 2
    copy = shutil.copytree(bench.sound.path, bench.folder / "copy")
    assert resolve(bench.store, str(copy)).digest == bench.sound.digest
