"""What a process of a service reads when it starts."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from seatrial.errors import InvalidConfig, NotWritable
from seatrial.serve.served_state import STATE, SecondState, ServedState


def test_it_is_read_as_it_was_written_and_there_is_none_at_first(tmp_path: Path) -> None:
    assert ServedState.read(tmp_path) is None
    second = SecondState("/b", "2" * 64, "b", 0.05, shadow=True)
    state = ServedState("/a", "1" * 64, "a", "first", second)
    state.write(tmp_path)
    assert ServedState.read(tmp_path) == state
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text("{")
    with pytest.raises(InvalidConfig, match=r"served\.json cannot be read"):
        ServedState.read(tmp_path)


def test_one_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ServedState("/a", "1" * 64, "a", "first")
    before.write(tmp_path)

    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(NotWritable, match="No space left"):
            ServedState("/b", "2" * 64, "b", "first").write(tmp_path)
    assert ServedState.read(tmp_path) == before
