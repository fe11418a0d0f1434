"""A transformers checkpoint over the wire: which files, in which form, read by the real code."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.errors import InvalidArtifact, NotWritable, SourceUnavailable, UnknownFamily
from seatrial.models.hubs import fetch as module
from seatrial.models.hubs.fetch import Fetch, checkpoint, single_file
from seatrial.models.hubs.reference import parse
from seatrial.models.sources.table import pull
from seatrial.progress import silent

pytestmark = pytest.mark.slow

CONFIG = json.dumps({"model_type": "detr", "id2label": {"0": "cat"}}).encode()
CARD = b"---\nlicense: apache-2.0\n---\n# A detector\n"


def safetensors(tensors: dict[str, list[float]]) -> bytes:
    """The format by hand: length, header, data."""
    header, data = {}, b""
    for name, values in tensors.items():
        packed = struct.pack(f"<{len(values)}f", *values)
        offsets = [len(data), len(data) + len(packed)]
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": offsets}
        data += packed
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


WHOLE = {
    "config.json": CONFIG,
    "preprocessor_config.json": b"{}",
    "README.md": CARD,
    "model.safetensors": safetensors({"weight": [1.0, 2.0]}),
}
REST = {
    "pytorch_model.bin": b"PK",
    "tf_model.h5": b"HDF",
    "onnx/model.onnx": b"ONNX",
    "runs/events.out": b"log",
    ".gitattributes": b"*.bin filter=lfs",
}


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def fetch(client_of: Any, tmp_path: Path, told: list[str]) -> Callable[..., Path]:
    """``fetch("huggingface:a/b", allow_pickle=True)``: the folder with the checkpoint."""

    def on_progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if not unit:
            told.append(what)

    def run(text: str, *, allow_pickle: bool = False) -> Path:
        reference = parse(text)
        client = client_of(reference.source)
        job = Fetch(client, client.snapshot(reference), tmp_path / "to", on_progress)
        return checkpoint(job, allow_pickle=allow_pickle)

    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fetched(hub: Any) -> set[str]:
    """Files of which content was asked for."""
    paths = {
        path for repo in hub.repos.values() for files in repo.commits.values() for path in files
    }
    content = [seen.path for seen in hub.seen if "resolve" in seen.path or "FilePath" in seen.path]
    return {path for path in paths if any(url.endswith(path) for url in content)}


def test_only_what_is_needed_is_fetched(hub: Any, fetch: Callable[..., Path], source: str) -> None:
    hub.add("acme/detr", WHOLE | REST)
    folder = fetch(f"{source}:acme/detr")
    assert names(folder) == set(WHOLE)
    assert fetched(hub) == set(WHOLE)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == WHOLE


def test_a_checkpoint_in_shards(hub: Any, fetch: Callable[..., Path], source: str) -> None:
    shards = {
        "model-00001-of-00002.safetensors": safetensors({"a": [1.0]}),
        "model-00002-of-00002.safetensors": safetensors({"b": [2.0], "c": [3.0]}),
    }
    one, two = shards
    index = {"metadata": {}, "weight_map": {"a": one, "b": two, "c": two}}
    files = {"config.json": CONFIG, "model.safetensors.index.json": json.dumps(index).encode()}
    hub.add("acme/big", files | shards | {"model-00003-of-00002.safetensors": b"stray"})
    assert names(fetch(f"{source}:acme/big")) == {*files, *shards}


@pytest.mark.parametrize(
    "name", ["../../escape.safetensors", "gone.safetensors", "a/b.bin", "b.bin", ""]
)
def test_an_index_that_names_other_files(
    hub: Any, fetch: Callable[..., Path], source: str, name: str
) -> None:
    index = json.dumps({"weight_map": {"a": name}}).encode()
    files = {"config.json": CONFIG, "model.safetensors.index.json": index}
    hub.add("acme/bad", files | ({name: b"x"} if name.endswith(".bin") or "/" in name else {}))
    with pytest.raises(InvalidArtifact, match="is not a file beside it"):
        fetch(f"{source}:acme/bad")


@pytest.mark.parametrize("index", [b"", b"[]", b'{"weight_map": [1]}', b"\xff"])
def test_an_index_that_is_broken(
    hub: Any, fetch: Callable[..., Path], source: str, index: bytes
) -> None:
    hub.add("acme/bad", {"config.json": CONFIG, "model.safetensors.index.json": index})
    with pytest.raises(InvalidArtifact, match="is broken"):
        fetch(f"{source}:acme/bad")


def test_an_index_without_weights(hub: Any, fetch: Callable[..., Path], source: str) -> None:
    index = b'{"metadata": {}, "weight_map": {}}'
    hub.add("acme/bad", {"config.json": CONFIG, "model.safetensors.index.json": index})
    with pytest.raises(InvalidArtifact, match=r"model\.safetensors\.index\.json names no weights"):
        fetch(f"{source}:acme/bad")


def test_weights_are_not_fetched_for_a_model_that_cannot_run(
    hub: Any, fetch: Callable[..., Path], source: str
) -> None:
    hub.add("acme/bert", WHOLE | {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(UnknownFamily, match="has the type 'bert'") as refusal:
        fetch(f"{source}:acme/bert")
    assert "rt_detr_v2" in refusal.value.hint
    assert "model.safetensors" not in fetched(hub)


@pytest.mark.parametrize("config", [b"", b"<html>", b"[1]", b'{"model_type": 3}'])
def test_a_configuration_that_is_none(
    hub: Any, fetch: Callable[..., Path], source: str, config: bytes
) -> None:
    hub.add("acme/bad", WHOLE | {"config.json": config})
    with pytest.raises(InvalidArtifact, match=r"config\.json"):
        fetch(f"{source}:acme/bad")


def test_a_repository_with_onnx_files_only(
    hub: Any, fetch: Callable[..., Path], source: str
) -> None:
    hub.add("acme/onnx", {"a/model.onnx": b"x", "b.onnx": b"x"})
    with pytest.raises(InvalidArtifact, match="not a transformers model") as refusal:
        fetch(f"{source}:acme/onnx")
    assert f"{source}:acme/onnx/b.onnx, {source}:acme/onnx/a/model.onnx" in refusal.value.hint


def test_a_repository_without_weights(hub: Any, fetch: Callable[..., Path], source: str) -> None:
    hub.add("acme/empty", {"config.json": CONFIG})
    with pytest.raises(InvalidArtifact, match=r"has no model\.safetensors"):
        fetch(f"{source}:acme/empty")


def test_a_pickle_is_refused_before_it_is_fetched(
    hub: Any, fetch: Callable[..., Path], source: str
) -> None:
    hub.add("acme/old", {"config.json": CONFIG, "pytorch_model.bin": b"\x80"})
    with pytest.raises(InvalidArtifact, match="can run code when it is read") as refusal:
        fetch(f"{source}:acme/old")
    assert "--allow-pickle" in refusal.value.hint
    assert "pytorch_model.bin" not in fetched(hub)


def test_safetensors_go_before_pickles_that_are_allowed(
    hub: Any, fetch: Callable[..., Path], source: str
) -> None:
    hub.add("acme/both", WHOLE | {"pytorch_model.bin": b"\x80"})
    assert names(fetch(f"{source}:acme/both", allow_pickle=True)) == set(WHOLE)


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (open, (str(self.mark), "w"))


def test_a_pickle_that_runs_code_is_not_read(
    hub: Any, fetch: Callable[..., Path], source: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    bomb = pickle.dumps(_Bomb(tmp_path / "gone-off"))
    hub.add("acme/evil", {"config.json": CONFIG, "pytorch_model.bin": bomb})
    with pytest.raises(InvalidArtifact, match="holds more than tensors") as refusal:
        fetch(f"{source}:acme/evil", allow_pickle=True)
    assert "may run code" in refusal.value.hint
    assert not (tmp_path / "gone-off").exists()
    pickle.loads(bomb).close()
    assert (tmp_path / "gone-off").exists()  # it would have
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_pickle_that_is_allowed_becomes_safetensors(
    hub: Any, fetch: Callable[..., Path], source: str, tmp_path: Path, told: list[str]
) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    shared = torch.arange(6.0)
    saved = {"a": shared, "tied": shared, "view": shared.reshape(2, 3).T, "half": shared.half()}
    torch.save(saved, tmp_path / "w.bin")
    hub.add(
        "acme/old", {"config.json": CONFIG, "pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    )
    folder = fetch(f"{source}:acme/old", allow_pickle=True)
    assert names(folder) == {"config.json", "model.safetensors"}
    read = load_file(folder / "model.safetensors")
    assert read.keys() == saved.keys()
    assert all(torch.equal(read[name], saved[name]) for name in saved)
    assert told == ["rewriting pickled weights as safetensors"]


def test_no_room(
    hub: Any, fetch: Callable[..., Path], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/detr", WHOLE)
    nearly = module.shutil._ntuple_diskusage(10**9, 10**9, 10)  # type: ignore[attr-defined]
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: nearly)
    with pytest.raises(NotWritable, match="has room for 10 bytes") as refusal:
        fetch(f"{source}:acme/detr")
    assert "SEATRIAL_HOME" in refusal.value.hint
    assert fetched(hub) == set()


def test_a_folder_that_is_a_file(
    hub: Any, fetch: Callable[..., Path], source: str, tmp_path: Path
) -> None:
    hub.add("acme/detr", WHOLE)
    (tmp_path / "to").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"):
        fetch(f"{source}:acme/detr")


def test_a_small_file_that_was_changed_on_its_way(
    hub: Any, fetch: Callable[..., Path], source: str, fault: Callable[..., Any]
) -> None:
    """Also those have a hash: git's on Hugging Face, sha256 on ModelScope."""
    hub.add("acme/detr", WHOLE)
    changed = CONFIG.replace(b"cat", b"dog")
    for route in ("resolve", "FilePath"):
        hub.faults.append(fault(route, body=changed))
    with pytest.raises(SourceUnavailable, match=r"config\.json .* is not the file that it lists"):
        fetch(f"{source}:acme/detr")


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b"top", "labels.txt": b"top", "onnx/preprocessor_config.json": b"near"},
        {"config.json": b"far", "onnx/config.json": b"near", "sub/labels.txt": b"far"},
        {},
    ],
)
def test_an_onnx_file_comes_with_what_describes_it(
    hub: Any, client_of: Any, tmp_path: Path, source: str, files: dict[str, bytes]
) -> None:
    hub.add("acme/onnx", {"onnx/model.onnx": b"graph", "README.md": CARD} | files)
    reference = parse(f"{source}:acme/onnx/onnx/model.onnx")
    client = client_of(source)
    path = single_file(
        Fetch(client, client.snapshot(reference), tmp_path / "to", silent), reference
    )
    assert path.read_bytes() == b"graph"
    found = {p.name: p.read_bytes() for p in path.parent.iterdir() if p != path}
    kept = {Path(p).name: data for p, data in files.items() if data != b"far"}
    assert found == kept


def _tiny(transformers: Any, kind: str) -> Any:
    """A small model of the real architecture, randomly initialised."""
    pytest.importorskip("torch").manual_seed(0)
    backbone = {
        "embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1],
        "layer_type": "basic", "out_features": ["stage4"],
    }  # fmt: skip
    if kind == "detr":
        config = transformers.DetrConfig(
            backbone_config=transformers.ResNetConfig(**backbone), use_timm_backbone=False,
            use_pretrained_backbone=False, backbone=None, d_model=16, encoder_layers=1,
            decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5, num_labels=3,
        )  # fmt: skip
        return transformers.DetrForObjectDetection(config)
    backbone["out_features"] = ["stage2", "stage3", "stage4"]
    config = transformers.RTDetrV2Config(
        backbone_config=transformers.RTDetrResNetConfig(**backbone), encoder_hidden_dim=16,
        encoder_in_channels=[12, 16, 20], d_model=16, num_queries=5, num_labels=3,
        decoder_in_channels=[16, 16, 16], encoder_ffn_dim=16, decoder_ffn_dim=16,
        decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, num_denoising=0,
    )  # fmt: skip
    return transformers.RTDetrV2ForObjectDetection(config)


@pytest.mark.parametrize("shard", ["100MB", "20KB"])
def test_transformers_loads_what_came(
    hub: Any, fetch: Callable[..., Path], source: str, tmp_path: Path, shard: str,
    transformers: Any,
) -> None:  # fmt: skip
    torch = pytest.importorskip("torch")
    model = _tiny(transformers, "rt_detr_v2")
    model.save_pretrained(tmp_path / "saved", max_shard_size=shard)
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    assert ("model.safetensors" in files) == (shard == "100MB")
    hub.add("acme/tiny", files | REST)
    folder = fetch(f"{source}:acme/tiny")
    assert names(folder) == set(files)
    auto = transformers.AutoModelForObjectDetection
    loaded = auto.from_pretrained(folder, local_files_only=True)
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())


def test_an_artifact_of_it(
    hub: Any, source: str, tmp_path: Path, store: Any, options: Any, told: list[str],
    transformers: Any,
) -> None:  # fmt: skip
    """End to end: the model of the first example, but small."""
    _tiny(transformers, "detr").save_pretrained(tmp_path / "saved")
    processor = transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    processor.save_pretrained(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    repo = hub.add("facebook/detr-resnet-50", files | REST | {"README.md": CARD})
    text = f"{source}:facebook/detr-resnet-50"
    artifact = pull(store, text, on_progress=silent, hub=options)
    manifest = artifact.manifest
    assert (manifest.name, manifest.family) == ("detr-resnet-50", "detr")
    assert manifest.licence == "apache-2.0"
    assert manifest.source.uri == f"{text}@{repo.head}"
    assert manifest.formats == {"transformers": "config.json"}
    assert (artifact.path / "model.safetensors").read_bytes() == files["model.safetensors"]
    hub.seen.clear()
    again = pull(store, text, on_progress=silent, hub=options)
    assert again.digest == artifact.digest
    assert hub.seen == []
    pinned = msgspec.structs.replace(options, name="pinned")
    other = pull(store, f"{text}@{repo.head}", on_progress=silent, hub=pinned)
    assert other.manifest.files == artifact.manifest.files
