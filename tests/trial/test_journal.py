"""The journal: lines are on the disk before the trial goes on, and a cut-off line is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.errors import InvalidConfig, NotWritable
from seatrial.load.rate_search import RateTrial
from seatrial.trial.journal import JOURNAL, MadeEntry, RawEntry, TrialEntry, TrialJournal


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    journal = TrialJournal(tmp_path, "question")
    assert not journal.resumed
    trial = RateTrial(10.0, 2.0, 20, 1, False, (1, 0), (10, 10))
    journal.add(MadeEntry("v", "nano", "d", seconds=4.0, at_s=4.0))
    journal.add(TrialEntry("a", trial, 9.0))
    again = TrialJournal(tmp_path, "question")
    assert again.resumed
    assert again.spent_s == 9.0
    assert again.entries == journal.entries
    assert [one.trial for one in again.of(TrialEntry, "a")] == [trial]
    assert again.one(MadeEntry, "v") == MadeEntry("v", "nano", "d", seconds=4.0, at_s=4.0)
    assert again.one(MadeEntry, "a") is None
    assert again.one(RawEntry, "v") is None


def test_the_last_line_of_a_key_counts(tmp_path: Path) -> None:
    journal = TrialJournal(tmp_path, "question")
    journal.add(RawEntry("a", 1.0))
    journal.add(RawEntry("a", 2.0))
    found = journal.one(RawEntry, "a")
    assert found is not None
    assert found.rate_hz == 2.0


def test_a_line_that_a_kill_cut_off_is_dropped_for_good(tmp_path: Path) -> None:
    journal = TrialJournal(tmp_path, "question")
    journal.add(RawEntry("a", 1.0, at_s=3.0))
    file = tmp_path / JOURNAL
    whole = file.read_bytes()
    for cut in range(1, len(whole) - whole.index(b"\n")):
        file.write_bytes(whole[:-cut])
        again = TrialJournal(tmp_path, "question")
        assert len(again.entries) == 1
        again.add(RawEntry("b", 2.0))
        assert len(TrialJournal(tmp_path, "question").entries) == 2


def test_the_journal_of_another_question_is_refused(tmp_path: Path) -> None:
    TrialJournal(tmp_path, "question")
    with pytest.raises(InvalidConfig, match="is the journal of another trial"):
        TrialJournal(tmp_path, "other")


@pytest.mark.parametrize("line", ["no JSON\n", '{"type":"unknown"}\n', '{"type":"raw"}\n'])
def test_a_line_that_was_changed_is_named(tmp_path: Path, line: str) -> None:
    TrialJournal(tmp_path, "question")
    with (tmp_path / JOURNAL).open("a") as file:
        file.write(line)
    with pytest.raises(InvalidConfig, match="line 2: "):
        TrialJournal(tmp_path, "question")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match="cannot be written"):
        TrialJournal(tmp_path / "gone", "question")
