"""What a process of a service reads when it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.errors import InvalidConfig
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
