"""Second names, removal, and the place of models that are named by their file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidArtifact, InvalidInput
from stored_copies import commit


@pytest.fixture
def store(tiny_artifact: Artifact, tmp_path: Path) -> Store:
    """A store with ``tiny``, ``child`` made of it, and the import ``file-0``."""
    store = Store(tmp_path / "store")
    parent = commit(store, tiny_artifact, "tiny")
    commit(store, tiny_artifact, "child", parent=parent.digest)
    commit(store.imports, tiny_artifact, "file-0")
    return store


def test_a_tag_is_the_same_artifact_under_another_name(store: Store) -> None:
    store.tag("tiny", "live")
    assert store.open("live").digest == store.open("tiny").digest
    assert (store.names(), store.tags()) == (["child", "tiny"], {"live": "tiny"})
    assert list(store.artifacts()) == ["child", "tiny"]
    store.tag("live", "newest")  # a tag of a tag leads to the artifact itself
    assert store.tags()["newest"] == "tiny"
    moved = Store(store.root.rename(store.root.with_name("moved")))
    assert moved.open("live").manifest.name == "tiny"


def test_a_tag_moves_only_when_asked_and_takes_no_artifacts_name(store: Store) -> None:
    store.tag("tiny", "live")
    store.tag("tiny", "live")  # again: nothing changes
    with pytest.raises(InvalidInput, match="'live' is a tag of tiny"):
        store.tag("child", "live")
    store.tag("child", "live", replace=True)
    assert store.open("live").manifest.name == "child"
    with pytest.raises(InvalidInput, match="is an artifact, not a tag"):
        store.tag("child", "tiny", replace=True)
    with pytest.raises(InvalidInput, match="cannot name an artifact"):
        store.tag("child", "../out")
    with pytest.raises(InvalidInput, match="is an import"):
        store.tag("file-0", "live", replace=True)
    with pytest.raises(InvalidArtifact, match="no artifact named 'chid'"):
        store.tag("chid", "live", replace=True)
    assert not list(store.root.glob(".staging-*"))


@pytest.mark.parametrize("replace", [False, True])
def test_an_artifact_never_takes_the_name_of_a_tag(
    store: Store, tiny_artifact: Artifact, replace: bool
) -> None:
    store.tag("tiny", "live")
    before = sorted(os.listdir(store.root))
    for refused in (
        lambda: store.check_free("live", replace=replace),
        lambda: commit(store, tiny_artifact, "live", replace=replace),
    ):
        with pytest.raises(InvalidInput, match="'live' is a tag of tiny") as refusal:
            refused()
        assert "seatrial models tag NAME live --replace" in refusal.value.hint
    assert store.tags() == {"live": "tiny"}
    assert sorted(os.listdir(store.root)) == before


def test_what_a_tag_means_is_not_replaced(store: Store, tiny_artifact: Artifact) -> None:
    """A deployment may serve it by the tag; the same content again changes nothing."""
    first = store.open("tiny")
    store.tag("tiny", "live")
    with pytest.raises(InvalidInput, match="tiny has the tag live: a deployment") as refused:
        store.check_free("tiny", replace=True)
    assert "models tag NAME live --replace" in refused.value.hint
    with pytest.raises(InvalidInput, match="tiny has the tag live"):
        commit(store, tiny_artifact, "tiny", parent="0" * 64, replace=True)
    assert store.open("live").digest == first.digest
    assert commit(store, tiny_artifact, "tiny", replace=True).digest == first.digest
    store.remove("live")
    assert commit(store, tiny_artifact, "tiny", parent="0" * 64, replace=True).manifest.parent


def test_a_name_is_free_unless_there_is_an_artifact_or_it_may_be_replaced(store: Store) -> None:
    store.check_free("new")
    store.check_free("tiny", replace=True)
    with pytest.raises(InvalidInput, match="already has another artifact named 'tiny'"):
        store.check_free("tiny")


def test_a_link_to_an_artifact_elsewhere_is_replaced_whole(
    store: Store, tiny_artifact: Artifact
) -> None:
    """It is not a tag; what it leads to stays."""
    (store.root / "linked").symlink_to(tiny_artifact.path)
    commit(store, tiny_artifact, "linked", replace=True)
    assert not (store.root / "linked").is_symlink()
    assert sorted(os.listdir(store.root)) == [".imports", "child", "linked", "tiny"]
    assert Artifact.open(tiny_artifact.path).digest == tiny_artifact.digest


def test_a_tag_replaces_nothing_but_a_tag(store: Store) -> None:
    (store.root / "notes").write_text("mine")
    (store.root / "empty").mkdir()
    for name in ("notes", "empty"):
        with pytest.raises(InvalidInput, match="not a tag"):
            store.tag("tiny", name, replace=True)
    assert (store.root / "notes").read_text() == "mine"


# What lies in a store and is no artifact: name, how it gets there, the reason that is given.
UNREADABLE: list[tuple[str, Callable[[Path], object], str]] = [
    ("no-keys", lambda p: written(p, "{}"), "name is missing"),
    ("newer", lambda p: written(p, '{"schema": 2}'), "schema"),
    ("no-json", lambda p: written(p, "<html>"), "manifest.json"),
    ("no-text", lambda p: written(p, b"\xff\xfe\x00"), "manifest.json"),
    ("a-list", lambda p: written(p, "[]"), "manifest.json"),
    ("empty", lambda p: p.mkdir(), "No such file"),
    ("file", lambda p: p.write_text("x"), "Not a directory"),
    ("My File.txt", lambda p: p.write_text("x"), "Not a directory"),
    ("lost", lambda p: p.symlink_to("gone"), "a tag of gone, which is not an artifact"),
    ("far", lambda p: p.symlink_to("/nowhere/at/all"), "No such file"),
    ("circle", lambda p: p.symlink_to("circle"), "a tag of circle, which is not an artifact"),
    ("circles", lambda p: p.symlink_to(p.absolute()), "symbolic links"),
    ("folder", lambda p: (p / "manifest.json").mkdir(parents=True), "Is a directory"),
]


def written(folder: Path, manifest: str | bytes) -> None:
    folder.mkdir()
    content = manifest if isinstance(manifest, bytes) else manifest.encode()
    (folder / "manifest.json").write_bytes(content)


@pytest.mark.parametrize(
    ("name", "put", "reason"), UNREADABLE, ids=[name for name, _, _ in UNREADABLE]
)
def test_what_cannot_be_read_is_named_and_blocks_nothing_else(
    store: Store, name: str, put: Callable[[Path], object], reason: str
) -> None:
    put(store.root / name)
    assert list(store.artifacts()) == ["child", "tiny"]
    found = store.unreadable()
    assert list(found) == [name]
    assert reason in found[name]
    assert store.children("tiny") == ["child"]
    assert store.with_digest(store.open("child").digest) is not None
    assert store.remove("child") == ["child"]
    assert store.remove(name) == [name]
    assert (store.entries(), store.unreadable()) == (["tiny"], {})
    assert sorted(os.listdir(store.root)) == [".imports", "tiny"]


def test_a_path_is_not_a_name(store: Store) -> None:
    for name in ("../store/tiny", "./tiny", ".imports/file-0", str(store.root / "tiny"), "tiny/"):
        with pytest.raises(InvalidArtifact, match="no artifact named"):
            store.open(name)
        with pytest.raises(InvalidArtifact, match="no artifact named"):
            store.remove(name)
    assert store.names() == ["child", "tiny"]


def test_removal_takes_the_artifact_and_its_tags_or_the_tag_alone(store: Store) -> None:
    for tag in ("live", "old"):
        store.tag("tiny", tag)
    assert store.remove("old") == ["old"]
    assert (store.names(), store.tags()) == (["child", "tiny"], {"live": "tiny"})
    assert store.remove("tiny") == ["tiny", "live"]
    assert (store.names(), store.tags()) == (["child"], {})
    assert sorted(p.name for p in store.root.iterdir()) == [".imports", "child"]
    with pytest.raises(InvalidArtifact, match="no artifact named 'tiny'"):
        store.remove("tiny")


def test_the_children_of_an_artifact_are_known(store: Store) -> None:
    assert (store.children("tiny"), store.children("child")) == (["child"], [])


def test_imports_are_opened_by_name_and_not_listed(store: Store) -> None:
    assert store.open("file-0").path.parent == store.imports.root
    assert "file-0" not in store.names()
    with pytest.raises(InvalidArtifact) as refusal:
        store.open("file-1")
    assert "file-0" not in refusal.value.message


def test_an_import_is_known_by_its_digest_and_is_a_parent_like_others(
    store: Store, tiny_artifact: Artifact
) -> None:
    base = store.open("tiny")
    imported = commit(store.imports, tiny_artifact, "file-1", parent=base.digest)
    made = commit(store, tiny_artifact, "made", parent=imported.digest)
    found = store.with_digest(imported.digest)
    assert found is not None
    assert found.path == imported.path
    assert [one.manifest.name for one in store.lineage(made)] == ["made", "file-1", "tiny"]
    assert len(store.steps_between(made, base)) == 2


def test_a_name_in_the_store_comes_before_an_import(store: Store, tiny_artifact: Artifact) -> None:
    commit(store, tiny_artifact, "file-0")
    assert store.open("file-0").path.parent == store.root
