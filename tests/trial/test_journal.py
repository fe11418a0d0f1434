"""The journal: lines are on the disk before the trial goes on, and a cut-off line is dropped."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from seatrial.errors import InvalidConfig, NotWritable
from seatrial.load.rate_search import RateTrial
from seatrial.trial.journal import JOURNAL, Begun, Entry, MadeEntry, RawEntry, TrialEntry
from seatrial.trial.journal import TrialJournal as Journal


def written(folder: Path, *entries: Entry, key: str = "question") -> bytes:
    """Open a journal, write lines to it, and close it; gives what is on the disk."""
    with Journal(folder, key) as journal:
        for entry in entries:
            journal.add(entry)
    return (folder / JOURNAL).read_bytes()


def entries_of(folder: Path, parts: Mapping[str, str] | None = None) -> list[Entry]:
    with Journal(folder, "question", parts) as journal:
        return journal.entries


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    trial = RateTrial(10.0, 2.0, 20, 1, False, (1, 0), (10, 10))
    with Journal(tmp_path, "question") as journal:
        assert not journal.resumed
        journal.add(MadeEntry("v", "nano", "d", seconds=4.0, at_s=4.0))
        journal.add(TrialEntry("a", trial, 9.0))
    with Journal(tmp_path, "question") as again:
        assert again.resumed
        assert again.spent_s == 9.0
        assert again.entries == journal.entries
        assert [one.trial for one in again.of(TrialEntry, "a")] == [trial]
        assert again.one(MadeEntry, "v") == MadeEntry("v", "nano", "d", seconds=4.0, at_s=4.0)
        assert again.one(MadeEntry, "a") is None
        assert again.one(RawEntry, "v") is None


def test_the_last_line_of_a_key_counts(tmp_path: Path) -> None:
    with Journal(tmp_path, "question") as journal:
        journal.add(RawEntry("a", 1.0))
        journal.add(RawEntry("a", 2.0))
        found = journal.one(RawEntry, "a")
    assert found is not None
    assert found.rate_hz == 2.0


def test_a_line_that_a_kill_cut_off_is_dropped_for_good(tmp_path: Path) -> None:
    """Of the first line too: what is written after it is whole."""
    whole = written(tmp_path, RawEntry("a", 1.0, at_s=3.0))
    file = tmp_path / JOURNAL
    for cut in range(1, len(whole) + 1):
        file.write_bytes(whole[:-cut])
        after = [Begun("question"), RawEntry("b", 2.0)]
        written(tmp_path, after[1])
        assert entries_of(tmp_path) == after


def test_zeros_in_the_place_of_the_first_line_are_dropped(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"type":"b' + 60 * b"\0")
    assert entries_of(tmp_path) == [Begun("question")]


def test_a_file_that_is_no_journal_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'{"type":"other","key":1}')
    with pytest.raises(InvalidConfig, match="was not written by a trial"):
        Journal(tmp_path, "question")
    assert (tmp_path / JOURNAL).read_bytes() == b'{"type":"other","key":1}'


def test_the_journal_of_another_question_is_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(InvalidConfig, match="is the journal of another trial"):
        Journal(tmp_path, "other")
    # It is not locked by the refused one.
    assert entries_of(tmp_path) == [Begun("question")]


def test_what_differs_from_the_other_question_is_named(tmp_path: Path) -> None:
    with Journal(tmp_path, "question", {"contract": "1", "machine": "2", "labels": "3"}):
        pass
    with pytest.raises(InvalidConfig, match=r"another trial; what differs: machine, labels$"):
        Journal(tmp_path, "other", {"contract": "1", "machine": "9", "labels": "8"})


@pytest.mark.parametrize("line", ["no JSON\n", '{"type":"unknown"}\n', '{"type":"raw"}\n'])
def test_a_line_that_was_changed_is_named(tmp_path: Path, line: str) -> None:
    written(tmp_path)
    with (tmp_path / JOURNAL).open("a") as file:
        file.write(line)
    with pytest.raises(InvalidConfig, match="line 2: "):
        Journal(tmp_path, "question")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match="cannot be written"):
        Journal(tmp_path / "gone", "question")


def test_a_second_trial_in_the_folder_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with Journal(tmp_path, "question") as first:
        first.add(RawEntry("a", 1.0))
        with pytest.raises(InvalidConfig, match="another trial is running in "):
            Journal(tmp_path, "question")
        first.add(RawEntry("b", 2.0))
    assert entries_of(tmp_path) == [Begun("question"), RawEntry("a", 1.0), RawEntry("b", 2.0)]


def test_a_process_that_is_killed_holds_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from seatrial.trial.journal import TrialJournal;"
        "kept = TrialJournal(Path(sys.argv[1]), 'question'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == -9
    assert entries_of(tmp_path) == [Begun("question")]


def test_a_disk_that_is_full_for_a_while_tears_no_line(tmp_path: Path) -> None:
    """What follows the line that could not be written begins a line of its own."""
    before, limits = (
        written(tmp_path, RawEntry("a", 1.0)),
        resource.getrlimit(resource.RLIMIT_FSIZE),
    )
    with Journal(tmp_path, "question") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 9, limits[1]))
        try:
            with pytest.raises(NotWritable, match="cannot be written"):
                journal.add(RawEntry("b", 2.0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / JOURNAL).read_bytes() == before
        journal.add(RawEntry("c", 3.0))
    assert entries_of(tmp_path) == [Begun("question"), RawEntry("a", 1.0), RawEntry("c", 3.0)]
    assert os.path.getsize(tmp_path / JOURNAL) > len(before)
