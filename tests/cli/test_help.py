"""Help pages: how options and their defaults are shown."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from rich.console import Console

from seatrial.cli import main
from seatrial.cli.help import default_text, documentation


def page(*command: str) -> str:
    """The help page of a command, 200 columns wide."""
    text = io.StringIO()
    main.build().help_print(list(command), console=Console(file=text, width=200))
    return text.getvalue()


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    for name in app:
        if not name.startswith("-"):
            yield (*path, name)
            yield from commands(app[name], (*path, name))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, 2, 4, 8), "1 2 4 8"),
        (("single-stream", "scaling"), "single-stream scaling"),
        ((), ""),
        (None, ""),
        (False, ""),
        (True, "yes"),
        (30.0, "30"),
        (0.005, "0.005"),
        (0, "0"),
    ],
)
def test_a_default_is_shown_as_it_is_typed(value: Any, text: str) -> None:
    assert default_text(value) == text


def test_no_page_shows_python() -> None:
    names = list(commands(main.build()))
    assert ("data", "sample", "digits") in names
    for name in names:
        found = re.findall(r"\[default: (?:[(\['\"].*?|False|True|)\]|--empty-\S+", page(*name))
        assert found == [], name


def test_only_what_can_be_on_is_shown_with_its_negative() -> None:
    shown = {n for name in commands(main.build()) for n in re.findall(r"--no-[\w-]+", page(*name))}
    assert shown == {"--no-wide", "--no-alike", "--no-track", "--no-restart"}


def test_a_negative_that_is_not_shown_is_accepted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    with contextlib.suppress(SystemExit):
        main.build()(["models", "list", "--no-json"])
    said = capsys.readouterr()
    assert "Unknown option" not in said.out + said.err


@pytest.mark.parametrize(
    ("command", "row"),
    [
        ("bench", r"--images PATH "),
        ("bench", r"--sessions INT\.\.\. .*\[default: 1 2 4 8\]"),
        ("export", r"--imgsz SIZE "),
    ],
)
def test_options_say_what_they_take(command: str, row: str) -> None:
    assert re.search(row, page(command))


def test_the_first_page_names_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert documentation().read_text().startswith("# Documentation")
    far = Path("/") / "/".join(["a_long_folder"] * 12) / "README.md"
    monkeypatch.setattr("seatrial.cli.help.documentation", lambda: far)
    for width in (30, 80, 200):  # a path can be copied, however narrow the terminal is
        text = io.StringIO()
        main.build().help_print([], console=Console(file=text, width=width))
        assert f"Documentation:\n{far}\n\n" in text.getvalue()
        assert f"Take an object detector{' from' * (width > 30)}" in text.getvalue()


def test_a_wheel_has_the_documentation_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "seatrial"
    (package / "documentation").mkdir(parents=True)
    monkeypatch.setattr("seatrial.__file__", str(package / "__init__.py"))
    assert documentation() == package / "documentation" / "docs" / "README.md"
