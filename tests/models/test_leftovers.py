"""What ``models gc`` may remove, and what it never does."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

import pytest

from seatrial import artifact as artifact_module
from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidInput
from seatrial.models.leftovers import UNUSED_S, leftovers, remove_leftover
from seatrial.models.resolve import resolve
from stored_copies import commit


def unused(folder: Path) -> None:
    at = time.time() - UNUSED_S - 1
    os.utime(folder, (at, at), follow_symlinks=False)


def collect(store: Store) -> list[str]:
    return [folder.name for folder in leftovers(store) if remove_leftover(store, folder)]


@pytest.mark.parametrize(
    ("scratch_s", "import_s", "found"),
    [
        (59, 86_399, []),
        (61, 86_399, [".staging-1", ".staging-2"]),
        (59, 86_401, ["file-0"]),
        (61, 86_401, [".staging-1", ".staging-2", "file-0"]),
        (0, 0, []),
        (-1, -1, [".staging-1", ".staging-2", "file-0"]),  # the clock was put back since
    ],
)
def test_a_scratch_folder_goes_after_a_minute_and_an_import_after_a_day(
    store: Store,
    tiny_artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    scratch_s: int,
    import_s: int,
    found: list[str],
) -> None:
    now = 1e9
    scratch = [store.root / ".staging-1", store.imports.root / ".staging-2"]
    for folder in scratch:
        folder.mkdir(parents=True)
        os.utime(folder, (now, now - scratch_s))
    unused_import = commit(store.imports, tiny_artifact, "file-0").path
    os.utime(unused_import, (now, now - import_s))
    monkeypatch.setattr(time, "time", lambda: now)
    assert sorted(folder.name for folder in leftovers(store)) == found


def test_what_a_running_replacement_has_taken_out_of_its_place_is_no_leftover(
    store: Store, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store, tiny_artifact, "one")
    put_in_place, seen = artifact_module.put_in_place, list[list[Path]]()

    def look(new: Path, target: Path, old: Path) -> None:
        put_in_place(new, target, old)
        assert old.is_dir()
        os.utime(old.parent, (0, 0))  # it takes longer than a minute
        seen.append(leftovers(store))

    monkeypatch.setattr(artifact_module, "put_in_place", look)
    commit(store, tiny_artifact, "one", parent="0" * 64, replace=True)
    assert seen == [[]]


def test_an_artifact_that_a_replacement_could_not_put_back_is_put_back(
    store: Store, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = commit(store, tiny_artifact, "one"), os.rename

    def fail(source: Path, target: Path) -> None:
        if target == before.path and not source.is_symlink() and source.parent != store.root:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(source))
        if target == before.path and source.name.startswith(".staging-"):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(source))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        # As where another process has put its own there meanwhile.
        with pytest.raises(InvalidInput, match="already has another artifact named 'one'"):
            commit(store, tiny_artifact, "one", parent="0" * 64, replace=True)
    (retired,) = store.root.iterdir()
    assert leftovers(store) == []
    os.utime(retired, (0, 0))
    assert collect(store) == []
    assert store.open("one").digest == before.digest


def test_a_step_that_ends_while_leftovers_are_looked_for_is_none(
    store: Store, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = store.root / ".staging-1"
    gone = commit(store.imports, tiny_artifact, "gone").path
    ends.mkdir(parents=True)
    for folder in (ends, gone):
        os.utime(folder, (0, 0))
    entries = Store.entries

    def end(self: Store) -> list[str]:
        found = entries(self)
        for folder in (ends, gone):
            shutil.rmtree(folder, ignore_errors=True)
        return found

    monkeypatch.setattr(Store, "entries", end)
    assert leftovers(store) == []


def test_leftovers_are_the_folders_of_killed_steps_only(
    store: Store, tiny_artifact: Artifact
) -> None:
    artifact = commit(store, tiny_artifact, "one")
    killed = store.root / ".staging-1"
    (killed / "parts").mkdir(parents=True)
    assert leftovers(store) == []  # a moment ago: a step that starts has not marked it yet
    interrupted = store.root / ".retired-1"  # killed between two moves
    interrupted.mkdir()
    artifact.path.rename(interrupted / "one")
    with store.staging() as running:
        for folder in (killed, interrupted, running):
            os.utime(folder, (0, 0))
        assert leftovers(store) == [interrupted, killed]
        assert collect(store) == [killed.name]  # the other one was put back
        assert [p.name for p in sorted(store.root.iterdir())] == [running.name, "one"]
    assert store.open("one").digest == artifact.digest


def test_an_import_goes_when_it_is_not_used_and_no_parent(
    store: Store, tiny_artifact: Artifact
) -> None:
    used = commit(store.imports, tiny_artifact, "used")
    parent = commit(store.imports, tiny_artifact, "parent")
    file = commit(store.imports, tiny_artifact, "file-0")
    for one in (file, parent):
        unused(one.path)
    assert [p.name for p in leftovers(store)] == ["file-0", "parent"]
    made = commit(store, tiny_artifact, "made", parent=parent.digest)
    assert [p.name for p in leftovers(store)] == ["file-0"]
    assert store.steps_between(made, parent) == [made.manifest.step.name]
    remove_leftover(store, leftovers(store)[0])
    assert store.imports.names() == ["parent", used.manifest.name]


def test_every_use_of_an_import_counts(store: Store, tiny_artifact: Artifact) -> None:
    file = tiny_artifact.path / "model.onnx"
    made = resolve(store, str(file))
    name = made.manifest.name
    for use in (str(file), name, str(made.path)):
        unused(made.path)
        assert [p.name for p in leftovers(store)] == [name]
        store.artifacts()  # a look is no use
        store.with_digest(made.digest)
        assert [p.name for p in leftovers(store)] == [name]
        assert resolve(store, use).digest == made.digest
        assert leftovers(store) == [], use


@pytest.mark.parametrize("content", ["{}", '{"schema": 2}', "<html>"])
def test_an_import_that_cannot_be_read_is_made_again_or_goes(
    store: Store, tiny_artifact: Artifact, content: str
) -> None:
    file = tiny_artifact.path / "model.onnx"
    commit(store, tiny_artifact, "made-of-nothing")
    made = resolve(store, str(file))
    (made.path / "manifest.json").write_text(content)
    assert resolve(store, str(file)).digest == made.digest
    (made.path / "manifest.json").write_text(content)
    (store.imports.root / "empty").mkdir()
    (store.imports.root / "file").write_text("")
    (store.imports.root / "lost").symlink_to("gone")
    (store.imports.root / "linked").symlink_to(tiny_artifact.path)
    assert leftovers(store) == []
    names = ["empty", "file", "linked", "lost", made.manifest.name]
    for name in names:
        unused(store.imports.root / name)
    assert sorted(collect(store)) == sorted(names)
    assert os.listdir(store.imports.root) == []
    assert Artifact.open(tiny_artifact.path).digest == tiny_artifact.digest


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"parent": ["x"]}', b"<html>", b"\xff\xfe"])
def test_an_artifact_that_cannot_be_read_does_not_stop_the_others(
    store: Store, tiny_artifact: Artifact, content: bytes
) -> None:
    one = commit(store.imports, tiny_artifact, "one")
    unused(one.path)
    for name in ("broken", "empty"):
        (store.root / name).mkdir()
    (store.root / "broken" / "manifest.json").write_bytes(content)
    (store.root / "lost").symlink_to("gone")
    assert collect(store) == ["one"]
    assert store.entries() == ["broken", "empty", "lost"]


def test_the_parent_of_an_artifact_of_another_version_stays(
    store: Store, tiny_artifact: Artifact
) -> None:
    parent = commit(store.imports, tiny_artifact, "parent")
    made = commit(store, tiny_artifact, "made", parent=parent.digest)
    manifest = made.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))
    assert "made" in store.unreadable()
    unused(parent.path)
    assert leftovers(store) == []
    store.remove("made")
    assert collect(store) == ["parent"]


def test_what_was_replaced_on_purpose_never_comes_back(
    store: Store, tiny_artifact: Artifact
) -> None:
    commit(store, tiny_artifact, "base")
    retired = store.root / ".retired-1"  # a version before this one left the link of a tag there
    retired.mkdir()
    (retired / "live").symlink_to("base")
    # Killed after the new one was in its place, before the old one was gone.
    killed = store.root / ".retired-2"
    commit(store, tiny_artifact, "two")
    killed.mkdir()
    (store.root / "two").rename(killed / "two")
    commit(store, tiny_artifact, "two", parent="0" * 64)
    store.remove("two")
    for folder in (retired, killed):
        os.utime(folder, (0, 0))
    assert collect(store) == [".retired-1", ".retired-2"]
    assert sorted(os.listdir(store.root)) == ["base"]
