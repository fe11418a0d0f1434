"""What a person names as a model is one artifact, whatever the command."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.models.import_onnx import import_onnx, onnx_files
from seatrial.models.resolve import import_model, resolve

ModelFile = Callable[..., Path]


@pytest.mark.parametrize("word", ["./tiny.onn", "tiny.onn", "{}/tiny.onn", "tinny.onnx"])
def test_a_file_beside_is_the_hint_for_a_path(
    tmp_path: Path, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_artifact.file("onnx"), "tiny.onnx")
    with pytest.raises(InvalidArtifact, match=r"tinn?y\.onnx? does not exist") as refusal:
        resolve(Store(tmp_path / "store"), word.format(tmp_path))
    assert refusal.value.hint.startswith("did you mean ")
    assert refusal.value.hint.endswith("tiny.onnx?")


def test_what_is_in_the_store_is_the_hint_before_what_can_be_fetched(
    tmp_path: Path, tiny_artifact: Artifact
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(InvalidArtifact, match="no artifact named 'yolo11'") as refusal:
        resolve(store, "yolo11")
    assert "it is fetched by: seatrial models pull yolo11" in refusal.value.hint
    shutil.copytree(tiny_artifact.path, store.root / "yolo11n")
    with pytest.raises(InvalidArtifact, match="it holds: yolo11n") as refusal:
        resolve(store, "yolo11")
    assert refusal.value.hint == "did you mean 'yolo11n'?"


def test_resolving_a_name_a_folder_and_a_file(
    store: Store, model_file: ModelFile, tiny_artifact: Artifact
) -> None:
    path = model_file("My Model.onnx")
    named = import_onnx(store, path, name="named")
    assert resolve(store, "named").digest == named.digest
    assert resolve(store, str(tiny_artifact.path)).digest == tiny_artifact.digest
    from_file = resolve(store, str(path))
    assert from_file.manifest.name.startswith("my-model-")
    assert resolve(store, str(path)).digest == from_file.digest
    assert (store.names(), store.imports.names()) == (["named"], [from_file.manifest.name])


def test_a_folder_by_the_name_of_an_artifact_is_not_taken_for_it(
    tiny_artifact: Artifact, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures that a model was trained on often go by its name."""
    model = tiny_artifact.path / "model.onnx"
    stored = import_onnx(store, model, name="digits")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir(exist_ok=True)
    assert resolve(store, "digits").path == stored.path
    with pytest.raises(InvalidArtifact, match="is not an artifact"):
        resolve(store, "./digits")


def test_resolving_what_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidArtifact, match="no artifact named 'nothing'"):
        resolve(store, "nothing")
    with pytest.raises(InvalidArtifact, match="does not exist"):
        resolve(store, str(tmp_path / "gone.onnx"))
    with pytest.raises(InvalidArtifact, match="is not an artifact"):
        resolve(store, str(tmp_path))
    (tmp_path / "weights.bin").write_bytes(b"PK")
    with pytest.raises(InvalidArtifact, match="not a model file that is read here") as refusal:
        resolve(store, str(tmp_path / "weights.bin"))
    assert ".onnx" in refusal.value.hint


@pytest.mark.usefixtures("time_limit")
def test_a_pipe_or_a_device_is_no_model_and_is_not_waited_for(store: Store, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/null")):
        for take in (lambda: resolve(store, str(path)), lambda: import_model(store, path)):  # noqa: B023
            with pytest.raises(InvalidArtifact, match=f"{path} is not a regular file") as refusal:
                take()
            assert "ls -l" not in refusal.value.hint
    folder = tmp_path / "artifact"
    folder.mkdir()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(InvalidArtifact, match=r"cannot be read \(it is not a regular"):
        resolve(store, str(folder))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc on this system")
def test_a_file_whose_reading_fails_is_named(store: Store) -> None:
    with pytest.raises(InvalidArtifact, match="/proc/self/mem cannot be read: ") as refusal:
        resolve(store, "/proc/self/mem")
    assert "regular file" in refusal.value.hint


@pytest.mark.usefixtures("time_limit")
def test_weights_that_are_a_pipe_are_not_waited_for(store: Store, model_file: ModelFile) -> None:
    path = model_file("ir.xml")
    path.write_text("<net />")
    os.mkfifo(path.with_suffix(".bin"))
    with pytest.raises(InvalidArtifact):
        resolve(store, str(path))


def test_a_changed_file_of_the_same_name_is_another_artifact(
    store: Store, model_file: ModelFile
) -> None:
    first = resolve(store, str(model_file()))
    second = resolve(store, str(model_file(names=("red", "green"))))
    assert first.manifest.name != second.manifest.name


def test_a_plain_file_is_named_by_its_own_hash(store: Store, model_file: ModelFile) -> None:
    path = model_file()
    name = f"tiny-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    assert resolve(store, str(path)).manifest.name == name


def within_a_branch(model: Any, tensor: Any) -> None:
    """Move a tensor into a subgraph."""
    body = helper.make_graph([], "body", [], [], initializer=[tensor])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=body))


def within_a_constant(model: Any, tensor: Any) -> None:
    """Move a tensor into a node."""
    model.graph.node.append(helper.make_node("Constant", [], ["o"], value=tensor))


def among_the_weights(model: Any, tensor: Any) -> None:
    """Leave a tensor where weights are."""
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize("put", [within_a_branch, within_a_constant, among_the_weights])
def test_external_data_is_among_a_models_files(
    tmp_path: Path, put: Callable[[Any, Any], None]
) -> None:
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="more.bin")
    tensor.external_data.add(key="offset", value="0")
    model = helper.make_model(helper.make_graph([], "g", [], []))
    put(model, tensor)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    assert onnx_files(path) == [path]  # the other file is missing: the import says so
    (tmp_path / "more.bin").write_bytes(bytes(16))
    assert onnx_files(path) == [path, tmp_path / "more.bin"]


def test_changed_external_data_is_another_artifact(store: Store, model_file: ModelFile) -> None:
    path = model_file()
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="tiny.data", size_threshold=0)
    data = path.with_name("tiny.data")
    first = resolve(store, str(path))
    assert resolve(store, str(path)).digest == first.digest
    values = np.frombuffer(data.read_bytes(), np.uint8).copy()
    values[0] ^= 1
    data.write_bytes(values.tobytes())
    second = resolve(store, str(path))
    assert second.manifest.name != first.manifest.name
    assert second.digest != first.digest


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "processor_config.json", "labels.txt"]
)
def test_a_changed_description_beside_a_model_is_another_artifact(
    store: Store, model_file: ModelFile, name: str
) -> None:
    path = model_file()
    found = [resolve(store, str(path)).manifest.name]
    for content in ("red", "green"):
        (path.parent / name).write_text(content)
        found.append(resolve(store, str(path)).manifest.name)
    assert len(set(found)) == 3
    (path.parent / "notes.txt").write_text("of no interest")
    assert resolve(store, str(path)).manifest.name == found[-1]


def test_a_name_with_the_ending_of_a_file_is_a_name(store: Store, model_file: ModelFile) -> None:
    named = import_onnx(store, model_file(), name="mine.onnx")
    assert resolve(store, "mine.onnx").path == named.path


def test_a_checkpoint_that_is_missing_is_told(store: Store, tmp_path: Path) -> None:
    for ending in (".onnx", ".pt"):
        with pytest.raises(InvalidArtifact, match=rf"gone\{ending} does not exist"):
            resolve(store, str(tmp_path / f"gone{ending}"))


def test_a_pickle_is_refused_with_a_command_that_takes_it(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"PK")
    said = set()
    for refuse in (lambda: resolve(store, str(path)), lambda: import_model(store, path)):
        with pytest.raises(InvalidArtifact, match=r"weights\.pt is a pickle") as refusal:
            refuse()
        said.add(refusal.value.hint)
    assert len(said) == 1
    assert f"seatrial models import {path} --allow-pickle" in said.pop()
    assert store.names() == []


def test_importing_gives_the_stem_as_name_or_the_given_one(
    store: Store, model_file: ModelFile
) -> None:
    path = model_file()
    assert import_model(store, path).manifest.name == "tiny"
    assert import_model(store, path, name="mine").manifest.name == "mine"
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        import_model(store, path, name="")
    other = model_file(names=("red", "green"))
    with pytest.raises(InvalidInput, match="already has another artifact"):
        import_model(store, other)
    assert import_model(store, other, replace=True).manifest.labels == ("red", "green")


def test_importing_what_is_no_model(store: Store, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InvalidArtifact, match="not a model file that is read here"):
        import_model(store, tmp_path / "notes.txt")
    with pytest.raises(InvalidArtifact, match="does not exist"):
        import_model(store, tmp_path / "gone")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidArtifact, match="not a model file that is read here"):
        import_model(store, tmp_path / "folder")


def test_a_folder_that_is_a_checkpoint_is_imported(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "run-3"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    for open_it in (lambda: resolve(store, str(folder)), lambda: import_model(store, folder)):
        with pytest.raises(InvalidArtifact, match=r"gpt2|safetensors"):
            open_it()


def test_the_hint_for_a_name_that_is_not_there(store: Store, tiny_artifact: Artifact) -> None:
    import_onnx(store, tiny_artifact.path / "model.onnx", name="traffic-signs")
    for name, hint in (
        ("yolo11n", "fetch it first: seatrial models pull yolo11n"),
        ("yolo11", "did you mean 'yolo11"),
        ("trafic-sign", "did you mean 'traffic-signs'?"),
        ("q", "seatrial models pull NAME"),
    ):
        with pytest.raises(InvalidArtifact) as refusal:
            resolve(store, name)
        assert refusal.value.hint.startswith(hint)


def test_no_name_is_not_the_folder_of_the_moment(store: Store) -> None:
    with pytest.raises(InvalidInput, match="the name of the model is empty"):
        resolve(store, "")


def test_a_snapshot_of_the_hub_with_its_graph_in_a_folder(
    store: Store, model_file: ModelFile, tmp_path: Path
) -> None:
    graph = model_file()
    folder = tmp_path / "snapshot"
    for name in ("onnx/model.onnx", "onnx/model_fp16.onnx"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(graph.read_bytes())
    config = {"model_type": "detr", "id2label": {"0": "cat"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidArtifact, match=r"2 graphs: onnx/model\.onnx, onnx/m") as refusal:
        import_model(store, folder)
    assert refusal.value.hint == f"name one of them: {folder / 'onnx/model.onnx'}"
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InvalidArtifact, match=r"no weights in safetensors") as refusal:
        import_model(store, folder)
    assert refusal.value.hint == f"name its graph: {folder / 'onnx/model.onnx'}"
    (folder / "pytorch_model.bin").unlink()
    (folder / "onnx/model_fp16.onnx").unlink()
    taken = import_model(store, folder)
    assert (taken.manifest.name, taken.manifest.family) == ("snapshot", "yolo")
    assert resolve(store, str(folder)).manifest.name.startswith("snapshot-")
    (folder / "config.json").unlink()  # some folder of the model's name
    with pytest.raises(InvalidArtifact, match="not a model file that is read here"):
        import_model(store, folder)
