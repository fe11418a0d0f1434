"""``seatrial models rm`` and ``tag``, and what the list shows of imports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from seatrial.artifact import Artifact, Store
from seatrial.cli import models
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.models.resolve import resolve


@pytest.fixture
def store(tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    shutil.copytree(tiny_artifact.path, tmp_path / "artifacts" / "tiny")
    return Store(tmp_path / "artifacts")


@pytest.fixture
def model_file(tiny_artifact: Artifact, tmp_path: Path) -> Path:
    file = tmp_path / "My Model.onnx"
    file.write_bytes((tiny_artifact.path / "model.onnx").read_bytes())
    return file


def test_tags_stand_beside_the_name_and_are_removed_alone(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    models.tag("tiny", "live")
    models.list_()
    assert "tiny (live)" in capsys.readouterr().out
    models.rm("live")
    assert "removed live, a tag of tiny" in capsys.readouterr().err
    models.rm("tiny")
    assert store.names() == []


def test_an_artifact_with_tags_is_removed_by_force_alone(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for tag in ("live", "old"):
        models.tag("tiny", tag)
    with pytest.raises(InvalidInput, match="tiny has the tags live, old") as refusal:
        models.rm("tiny")
    assert "seatrial models tag NAME live --replace" in refusal.value.hint
    with pytest.raises(InvalidInput, match="tiny has the tag old: a deployment may serve it"):
        models.rm("live", "tiny")
    assert store.tags() == {"live": "tiny", "old": "tiny"}
    capsys.readouterr()
    models.rm("tiny", "old", force=True)
    told = ["removed tiny", "removed live, a tag of tiny", "removed old, a tag of tiny"]
    assert capsys.readouterr().err.splitlines() == told
    assert store.entries() == []


def test_an_artifact_goes_with_the_tags_that_are_named(store: Store) -> None:
    models.tag("tiny", "live")
    models.rm("tiny", "live")
    assert store.entries() == []


def test_what_cannot_be_read_is_listed_with_its_reason_and_removed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.root / "broken").mkdir()
    (store.root / "broken" / "manifest.json").write_text("{}")
    (store.root / "lost").symlink_to("gone")
    (store.root / "notes.txt").write_text("")
    models.list_()
    told = capsys.readouterr()
    assert "tiny" in told.out
    names = [line.split(": ")[1] for line in told.err.splitlines() if "unreadable" in line]
    assert names == ["broken", "lost", "notes.txt"]
    assert "name is missing" in told.err
    assert "hint: seatrial models rm broken lost notes.txt" in told.err
    models.list_(json=True)
    assert list(json.loads(capsys.readouterr().out)) == ["tiny"]
    models.gc()
    assert "removed: 0 folders, 0 bytes" in capsys.readouterr().err
    models.rm("broken", "lost", "notes.txt")
    models.rm("tiny")
    assert store.entries() == []


@pytest.mark.parametrize("replace", [False, True])
def test_an_import_does_not_take_a_tags_name(store: Store, model_file: Path, replace: bool) -> None:
    models.tag("tiny", "live")
    with pytest.raises(InvalidInput, match="'live' is a tag of tiny"):
        models.import_(model_file, name="live", replace=replace)
    assert (store.names(), store.tags()) == (["tiny"], {"live": "tiny"})


def test_nothing_is_removed_where_one_name_is_wrong(store: Store) -> None:
    with pytest.raises(InvalidArtifact, match="no artifact named 'tinny'") as refusal:
        models.rm("tiny", "tinny")
    assert refusal.value.hint == "did you mean 'tiny'?"
    with pytest.raises(InvalidInput, match="needs a NAME"):
        models.rm()
    assert store.names() == ["tiny"]


def test_a_parent_is_removed_with_its_children_or_by_force(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: Callable[[Store, str], list[str]] = lambda at, name: ["small"]  # noqa: E731
    monkeypatch.setattr(Store, "children", children)
    with pytest.raises(InvalidInput, match="small was made of tiny"):
        models.rm("tiny")
    models.rm("tiny", force=True)
    assert store.names() == []


def test_a_model_file_is_imported_beside_the_store_once(
    store: Store, model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = resolve(store, str(model_file))
    assert resolve(store, str(model_file)).path == first.path
    assert first.path.parent == store.imports.root
    assert store.names() == ["tiny"]
    assert resolve(store, first.manifest.name).digest == first.digest
    models.list_()
    told = capsys.readouterr()
    assert first.manifest.name not in told.out
    assert "1 import of files is not listed" in told.err
    with pytest.raises(InvalidInput, match="is an import of a file"):
        models.rm(first.manifest.name)
    models.import_(model_file, name="mine")
    assert store.names() == ["mine", "tiny"]
