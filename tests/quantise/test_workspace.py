"""Results of steps survive a kill, appear whole, and leave no trace of a failure."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from seatrial.artifact import Store
from seatrial.errors import InvalidDataset, InvalidInput, NotWritable
from seatrial.quantise.workspace import KEPT_S, PREFIX, workspace


class Row(msgspec.Struct):
    x: float


def left(store: Store) -> list[Path]:
    return [*store.root.glob(f"{PREFIX}*")]


def interrupted(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), workspace(store, "a run") as work:
        assert work.value("row", Row, lambda: Row(0.1 + 0.2)) == Row(0.1 + 0.2)
        work.arrays("boxes", lambda: {"a/b": np.arange(3)})
        work.folder("graph", lambda folder: (folder / "model").write_text("x"))  # type: ignore[arg-type]
        (work.path / ".part-row2.json").write_text("half")
        raise KeyboardInterrupt


def test_what_was_done_before_a_kill_is_not_done_again(store: Store) -> None:
    interrupted(store)
    assert len(left(store)) == 1

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    with workspace(store, "a run") as work:
        assert work.value("row", Row, never) == Row(0.1 + 0.2)  # type: ignore[arg-type]
        assert work.arrays("boxes", never)["a/b"].tolist() == [0, 1, 2]  # type: ignore[arg-type]
        assert (work.folder("graph", never) / "model").read_text() == "x"
        assert not [*work.path.glob(".part-*")]
    assert left(store) == []
    assert store.names() == []


def test_another_run_has_a_workspace_of_its_own(store: Store) -> None:
    interrupted(store)
    with workspace(store, "another run") as work:
        assert not [*work.path.glob("*.json")]


def test_what_nobody_went_on_with_is_swept_after_a_while(store: Store) -> None:
    interrupted(store)
    (old,) = left(store)
    with workspace(store, "another run"):
        assert old.exists()
    long_ago = time.time() - KEPT_S - 60
    os.utime(old, (long_ago, long_ago))
    with (old / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a run that takes very long over one step
        with workspace(store, "another run"):
            assert old.exists()
    with workspace(store, "another run"):
        assert not old.exists()


def test_a_folder_that_was_not_filled_does_not_appear(store: Store) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), workspace(store, "a run") as work:
        work.folder("graph", fail)
    with workspace(store, "a run") as work:
        assert not (work.path / "graph").exists()


def test_an_error_leaves_nothing(store: Store) -> None:
    with pytest.raises(InvalidDataset), workspace(store, "a run") as work:
        work.value("row", Row, lambda: Row(1))
        raise InvalidDataset("a broken picture")
    assert left(store) == []


def test_a_full_disk_is_one_error_and_leaves_nothing(store: Store) -> None:
    def full() -> Row:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NotWritable, match="No space left"), workspace(store, "a run") as work:
        work.value("row", Row, full)
    assert left(store) == []


def test_two_runs_of_the_same_kind_do_not_mix(store: Store) -> None:
    with workspace(store, "a run") as work:
        work.value("row", Row, lambda: Row(1))
        with pytest.raises(InvalidInput, match="another process"), workspace(store, "a run"):
            pass
        assert work.value("row", Row, lambda: Row(2)) == Row(1)
