"""trial.json: written, read back, and refused where it is another file."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.errors import InvalidConfig
from seatrial.trial.trial_page import write_trial
from seatrial.trial.trial_report import TRIAL_JSON, TRIAL_SCHEMA, read_trial_report
from trial_reports import simulated_report


def test_a_report_is_read_back(tmp_path: Path) -> None:
    report = simulated_report(tmp_path)
    write_trial(report, tmp_path)
    assert read_trial_report(tmp_path / TRIAL_JSON) == report
    assert report.schema == TRIAL_SCHEMA


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InvalidConfig, match="is not a trial"):
        read_trial_report(tmp_path / "other.json")
