"""From a reference to an artifact in the store, over the wire."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatrial.artifact import Store
from seatrial.errors import InvalidArtifact, InvalidInput, SeatrialError, SourceUnavailable
from seatrial.models.facts import ModelFacts
from seatrial.models.hubs.pull import PullOptions
from seatrial.models.import_onnx import import_onnx
from seatrial.models.sources.table import pull as pull_model
from seatrial.progress import Progress

FILE = "acme/yolo11t/onnx/model.onnx"
NAME = "yolo11t-onnx"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def pull(store: Store, options: PullOptions, told: list[str]) -> Callable[..., Any]:
    """``pull(text, replace=False, name="", ...)``, as the command does it."""
    pytest.importorskip("huggingface_hub", reason="seatrial[hub] is not installed")
    pytest.importorskip("modelscope_hub", reason="seatrial[hub] is not installed")

    def on_progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if not unit:
            told.append(what)

    def run(
        text: str, *, replace: bool = False, on_progress: Progress = on_progress, **changes: Any
    ) -> Any:
        chosen = msgspec.structs.replace(options, **changes)
        return pull_model(store, text, on_progress=on_progress, replace=replace, hub=chosen)

    return run


def left(store: Store) -> list[str]:
    """Files of downloads, but for locks, and anything staged in the store."""
    folders = (store.root.parent / "downloads", store.root)
    return sorted(
        path.name
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in (".part", ".onnx", ".safetensors") and path.parent.name != NAME
    )


def test_an_onnx_file_becomes_an_artifact(
    pull: Callable[..., Any], store: Store, yolo: Any, source: str, weighty: bytes
) -> None:
    artifact = pull(f"{source}:{FILE}")
    manifest = artifact.manifest
    assert (manifest.name, manifest.family) == (NAME, "yolo")
    assert manifest.source.uri == f"{source}:{FILE}@{yolo.head}"
    assert manifest.source.sha256 == hashlib.sha256(weighty).hexdigest()
    assert manifest.licence.startswith("AGPL-3.0")  # the file's own word goes first
    assert left(store) == []


def test_a_file_without_a_licence_has_that_of_its_repository(
    pull: Callable[..., Any], hub: Any, tiny_model: Callable[..., Any], source: str
) -> None:
    data = tiny_model(metadata={"license": ""}).SerializeToString()
    hub.add("acme/mine", {"model.onnx": data}, licence="cc-by-4.0")
    assert pull(f"{source}:acme/mine/model.onnx").manifest.licence == "cc-by-4.0"


@pytest.fixture
def bare(hub: Any, tiny_model: Callable[..., Any]) -> str:
    """A file that names neither its family nor its classes."""
    model = tiny_model()
    del model.metadata_props[:]
    hub.add("acme/bare", {"model.onnx": model.SerializeToString()}, licence="cc-by-4.0")
    return "acme/bare/model.onnx"


def test_what_a_file_does_not_say_is_said_as_at_an_import(
    pull: Callable[..., Any], bare: str, source: str, tmp_path: Path
) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("a\nb\nc\n")
    text = f"{source}:{bare}"
    with pytest.raises(InvalidArtifact) as refusal:
        pull(text)
    assert f"seatrial models pull {text} --" in refusal.value.hint
    assert "downloads" not in refusal.value.hint
    told = ModelFacts(family="yolo", labels=str(labels), channels="bgr", std=(255.0,) * 3)
    made = pull(text, told=told)
    assert (made.manifest.labels, made.manifest.licence) == (("a", "b", "c"), "cc-by-4.0")
    assert made.manifest.source.uri.startswith(f"{text}@")
    assert made.manifest.step.config["told"]["channels"] == "bgr"
    assert pull(text, told=told).digest == made.digest
    assert pull(text).digest == made.digest


def test_facts_that_differ_from_those_of_the_store_are_not_dropped(
    pull: Callable[..., Any], bare: str, source: str, tmp_path: Path
) -> None:
    labels = tmp_path / "names.txt"
    labels.write_text("a\nb\nc\n")
    first = pull(f"{source}:{bare}", told=ModelFacts(family="yolo", labels=str(labels)))
    other = ModelFacts(family="yolo", labels=str(labels), channels="bgr")
    with pytest.raises(InvalidInput, match="--channels was not 'bgr' when it"):
        pull(f"{source}:{bare}", told=other)
    made = pull(f"{source}:{bare}", told=other, replace=True)
    assert made.digest != first.digest


@pytest.mark.parametrize("name", ["acme/yolo11t", "yolo11n", "ssd-mobilenet-v2"])
def test_facts_are_for_one_graph(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, name: str
) -> None:
    text = f"{source}:{name}" if "/" in name else name
    with pytest.raises(InvalidInput, match="--labels is for graphs"):
        pull(text, told=ModelFacts(labels="coco"))
    assert hub.seen == []


def test_the_second_pull_asks_nobody(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, told: list[str]
) -> None:
    first = pull(f"{source}:{FILE}")
    hub.seen.clear()
    told.clear()
    assert pull(f"{source}:{FILE}").digest == first.digest
    assert pull(f"{source}:{FILE}@{yolo.head}").digest == first.digest
    assert hub.seen == []
    assert all("is in the store already" in line for line in told)


def test_a_branch_that_did_not_move_is_looked_up_and_not_fetched(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str
) -> None:
    first = pull(f"{source}:{FILE}@main")
    hub.seen.clear()
    assert pull(f"{source}:{FILE}@main").digest == first.digest
    assert hub.seen
    assert hub.asked("/cdn/") == []


def test_a_branch_that_moved(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, tiny_model: Callable[..., Any]
) -> None:
    first = pull(f"{source}:{FILE}")
    newer = tiny_model(names=("red", "green")).SerializeToString()
    commit = hub.push(yolo.id, {"onnx/model.onnx": newer})
    assert pull(f"{source}:{FILE}").digest == first.digest  # nobody asked for the newest
    with pytest.raises(InvalidInput, match=commit) as refusal:
        pull(f"{source}:{FILE}@main")
    assert "--replace" in refusal.value.hint
    assert pull(f"{source}:{FILE}@main", name="newer").manifest.labels == ("red", "green")
    assert pull(f"{source}:{FILE}@main", replace=True).manifest.labels == ("red", "green")


def test_a_pinned_revision_is_that_commit(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, tiny_model: Callable[..., Any]
) -> None:
    old = yolo.head
    newer = tiny_model(names=("red", "green")).SerializeToString()
    hub.push(yolo.id, {"onnx/model.onnx": newer})
    artifact = pull(f"{source}:{FILE}@{old}")
    assert artifact.manifest.labels == ("red", "green", "blue")
    assert artifact.manifest.source.uri.endswith(f"@{old}")
    assert all(old in seen.path or "/models/acme" in seen.path for seen in hub.seen)


def test_a_name_that_is_taken_is_told_before_anything_is_fetched(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, store: Store, model_file: Any
) -> None:
    import_onnx(store, model_file(), name=NAME)
    with pytest.raises(InvalidInput, match=f"another artifact named '{NAME}'") as refusal:
        pull(f"{source}:{FILE}")
    assert "--name" in refusal.value.hint
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        pull(f"{source}:{FILE}", name="")
    assert hub.seen == []
    assert pull(f"{source}:{FILE}", name="other").manifest.name == "other"
    assert pull(f"{source}:{FILE}", replace=True).manifest.source.uri.startswith(source)


def test_the_bytes_are_told(
    pull: Callable[..., Any], yolo: Any, source: str, weighty: bytes
) -> None:
    told: list[tuple[str, int, int]] = []

    def on_progress(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if unit == "B":
            told.append((what, done, total))

    pull(f"{source}:{FILE}", on_progress=on_progress)
    assert {(file, total) for file, _, total in told} == {("onnx/model.onnx", len(weighty))}
    assert told[-1][1] == len(weighty)
    assert len(told) == 3  # about once a MiB


def test_an_interrupt_leaves_the_store_and_a_part_to_go_on_from(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, store: Store
) -> None:
    def interrupt(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if unit == "B":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(f"{source}:{FILE}", on_progress=interrupt)
    assert store.names() == []
    assert left(store) == ["model.onnx.part"]
    (part,) = (store.root.parent / "downloads").rglob("*.part")
    have = part.stat().st_size
    assert have >= 2**20
    hub.seen.clear()
    pull(f"{source}:{FILE}")
    (fetched,) = hub.asked("/cdn/")
    assert fetched.headers["Range"] == f"bytes={have}-"
    assert left(store) == []


def test_an_import_that_fails_keeps_the_download(
    pull: Callable[..., Any], hub: Any, store: Store, source: str
) -> None:
    hub.add("acme/broken", {"model.onnx": b"not ONNX"})
    for _ in range(2):
        with pytest.raises(InvalidArtifact, match=r"model\.onnx"):
            pull(f"{source}:acme/broken/model.onnx")
    assert len(hub.asked("/cdn/")) == 1
    assert store.names() == []


def test_two_at_once_fetch_once(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, told: list[str], fault: Any
) -> None:
    gate = threading.Event()
    hub.faults.append(fault("/cdn/", hang=gate))
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(pull, f"{source}:{FILE}") for _ in range(2)]
        while not any("waiting for it" in line for line in told):
            assert not any(future.done() for future in both)
        gate.set()
        first, second = (future.result(30) for future in both)
    assert first.digest == second.digest
    assert len(hub.asked("/cdn/")) == 1


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("acme/yolo11", "acme/yolo11t"), ("acne/yolo11t", "acme/yolo11t")],
)
def test_a_wrong_name_hints_at_the_nearest(
    pull: Callable[..., Any], yolo: Any, source: str, wrong: str, meant: str
) -> None:
    with pytest.raises(InvalidInput, match=f"has no model '{wrong}'") as refusal:
        pull(f"{source}:{wrong}/onnx/model.onnx")
    assert refusal.value.hint == f"did you mean {source}:{meant}?"


def test_a_name_like_nothing(pull: Callable[..., Any], hub: Any, source: str) -> None:
    with pytest.raises(InvalidInput, match="has no model 'acme/nothing'") as refusal:
        pull(f"{source}:acme/nothing")
    assert "seatrial models search" in refusal.value.hint


def test_a_wrong_revision(pull: Callable[..., Any], yolo: Any, source: str) -> None:
    with pytest.raises(InvalidInput, match="has no revision 'v9'") as refusal:
        pull(f"{source}:{FILE}@v9")
    assert "ma" in refusal.value.hint  # main, master


def test_a_wrong_file_hints_at_those_that_there_are(
    pull: Callable[..., Any], yolo: Any, source: str
) -> None:
    with pytest.raises(InvalidInput, match=r"has no file 'model\.onnx'") as refusal:
        pull(f"{source}:acme/yolo11t/model.onnx")
    assert f"{source}:{FILE}" in refusal.value.hint


def test_a_pickle_by_name_is_refused_allowed_or_not(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str
) -> None:
    for allow_pickle in (False, True):
        with pytest.raises(InvalidArtifact, match="is a pickle") as refusal:
            pull(f"{source}:acme/yolo11t/yolo11t.pt", allow_pickle=allow_pickle)
        assert f"{source}:{FILE}" in refusal.value.hint
    assert hub.asked("yolo11t.pt") == []


def test_another_kind_of_file(pull: Callable[..., Any], yolo: Any, source: str) -> None:
    with pytest.raises(InvalidArtifact, match=r"not an \.onnx file"):
        pull(f"{source}:acme/yolo11t/README.md")


def test_a_gated_model(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, options: PullOptions, store: Store
) -> None:
    yolo.gated = True
    with pytest.raises(SourceUnavailable) as refusal:
        pull(f"{source}:{FILE}")
    setting = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}[source]
    assert f"set {setting}" in refusal.value.hint
    assert store.names() == []
    access = msgspec.structs.replace(
        options.access,
        huggingface=msgspec.structs.replace(options.access.huggingface, token=hub.token),
        modelscope=msgspec.structs.replace(options.access.modelscope, token=hub.token),
    )
    assert pull(f"{source}:{FILE}", access=access).manifest.name == NAME


def test_a_private_model_is_not_there_for_strangers(pull: Callable[..., Any], yolo: Any) -> None:
    yolo.private = True
    with pytest.raises(InvalidInput, match="or keeps it private"):
        pull(f"huggingface:{FILE}")


def test_a_hash_that_differs(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, store: Store, fault: Any
) -> None:
    hub.faults.append(fault("/cdn/", corrupt=True))
    with pytest.raises(SourceUnavailable, match="is not the file that it lists"):
        pull(f"{source}:{FILE}")
    assert store.names() == []
    assert left(store) == []
    assert pull(f"{source}:{FILE}").manifest.name == NAME


def test_a_hub_that_is_gone(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, store: Store
) -> None:
    hub.close()
    with pytest.raises(SourceUnavailable, match="cannot be reached") as refusal:
        pull(f"{source}:{FILE}")
    assert "ENDPOINT=https" in refusal.value.hint
    assert store.names() == []


def test_a_hub_that_goes_while_it_serves(
    pull: Callable[..., Any], hub: Any, yolo: Any, source: str, store: Store, fault: Any
) -> None:
    hub.faults.append(fault("/cdn/", cut=2_000_000))

    def pull_the_plug(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
        if unit == "B":
            hub.hub.stop()
            hub.cdn.stop()

    with pytest.raises(SourceUnavailable) as refusal:
        pull(f"{source}:{FILE}", on_progress=pull_the_plug)
    assert "ENDPOINT" in refusal.value.hint
    assert left(store) == ["model.onnx.part"]


def test_a_file_without_a_hash_is_not_trusted(
    pull: Callable[..., Any], hub: Any, yolo: Any, fault: Any
) -> None:
    listed = {"Code": 200, "Data": {"Files": [{"Path": "onnx/model.onnx", "Size": 5}]}}
    hub.faults.append(fault("repo/files", body=msgspec.json.encode(listed)))
    with pytest.raises(SourceUnavailable, match="lists no hash for"):
        pull(f"modelscope:{FILE}")


def test_a_commit_that_is_a_path_stays_in_its_folder(
    pull: Callable[..., Any], hub: Any, yolo: Any, fault: Any, tmp_path: Path
) -> None:
    large = {"sha256": "0" * 64, "size": 5, "pointerSize": 1}
    listed = [{"rfilename": "onnx/model.onnx", "lfs": large}]
    hostile = {"id": yolo.id, "sha": "../../../out", "siblings": listed}
    hub.faults.append(fault("/api/models/", body=msgspec.json.encode(hostile)))
    with pytest.raises(SeatrialError):
        pull(f"huggingface:{FILE}")
    assert not list(tmp_path.rglob("out"))


def test_a_store_without_options_asks_the_public_hubs(store: Store) -> None:
    with pytest.raises(InvalidInput, match="unknown source"):
        pull_model(store, "github:a/b", on_progress=print)
