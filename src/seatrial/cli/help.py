"""How help pages show options: defaults as they are typed, and no ``--no-x`` of what is off."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve
from cyclopts.help import DefaultFormatter
from cyclopts.help.specs import ColumnSpec, NameRenderer, get_default_parameter_columns
from rich.console import Console
from rich.text import Text

import seatrial
from seatrial.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment


class PipedConsole(Console):
    """A console whose reader may stop reading; with ``NO_COLOR`` nothing is styled."""

    def __init__(self, **options: Any) -> None:
        if os.environ.get("NO_COLOR"):
            options.setdefault("color_system", None)
        super().__init__(**options)
        if self.is_dumb_terminal and "width" not in options:  # rich takes it for 80 columns wide
            self.width = shutil.get_terminal_size().columns

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render; see rich. What a terminal would obey is shown, unless it is rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    def on_broken_pipe(self) -> None:
        """Raise the error for ``main``: rich would end the command with exit code 1."""
        raise BrokenPipeError


def default_text(value: Any) -> str:
    """A default as it would be typed: ``1 2 4 8``; empty for off, nothing and no text."""
    if isinstance(value, tuple | list):
        return " ".join(map(default_text, value))
    if isinstance(value, bool) or value is None:
        return "yes" if value else ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def documentation() -> Path:
    """Path of the documentation's index: in the wheel, or in the checkout that is installed."""
    package = Path(seatrial.__file__).resolve().parent
    wheel, checkout = package / "documentation", package.parents[1]
    return (wheel if wheel.is_dir() else checkout) / "docs" / "README.md"


class HelpFormatter(DefaultFormatter):
    """Leaves out empty defaults, and the negative of a flag that is off; the latter is accepted."""

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Print what a command does; in plain text, a word longer than a line stays whole."""
        text = getattr(description, "primary_renderable", None)
        if not isinstance(text, Text):
            super().render_description(console, options, description)
            return
        for line in [*text.split(allow_blank=True), Text()]:
            longest = max(map(len, line.plain.split()), default=0)
            console.print(line, soft_wrap=longest > options.max_width)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one panel."""
        panel = evolve(panel, entries=list(map(_short, panel.entries)))
        if panel.format == "parameter":
            DefaultFormatter(column_specs=_parameter_columns)(console, options, panel)
        else:
            super().__call__(console, options, panel)


def _parameter_columns(
    console: Console, options: ConsoleOptions, entries: list[HelpEntry]
) -> tuple[ColumnSpec, ...]:
    """The parser's columns, with room for the longest name: it would be broken otherwise."""
    longest = max((len(name) for one in entries for name in one.all_options), default=0)
    return tuple(
        evolve(column, renderer=NameRenderer(max_width=longest), max_width=longest)
        if isinstance(column.renderer, NameRenderer) and longest > (column.max_width or longest)
        else column
        for column in get_default_parameter_columns(console, options, entries)
    )


def _short(entry: HelpEntry) -> HelpEntry:
    if entry.default:
        return entry
    negatives = () if entry.type is bool else entry.negative_names
    return evolve(entry, default=None, negative_names=negatives)
