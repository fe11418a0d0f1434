"""The choice of files, told by what a repository holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seatrial.errors import InvalidArtifact, InvalidInput, UnknownFamily
from seatrial.models.hubs import selection
from seatrial.models.hubs.listing import RemoteFile, Snapshot
from seatrial.models.hubs.reference import Reference

WHOLE = ("config.json", "preprocessor_config.json", "README.md", "model.safetensors")


def repository(*paths: str) -> Snapshot:
    files = tuple(RemoteFile(path, 1, sha256="0" * 64) for path in paths)
    return Snapshot("huggingface", "a/b", "c" * 40, "mit", files)


def names(files: list[RemoteFile]) -> list[str]:
    return [file.path for file in files]


def test_descriptions_begin_with_the_configuration() -> None:
    found = selection.descriptions(repository("x.h5", *WHOLE, "processor_config.json"))
    first, second, card = WHOLE[:3]
    assert names(found) == [first, second, "processor_config.json", card]


@pytest.mark.parametrize(
    ("paths", "hint"),
    [
        (("model.safetensors",), "it has no .onnx file either"),
        (("deep/er/a.onnx", "b.onnx"), "huggingface:a/b/b.onnx, huggingface:a/b/deep/er/a.onnx"),
        (("1.onnx", "2.onnx", "3.onnx", "long.onnx"), "a/b/1.onnx, huggingface:a/b/2.onnx, "
         "huggingface:a/b/3.onnx"),
    ],
)  # fmt: skip
def test_a_repository_of_another_kind(paths: tuple[str, ...], hint: str) -> None:
    with pytest.raises(InvalidArtifact, match="a/b is not a transformers model") as refusal:
        selection.descriptions(repository(*paths))
    assert hint in refusal.value.hint
    assert "long.onnx" not in refusal.value.hint


def test_a_type_that_no_family_runs(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    for kind in ("detr", "rt_detr", "rt_detr_v2", "d_fine"):
        config.write_text(json.dumps({"model_type": kind}))
        selection.check_config(config, repository(*WHOLE))
    config.write_text("{}")
    with pytest.raises(UnknownFamily, match="has the type ''") as refusal:
        selection.check_config(config, repository(*WHOLE))
    assert "detr" in refusal.value.hint


@pytest.mark.parametrize(
    ("paths", "allow", "index", "weights"),
    [
        (WHOLE, False, None, ["model.safetensors"]),
        ((*WHOLE, "pytorch_model.bin"), True, None, ["model.safetensors"]),
        (("model.safetensors.index.json", "model.safetensors"), False, None, ["model.safetensors"]),
        (("pytorch_model.bin",), True, None, ["pytorch_model.bin"]),
        (("model.safetensors.index.json", "pytorch_model.bin"), False,
         "model.safetensors.index.json", None),
        (("pytorch_model.bin.index.json",), True, "pytorch_model.bin.index.json", None),
    ],
)  # fmt: skip
def test_safetensors_go_first_and_one_file_before_shards(
    paths: tuple[str, ...], allow: bool, index: str | None, weights: list[str] | None
) -> None:
    snapshot = repository(*paths)
    found = selection.weights_index(snapshot, allow_pickle=allow)
    assert (found and found.path) == index
    if weights is not None:
        assert names(selection.weights(snapshot, None)) == weights


@pytest.mark.parametrize("path", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickles_need_leave(path: str) -> None:
    with pytest.raises(InvalidArtifact, match=f"pickle only .{path}.") as refusal:
        selection.weights_index(repository("config.json", path), allow_pickle=False)
    assert "--allow-pickle" in refusal.value.hint


def test_shards_once_each_and_in_order(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors",
                                                "c": "2.safetensors"}}))  # fmt: skip
    snapshot = repository("1.safetensors", "2.safetensors", "3.safetensors")
    assert names(selection.weights(snapshot, index)) == ["1.safetensors", "2.safetensors"]


@pytest.mark.parametrize("name", ["gone.safetensors", "a/1.safetensors", ".safetensors", "1.py"])
def test_shards_that_are_not_there_or_elsewhere(tmp_path: Path, name: str) -> None:
    index = tmp_path / "i.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(InvalidArtifact, match="is not a file beside it"):
        selection.weights(repository("a/1.safetensors", ".safetensors", "1.py"), index)


def test_one_file_by_its_path() -> None:
    snapshot = repository("onnx/model.onnx", "weights.pt", "README.md")

    def single(path: str) -> RemoteFile:
        return selection.single(snapshot, Reference("huggingface", "a/b", path))

    assert single("onnx/model.onnx").path == "onnx/model.onnx"
    with pytest.raises(InvalidInput, match=r"has no file 'model\.onnx'"):
        single("model.onnx")
    with pytest.raises(InvalidArtifact, match="is a pickle"):
        single("weights.pt")
    with pytest.raises(InvalidArtifact, match=r"not an \.onnx file"):
        single("README.md")


def test_the_nearest_description_of_a_file() -> None:
    snapshot = repository("config.json", "onnx/config.json", "labels.txt", "sub/labels.txt")
    found = selection.beside(snapshot, RemoteFile("onnx/model.onnx", 1))
    assert names(found) == ["onnx/config.json", "labels.txt"]
    snapshot = repository("processor_config.json", "onnx/preprocessor_config.json")
    found = selection.beside(snapshot, RemoteFile("onnx/model.onnx", 1))
    assert names(found) == ["onnx/preprocessor_config.json", "processor_config.json"]
