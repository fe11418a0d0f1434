"""The page of a trial: verdict, candidates, charts; it loads nothing."""

from __future__ import annotations

import re
from pathlib import Path

from seatrial.trial.trial_page import to_html, write_trial
from seatrial.trial.trial_report import TRIAL_PAGE
from trial_reports import simulated_report


def test_the_page_says_what_is_recommended_and_why_the_others_are_not(tmp_path: Path) -> None:
    report = simulated_report(tmp_path)
    page = to_html(report)
    assert "PASS: &lt;street&gt;." in page
    assert "<street>" not in page
    for row in report.rows:
        assert row.name in page
    assert "its accuracy fails: " in page
    assert "precision = &#34;bf16&#34;" in page
    for title in ("AP", "p95 latency at the wanted rate, ms"):
        assert f"Capacity over {title}" in page
    assert page.count(">chosen</text>") == 3
    assert page.count("<tr") - 1 == len(report.rows)
    assert "<script" not in page
    assert not re.search(r'(src|href)="https?:', page)


def test_without_a_choice_the_page_says_what_would_have_to_give(tmp_path: Path) -> None:
    report = simulated_report(tmp_path, least_ap=0.9)
    write_trial(report, tmp_path)
    page = (tmp_path / TRIAL_PAGE).read_text()
    assert "FAIL: &lt;street&gt;." in page
    assert "AP 0.4400 instead of 0.9" in page
    assert "Recommended deployment" not in page
    assert "Capacity over" not in page
