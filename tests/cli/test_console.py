from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from seatrial.cli import console


@pytest.fixture
def terminal(monkeypatch):
    """Standard error as a terminal; gives what was written to it."""
    written = io.StringIO()
    drawn = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(console, "err", drawn)
    return written


def test_seconds_are_drawn_when_there_is_news_and_not_by_a_thread(terminal):
    threads = threading.active_count()
    with console.progress_display() as on_progress:
        on_progress("asking the service", 0, 40, unit="s")
        on_progress("single-stream 1/2, 1 session", 10, 40, unit="s")
        on_progress("scaling 2/2, 4 sessions", 30, 40, unit="s")
        assert threading.active_count() == threads
        drawn = terminal.getvalue()
        for step, share in (
            ("asking the service", "0%"),
            ("single-stream 1/2, 1 session", "25%"),
            ("scaling 2/2, 4 sessions", "75%"),
        ):
            line = next(line for line in drawn.splitlines() if step in line)
            assert f" {share} " in line
        # One bar for all steps: its remaining time is that of the whole.
        assert "asking the service" not in drawn[drawn.index("scaling 2/2") :]


def test_a_log_gets_a_line_a_step(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=written, width=100))
    with console.progress_display() as on_progress:
        for done in (0, 5, 10):
            on_progress("scaling 1/1, 4 sessions", done, 10, unit="s")
        on_progress("requests fail (http-503)")
    assert written.getvalue().splitlines() == [
        "scaling 1/1, 4 sessions",
        "requests fail (http-503)",
    ]
