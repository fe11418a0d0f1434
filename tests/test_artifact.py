"""The store: immutable, verified, all or nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from full_disk import largest_file
from seatrial.artifact import MANIFEST, Artifact, Store
from seatrial.errors import InvalidArtifact, InvalidInput, NotWritable
from seatrial.manifest import Manifest, Step
from seatrial.models.import_onnx import import_onnx


@pytest.fixture
def manifest(tiny_artifact: Artifact) -> Manifest:
    """The tiny detector's, without its list of files."""
    return msgspec.structs.replace(tiny_artifact.manifest, files=())


@pytest.fixture
def commit(store: Store, manifest: Manifest) -> Callable[..., Artifact]:
    """Commits an artifact whose graph is the given text."""

    def make(content: str = "graph", name: str = "one", **options: Any) -> Artifact:
        with store.staging() as folder:
            (folder / "model.onnx").write_text(content)
            (folder / "parts").mkdir()
            (folder / "parts" / "weights.bin").write_bytes(b"\x00" * 100)
            return store.commit(folder, msgspec.structs.replace(manifest, name=name), **options)

    return make


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_manifest_lists_every_file_with_its_hash(commit: Callable[..., Artifact]) -> None:
    artifact = commit("graph")
    assert {f.path: (f.sha256, f.size_bytes) for f in artifact.manifest.files} == {
        "model.onnx": (hashlib.sha256(b"graph").hexdigest(), 5),
        "parts/weights.bin": (hashlib.sha256(bytes(100)).hexdigest(), 100),
    }
    written = (artifact.path / MANIFEST).read_bytes()
    assert artifact.digest == hashlib.sha256(written).hexdigest()
    assert json.loads(written)["schema"] == 1
    assert artifact.file("onnx") == artifact.path / "model.onnx"


def test_an_artifact_opens_as_it_was_committed(
    store: Store, commit: Callable[..., Artifact]
) -> None:
    committed = commit()
    opened = store.open("one")
    assert opened.manifest == committed.manifest
    assert opened.digest == committed.digest
    assert store.names() == ["one"]


def test_the_digest_tells_contents_apart(commit: Callable[..., Artifact]) -> None:
    assert commit("a", name="a").digest != commit("b", name="b").digest


def test_a_format_that_is_not_there_names_those_that_are(commit: Callable[..., Artifact]) -> None:
    with pytest.raises(InvalidArtifact, match="no tensorrt graph; it has: onnx"):
        commit().file("tensorrt")


def test_a_name_that_is_not_there_names_those_that_are(
    store: Store, commit: Callable[..., Artifact]
) -> None:
    with pytest.raises(InvalidArtifact, match="nothing yet") as refusal:
        store.open("one")
    assert "models pull" in refusal.value.hint
    commit(name="first")
    commit(name="second")
    with pytest.raises(InvalidArtifact, match="it holds: first, second"):
        store.open("third")


def change_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: change_a_byte(path / "model.onnx"), "sha256 differs"),
        (lambda path: (path / "model.onnx").write_bytes(b"graph and more"), "size or sha256"),
        (lambda path: (path / "parts" / "weights.bin").unlink(), "is missing"),
        (lambda path: (path / MANIFEST).write_text("{"), "manifest.json"),
        (lambda path: (path / MANIFEST).write_bytes(b"\xff\xfe"), "manifest.json"),
        (lambda path: (path / MANIFEST).write_text('{"schema": 2}'), "schema"),
    ],
)
def test_tampering_is_seen(
    store: Store, commit: Callable[..., Artifact], damage: Callable[[Path], Any], said: str
) -> None:
    damage(commit().path)
    with pytest.raises(InvalidArtifact, match=said) as refusal:
        store.open("one")
    assert "--replace" in refusal.value.hint


@pytest.mark.parametrize("outside", ["../other/model.onnx", "/etc/hostname", "a/../../b"])
@pytest.mark.parametrize("key", ["files", "formats"])
def test_a_path_out_of_the_folder_is_refused(
    store: Store, commit: Callable[..., Artifact], key: str, outside: str
) -> None:
    path = commit().path / MANIFEST
    plain = json.loads(path.read_text())
    if key == "files":
        plain["files"][0]["path"] = outside
    else:
        plain["formats"]["onnx"] = outside
    path.write_text(json.dumps(plain))
    with pytest.raises(InvalidArtifact, match="outside of the artifact's folder"):
        Artifact.open(path.parent, verify=False)


# A quote, a brace, the end of a line, and a way out of a folder.
UNSAFE = ('"""+x()+"""', "{name}", "a\nb", "../x", "$(x)", "a b", "\x1b[2J", "x" * 2000)


def manifest_with(path: Path, *keys: str | int, value: Any) -> Path:
    """The artifact's folder with another value in its manifest."""
    file = path / MANIFEST
    whole = place = json.loads(file.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    file.write_text(json.dumps(whole))
    return path


@pytest.mark.parametrize("value", UNSAFE)
@pytest.mark.parametrize(
    "keys",
    [
        ("name",), ("family",), ("variant",), ("precision",), ("parent",), ("step", "name"),
        ("inputs", 0, "dtype"), ("outputs", 0, "layout"), ("files", 0, "sha256"),
    ],
)  # fmt: skip
def test_a_text_that_is_unsafe_in_a_path_or_in_source_is_refused(
    commit: Callable[..., Artifact], keys: tuple[str | int, ...], value: str
) -> None:
    path = manifest_with(commit().path, *keys, value=value)
    with pytest.raises(InvalidArtifact, match="cannot") as refusal:
        Artifact.open(path, verify=False)
    assert MANIFEST in refusal.value.message
    assert ("--name" if keys == ("name",) else "--replace") in refusal.value.hint


@pytest.mark.parametrize("value", ["", "a\nb", "a\x00b", "x" * 2000])
@pytest.mark.parametrize("keys", [("files", 0, "path"), ("formats", "onnx")])
def test_a_path_that_names_no_file_is_refused(
    commit: Callable[..., Artifact], keys: tuple[str | int, ...], value: str
) -> None:
    path = manifest_with(commit().path, *keys, value=value)
    with pytest.raises(InvalidArtifact, match="is not the path of a file"):
        Artifact.open(path, verify=False)


def test_labels_and_other_free_texts_may_have_any_characters(
    commit: Callable[..., Artifact],
) -> None:
    path = commit().path
    for keys in (("labels", 0), ("licence",), ("source", "uri"), ("inputs", 0, "name")):
        manifest_with(path, *keys, value="".join(UNSAFE))
    assert Artifact.open(path).manifest.labels[0] == "".join(UNSAFE)


def test_nothing_is_committed_under_a_name_that_is_none(
    store: Store, commit: Callable[..., Artifact]
) -> None:
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        commit(name="../out")
    assert not (store.root.parent / "out").exists()


def test_a_manifest_with_a_key_of_another_version_is_refused(
    store: Store, commit: Callable[..., Artifact]
) -> None:
    path = commit().path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "licens": "MIT"}))
    with pytest.raises(InvalidArtifact, match="unknown key 'licens'") as refusal:
        store.open("one")
    assert "licence" in refusal.value.hint


def test_verification_can_be_left_out_but_not_by_accident(commit: Callable[..., Artifact]) -> None:
    path = commit().path
    change_a_byte(path / "model.onnx")
    assert Artifact.open(path, verify=False).manifest.name == "one"
    with pytest.raises(InvalidArtifact):
        Artifact.open(path)


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(InvalidArtifact, match="is not an artifact"):
        Artifact.open(tmp_path)


def test_the_same_content_twice_is_one_artifact(
    store: Store, commit: Callable[..., Artifact]
) -> None:
    first = commit()
    inode = first.file("onnx").stat().st_ino
    for replace in (False, True):
        assert commit(replace=replace).digest == first.digest
        assert first.file("onnx").stat().st_ino == inode  # nothing was written anew
    assert first.path.stat().st_mode & 0o777 == 0o755  # scratch folders are their owner's alone
    assert list(store.root.iterdir()) == [first.path]


def test_a_taken_name_is_kept_unless_it_is_to_be_replaced(
    store: Store, commit: Callable[..., Artifact]
) -> None:
    commit("old")
    before = snapshot(store.root)
    with pytest.raises(InvalidInput, match="already has another artifact named 'one'"):
        commit("new")
    assert snapshot(store.root) == before
    replaced = commit("new", replace=True)
    assert replaced.file("onnx").read_text() == "new"
    assert store.open("one").digest == replaced.digest
    assert [p.name for p in store.root.iterdir()] == ["one"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_artifact_is_not_replaced(
    store: Store, commit: Callable[..., Artifact], replace: bool
) -> None:
    """SEATRIAL_HOME may be a project, which has folders of its own below models/."""
    own = store.root / "one" / "weights.pt"
    own.parent.mkdir(parents=True)
    own.write_text("weeks")
    if replace:
        with pytest.raises(InvalidInput, match="one is not an artifact and is not replaced"):
            store.check_free("one", replace=True)
    with pytest.raises(InvalidInput):
        commit(replace=replace)
    assert own.read_text() == "weeks"
    own.unlink()  # an empty folder is in nobody's way
    assert commit().manifest.name == "one"


@pytest.mark.parametrize("replace", [False, True])
def test_a_damaged_artifact_is_mended_by_the_same_content(
    store: Store, commit: Callable[..., Artifact], replace: bool
) -> None:
    artifact = commit()
    change_a_byte(artifact.file("onnx"))
    with pytest.raises(InvalidArtifact):
        store.open("one")
    assert commit(replace=replace).digest == artifact.digest
    assert store.open("one").file("onnx").read_text() == "graph"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_step_that_fails_leaves_the_store_as_it_was(
    store: Store, commit: Callable[..., Artifact], error: type[BaseException]
) -> None:
    commit("old")
    before = snapshot(store.root)

    def fail() -> None:
        with store.staging() as folder:
            (folder / "model.onnx").write_text("half of it")
            raise error

    with pytest.raises(error):
        fail()
    assert snapshot(store.root) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from seatrial.artifact import MANIFEST, Store
with Store(Path(sys.argv[1])).staging() as folder:
    (folder / "model.onnx").write_text("half of it")
    (folder / MANIFEST).write_text("{}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_step_that_is_killed_leaves_nothing_that_looks_like_an_artifact(
    store: Store, commit: Callable[..., Artifact]
) -> None:
    commit("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], check=False)
    assert done.returncode == -9
    assert len(list(store.root.iterdir())) == 2  # what was staged is still there,
    assert store.names() == ["one"]  # and is not shown
    assert store.open("one").file("onnx").read_text() == "old"


def test_an_artifact_stays_where_its_successor_cannot_be_moved(
    store: Store, commit: Callable[..., Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit("old")
    before, rename = snapshot(store.root), os.rename

    def fail(source: Path, target: Path) -> None:
        if target.name == "one" and source.name.startswith(".staging-") and not target.exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(NotWritable, match="Input/output error"):
        commit("new", replace=True)
    assert snapshot(store.root) == before
    assert [p.name for p in store.root.iterdir()] == ["one"]


COMMIT = """
import sys, time
from pathlib import Path
import msgspec
from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidInput

store, template, content = Store(Path(sys.argv[1])), Artifact.open(Path(sys.argv[2])), sys.argv[3]
print("ready", flush=True)
start = float(sys.stdin.readline())
for index in range(100):
    manifest = msgspec.structs.replace(template.manifest, name=f"same-{index}", files=())
    with store.staging() as folder:
        (folder / "model.onnx").write_text(content)
        while time.monotonic() < start + 0.004 * index:  # all at the same moment
            pass
        try:
            print(store.commit(folder, manifest).digest)
        except InvalidInput:
            print("taken")
"""


def race(store: Store, template: Artifact, contents: list[str]) -> list[list[str]]:
    """Commit a hundred names from one process for each content, all at the same time."""
    arguments = [sys.executable, "-c", COMMIT, str(store.root), str(template.path)]
    processes = [
        subprocess.Popen(
            [*arguments, content], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for content in contents
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start = time.monotonic() + 0.05
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return outputs


def test_processes_that_commit_the_same_artifact_all_have_it(
    store: Store, tiny_artifact: Artifact
) -> None:
    first, second = race(store, tiny_artifact, ["graph", "graph"])
    assert first == second
    assert "taken" not in first
    assert len(list(store.root.iterdir())) == len(store.names()) == 100
    for name in store.names():
        store.open(name)


def test_of_processes_that_commit_different_artifacts_of_one_name_one_has_it(
    store: Store, tiny_artifact: Artifact
) -> None:
    first, second = race(store, tiny_artifact, ["one graph", "another"])
    for index, pair in enumerate(zip(first, second, strict=True)):
        assert pair.count("taken") == 1
        assert store.open(f"same-{index}").digest in pair


def test_a_file_in_the_stores_place(tmp_path: Path, model_file: Callable[..., Path]) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(NotWritable, match=f"the store {root} cannot be written"):
            import_onnx(Store(root), model_file())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_without_permission(store: Store, model_file: Callable[..., Path]) -> None:
    store.root.mkdir(mode=0o500)
    with pytest.raises(NotWritable, match="Permission denied"):
        import_onnx(store, model_file())


def test_a_full_disk(store: Store, commit: Callable[..., Artifact]) -> None:
    """A limit on file size stands in for the disk: the same call fails in the same way."""
    commit("old")
    before = snapshot(store.root)
    with largest_file(50), pytest.raises(NotWritable, match="File too large") as refusal:
        commit("x" * 100, name="two")
    assert "free some space" in refusal.value.hint
    assert snapshot(store.root) == before


def test_what_cannot_be_read_is_not_called_a_store_that_cannot_be_written(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError), store.staging():
        (tmp_path / "elsewhere").read_bytes()


def test_steps_lead_from_a_child_to_its_ancestor(store: Store, manifest: Manifest) -> None:
    def made(name: str, parent: Artifact | None, step: str) -> Artifact:
        with store.staging() as folder:
            (folder / "model.onnx").write_text(name)
            facts = {"name": name, "parent": parent and parent.digest, "step": Step(step)}
            return store.commit(folder, msgspec.structs.replace(manifest, **facts))

    base = made("base", None, "import")
    trained = made("trained", base, "finetune")
    child = made("child", trained, "export")
    assert store.steps_between(child, base) == ["export", "finetune"]
    assert store.steps_between(child, trained) == ["export"]
    assert store.steps_between(base, base) == store.steps_between(base, child) == []
    assert [one.manifest.name for one in store.lineage(child)] == ["child", "trained", "base"]
    assert [one.manifest.name for one in store.lineage(base)] == ["base"]
    found = store.with_digest(trained.digest)
    assert found is not None
    assert found.path == trained.path
    assert store.with_digest("0" * 64) is None
    elsewhere = Store(store.root.parent / "elsewhere")
    shutil.copytree(store.root / "child", elsewhere.root / "child")
    shutil.copytree(store.root / "trained", elsewhere.root / "trained")
    assert elsewhere.steps_between(child, base) == ["export", "finetune"]  # base is not in it
    (store.root / "trained" / MANIFEST).write_text("{")
    assert store.steps_between(child, base) == []  # the way is not known any more
