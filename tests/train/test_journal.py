"""The journal of a run survives kills, and forgets what is done again."""

from __future__ import annotations

import math
from pathlib import Path

from seatrial.train.journal import Epoch, Journal, StepRecord, read_epochs, read_steps


def step(number: int, loss: float = 1.0) -> StepRecord:
    return StepRecord(number, 1 + (number - 1) // 2, loss, 0.1, {"box": 0.5})


def epoch(number: int, ap: float) -> Epoch:
    return Epoch(number, 2 * number, 1.0, ap, ap, ap, 1.0, 1.0)


def test_rows_are_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.step(step(1))
    journal.epoch(epoch(1, 0.5))
    assert read_steps(tmp_path) == [step(1)]
    assert read_epochs(tmp_path) == [epoch(1, 0.5)]


def test_what_came_after_a_checkpoint_is_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(1, 6):
        journal.step(step(number))
    for number in (1, 2):
        journal.epoch(epoch(number, number / 10))
    again = Journal(tmp_path)
    again.begin(2)
    assert [row.step for row in read_steps(tmp_path)] == [1, 2]
    assert [row.epoch for row in read_epochs(tmp_path)] == [1]
    again.step(step(3, 7.0))
    assert read_steps(tmp_path)[-1].loss == 7.0


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    Journal(tmp_path).step(step(1))
    with (tmp_path / Journal.STEPS).open("ab") as file:
        file.write(b'{"step":2,"epo')
    assert read_steps(tmp_path) == [step(1)]


def test_only_one_process_writes_and_all_remember(tmp_path: Path) -> None:
    journal = Journal(tmp_path, write=False)
    journal.step(step(1))
    journal.begin(1)
    assert [row.step for row in journal.steps] == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_is_remembered_and_not_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.step(step(1, math.nan))
    assert math.isnan(journal.steps[-1].loss)
    assert read_steps(tmp_path) == []


def test_the_best_is_the_first_of_equals(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.best is None
    for number, ap in enumerate((0.1, 0.4, 0.4, 0.2), 1):
        journal.epoch(epoch(number, ap))
    assert journal.best is not None
    assert journal.best.epoch == 2
