"""What all commands share: text as it is, progress on terminals and in logs, JSON."""

from __future__ import annotations

import io
import json
import threading

import pytest
from rich.table import Table

from seatrial.cli import console


def text_of(width: int = 80, terminal: bool = False) -> tuple[console._Console, io.StringIO]:
    file = io.StringIO()
    return console._Console(
        file=file, width=width, force_terminal=terminal, color_system=None
    ), file


def test_text_is_printed_as_it_is() -> None:
    out, file = text_of()
    names = "[red]a.jpg[/red] :car: [/] 12 'x'"
    out.print(names)
    table = Table("[b]label[/b]")
    table.add_row(names)
    out.print(table)
    assert file.getvalue().startswith(names + "\n")
    assert file.getvalue().count(names) == 2
    assert "[b]label[/b]" in file.getvalue()


def test_a_terminal_obeys_no_name() -> None:
    """Names in models, labels and of files may hold what clears a screen or sets its title."""
    name = "cat\x1b]0;title\x07\x1b[2J\x9b2J\x7f"
    table = Table("class", title=name)
    table.add_row(name)
    stream = io.StringIO()
    terminal = console._Console(file=stream, force_terminal=True, width=60)
    terminal.print(name, style="bold red")
    terminal.print(table)
    said = stream.getvalue()
    assert said.count("cat\N{SYMBOL FOR ESCAPE}]0;title") == 3
    assert not {"\x07", "\x7f", "\x9b"} & {*said}
    assert "\x1b]0" not in said
    assert "\x1b[2J" not in said
    assert "\x1b[1;31m" in said  # rich's own


def test_a_pipe_that_is_closed_is_an_error_for_main() -> None:
    out, _ = text_of()
    with pytest.raises(BrokenPipeError):
        out.on_broken_pipe()


def test_a_message_is_one_line_and_counts_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    err, file = text_of()
    monkeypatch.setattr(console, "err", err)
    console.progress("opening [yolo11n]")
    console.progress("checking", 3, 16)
    assert file.getvalue() == "opening [yolo11n]\n"


def test_a_log_gets_a_line_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    err, file = text_of()
    monkeypatch.setattr(console, "err", err)
    with console.progress_display() as on_progress:
        on_progress("opening")
        for done in range(1, 4):
            on_progress("checking", done, 3)
        for done in (10, 20):
            on_progress("file", done, 20, unit="B")
    assert file.getvalue().splitlines() == ["opening", "checking", "file"]


@pytest.mark.parametrize(("unit", "shown"), [("", "2/3"), ("B", "2/3 bytes"), ("s", "67%")])
def test_a_terminal_gets_bars_that_are_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, unit: str, shown: str
) -> None:
    err, file = text_of(terminal=True)
    monkeypatch.setattr(console, "err", err)
    with console.progress_display() as on_progress:
        on_progress("a step [of it]", 1, 3, unit=unit)
        on_progress("a step [of it]", 2, 3, unit=unit)
    assert "a step [of it]" in file.getvalue()
    assert shown in file.getvalue()
    assert file.getvalue().endswith("\x1b[2K")  # the last line is erased


def test_seconds_are_drawn_when_there_is_news_and_not_by_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    err, terminal = text_of(width=100, terminal=True)
    monkeypatch.setattr(console, "err", err)
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


def test_json_is_what_a_program_reads(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console.print_json({"name": "Fußgänger", "box": [1.5, 2]})
    written = capfdbinary.readouterr().out
    assert json.loads(written) == {"name": "Fußgänger", "box": [1.5, 2]}
    assert written.endswith(b"}\n")
